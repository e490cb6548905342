from __future__ import annotations

from pathlib import Path

import network_checks as checks
import pytest
import torch
from filling import fill_, image
from hypothesis import given, settings
from hypothesis import strategies as st
from several_outputs import interop_differences

from udc_robust.errors import UserError
from udc_robust.restorers.fsi import FourierUnit, UDCSFreqnet, real_signal, real_spectrum
from udc_robust.restorers.weight_norm_names import published_state_dict

TINY = {"n_feat_high": 8, "n_feat_low": 4, "num_blk": 1}


class PublishedFSI(UDCSFreqnet):
    """FSI that speaks the names of the published checkpoints: vectors are filled by those names."""

    def state_dict(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        return published_state_dict(super().state_dict(*args, **kwargs))


def test_names_and_shapes_are_official(shared: Path) -> None:
    checks.check_manifest(shared, "fsi", PublishedFSI)


def test_outputs_are_official(shared: Path) -> None:
    differences = interop_differences(
        shared, "fsi", PublishedFSI, lambda net, x: net.double().forward_parts(x.double())
    )
    assert max(differences) < 2e-5


def test_output_is_the_stored_one() -> None:
    assert checks.vector_difference("fsi", PublishedFSI(**TINY)) < 2e-5


def test_forward_is_the_last_part() -> None:
    net, x = fill_(UDCSFreqnet(**TINY)), image((1, 3, 32, 16))
    with torch.no_grad():
        high, low, restored = net.forward_parts(x)
        assert torch.equal(net(x), restored)
    assert high.shape == low.shape == x.shape
    assert (high - restored).abs().max() > 1e-3


def test_gradient() -> None:
    checks.check_gradient(UDCSFreqnet(**TINY), (2, 3, 16, 32))


def test_batch_equals_singles() -> None:
    checks.check_batch(UDCSFreqnet(**TINY), (3, 32, 16))


def test_hub_round_trip(tmp_path: Path) -> None:
    checks.check_hub_round_trip(UDCSFreqnet(**TINY), tmp_path, (1, 3, 16, 16))


@settings(deadline=None, max_examples=30)
@given(height=st.integers(1, 9), width=st.integers(1, 9), dim=st.sampled_from([-1, -2]))
def test_signal_inverts_spectrum(height: int, width: int, dim: int) -> None:
    x = image((2, 3, height, width)).double()
    torch.testing.assert_close(real_signal(real_spectrum(x, dim), x.shape[dim], dim), x)


def test_parts_without_meaning_in_the_spectrum_are_ignored() -> None:
    """The imaginary parts at zero and at the highest frequency of an even length, and only those."""
    spectrum = image((1, 2, 1, 5))
    signal = real_signal(spectrum, 8, -1)
    changes = []
    for index in range(5):
        other = spectrum.clone()
        other[0, 1, 0, index] += 1
        changes.append(float((real_signal(other, 8, -1) - signal).abs().max()))
    assert changes[0] == changes[4] == 0 and min(changes[1:4]) > 0.1


def test_half_precision_passes_through_float32() -> None:
    unit = fill_(FourierUnit(4))
    x = image((1, 4, 8, 8))
    with torch.no_grad():
        reference = unit(x)
        with torch.autocast("cpu", torch.bfloat16):
            automatic = unit(x)
        half = unit.bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    for y in (automatic, half):
        torch.testing.assert_close(y.float(), reference, rtol=0.1, atol=0.1)


def test_rows_and_columns() -> None:
    """The first half of the channels mixes along rows only, the second along columns only."""
    unit = fill_(FourierUnit(4))
    x = image((1, 4, 6, 6))
    other = x.clone()
    other[0, :, 2, 3] += 1
    with torch.no_grad():
        change = (unit(other) - unit(x)).abs()[0] > 1e-6
    assert change[:2].any(0).nonzero()[:, 0].unique().tolist() == [2]
    assert change[2:].any(0).nonzero()[:, 1].unique().tolist() == [3]
    assert change[:2, 2].any(0).sum() > 3 and change[2:, :, 3].any(0).sum() > 3


@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (1, 3, 8, 16), (1, 3, 24, 16), (3, 16, 16)])
def test_wrong_input_is_a_user_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="UDCSFreqnet"):
        UDCSFreqnet(**TINY)(torch.rand(shape))

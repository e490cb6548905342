from __future__ import annotations

from pathlib import Path

import network_checks as checks
import pytest
import torch
from filling import fill_, image
from several_outputs import interop_differences
from torch import nn

from udc_robust.errors import UserError
from udc_robust.restorers.ecfnet import GatedFusion, MIMOUNet_complete

TINY = {"base_channel": 2, "num_res": 1}


@pytest.mark.parametrize("name", ["ecfnet", "ecfnet_small"])
def test_names_and_shapes_are_official(shared: Path, name: str) -> None:
    checks.check_manifest(shared, name, MIMOUNet_complete)


def test_outputs_are_official(shared: Path) -> None:
    differences = interop_differences(shared, "ecfnet_small", MIMOUNet_complete, lambda net, x: net.forward_scales(x))
    assert len(differences) == 4 and max(differences) < 2e-5


def test_output_is_the_stored_one() -> None:
    assert checks.vector_difference("ecfnet", MIMOUNet_complete(**TINY)) < 2e-5


def test_forward_is_the_finest_scale() -> None:
    net, x = fill_(MIMOUNet_complete(**TINY)), image((1, 3, 16, 24))
    with torch.no_grad():
        scales = net.forward_scales(x)
        assert torch.equal(net(x), scales[-1])
    assert [tuple(y.shape[2:]) for y in scales] == [(2, 3), (4, 6), (8, 12), (16, 24)]


def test_gradient() -> None:
    checks.check_gradient(MIMOUNet_complete(**TINY), (2, 3, 8, 16))


def test_batch_equals_singles() -> None:
    checks.check_batch(MIMOUNet_complete(**TINY), (3, 16, 8))


def test_hub_round_trip(tmp_path: Path) -> None:
    checks.check_hub_round_trip(MIMOUNet_complete(**TINY), tmp_path, (1, 3, 8, 8))


def test_activations_are_the_exact_gelu() -> None:
    """Parity vectors are too coarse to tell the tanh form, so it is asked here."""
    kinds = [m.approximate for m in MIMOUNet_complete(**TINY).modules() if isinstance(m, nn.GELU)]
    assert len(kinds) > 40 and set(kinds) == {"none"}


def test_second_gate_acts_on_the_gated_half() -> None:
    fusion = fill_(GatedFusion(2, 3))
    x = image((1, 2, 4, 4))
    with torch.no_grad():
        p, q = fusion.dwconv(fusion.project_in(x)).chunk(2, 1)
        expected = torch.cat((p.sigmoid() * q, q.sigmoid() * p.sigmoid() * q), 1)
        torch.testing.assert_close(fusion(x), fusion.project_out(expected))


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 3, 4, 8), (1, 3, 12, 8), (3, 8, 8)])
def test_wrong_input_is_a_user_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="MIMOUNet_complete"):
        MIMOUNet_complete(**TINY)(torch.rand(shape))

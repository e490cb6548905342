from __future__ import annotations

from pathlib import Path

import network_checks as checks
import pytest
import torch
import torch.nn.functional as F
from filling import fill_, image
from several_outputs import interop_differences

from udc_robust.errors import UserError
from udc_robust.restorers.bnudc import BNUDCnet
from udc_robust.restorers.weight_norm_names import published_state_dict

TINY = {"n_feat_high": 4, "n_feat_low": 4, "scale_feats": 2, "num_blk": 1}


class PublishedBNUDC(BNUDCnet):
    """BNUDC that speaks the names of the published checkpoints: vectors are filled by those names."""

    def state_dict(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        return published_state_dict(super().state_dict(*args, **kwargs))


def test_names_and_shapes_are_official(shared: Path) -> None:
    checks.check_manifest(shared, "bnudc", PublishedBNUDC)


def test_outputs_are_official(shared: Path) -> None:
    differences = interop_differences(shared, "bnudc", PublishedBNUDC, lambda net, x: net.forward_parts(x))
    assert max(differences) < 2e-5  # torch 2.6 is 1.001e-5 away


def test_output_is_the_stored_one() -> None:
    assert checks.vector_difference("bnudc", PublishedBNUDC(**TINY)) < 1e-5


def test_forward_is_the_last_part() -> None:
    net, x = fill_(BNUDCnet(**TINY)), image((1, 3, 32, 16))
    with torch.no_grad():
        high, low, restored = net.forward_parts(x)
        assert torch.equal(net(x), restored)
    assert high.shape == low.shape == x.shape
    assert (high - restored).abs().max() > 1e-3


def test_gradient() -> None:
    checks.check_gradient(BNUDCnet(**TINY), (2, 3, 16, 32))


def test_batch_equals_singles() -> None:
    checks.check_batch(BNUDCnet(**TINY), (3, 32, 16))


def test_hub_round_trip(tmp_path: Path) -> None:
    checks.check_hub_round_trip(BNUDCnet(**TINY), tmp_path, (1, 3, 16, 16))


def test_fresh_box_filter_is_a_mean_that_keeps_constants() -> None:
    net = BNUDCnet(**TINY)
    seen: list[torch.Tensor] = []
    net.shallow_sub.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        net(torch.full((1, 3, 32, 32), 0.3))
        net(image((1, 3, 64, 64)))
    torch.testing.assert_close(seen[0], torch.full((1, 3, 8, 8), 0.3))
    small = F.interpolate(image((1, 3, 64, 64)), size=(16, 16), mode="bilinear", align_corners=True)
    torch.testing.assert_close(seen[1][:, :, 5, 7], small[:, :, 4:7, 6:9].mean((2, 3)))


@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (1, 3, 8, 16), (1, 3, 24, 16), (3, 16, 16)])
def test_wrong_input_is_a_user_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="BNUDCnet"):
        BNUDCnet(**TINY)(torch.rand(shape))

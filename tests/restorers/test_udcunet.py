from __future__ import annotations

from pathlib import Path

import network_checks as checks
import pytest
import torch
import torch.nn.functional as F
from filling import fill_, image

from udc_robust.errors import UserError
from udc_robust.restorers.dynamic_conv import dynamic_conv
from udc_robust.restorers.udcunet import UDCUNet

TINY = {"nf": 4, "depths": [1, 1, 1, 2, 1, 1, 1]}


def test_names_and_shapes_are_official(shared: Path) -> None:
    checks.check_manifest(shared, "udcunet", UDCUNet)


def test_outputs_are_official(shared: Path) -> None:
    assert checks.interop_difference(shared, "udcunet", UDCUNet) < 1e-5


def test_outputs_are_the_stored_ones() -> None:
    assert checks.vector_difference("udcunet", UDCUNet(**TINY)) < 1e-5


def test_gradient() -> None:
    checks.check_gradient(UDCUNet(**TINY), (2, 3, 8, 16))


def test_batch_equals_singles() -> None:
    checks.check_batch(UDCUNet(**TINY), (3, 16, 24))


def test_hub_round_trip(tmp_path: Path) -> None:
    checks.check_hub_round_trip(UDCUNet(**TINY, DyK_size=5), tmp_path, (1, 3, 16, 8))


def test_code_is_the_rounded_one_and_not_in_the_state_dict() -> None:
    """Outputs cannot tell the rounded code from the exact one, so the constant itself is checked."""
    net = UDCUNet(**TINY)
    expected = torch.tensor([-0.0020, 0.0352, -2.0215e-05, 0.0060, 9.4328e-05])
    assert torch.equal(net.psf_code.flatten(), expected)
    assert "psf_code" not in net.state_dict()


@torch.no_grad()
def test_kernels_of_a_scale_come_from_its_own_side_network() -> None:
    net, x = fill_(UDCUNet(**TINY)), image((1, 4, 16, 24))
    for level in range(4):
        feature = image((1, 4 * 2**level, 16 // 2**level, 24 // 2**level), seed=1)
        kernels = net.get_submodule(f"KNet{level}")(x)
        torch.testing.assert_close(net._filtered(feature, x, level), dynamic_conv(feature, kernels, 3))


@torch.no_grad()
def test_output_is_not_negative_and_follows_bright_light() -> None:
    net = fill_(UDCUNet(**TINY))
    x = 500 * image((1, 3, 16, 16))
    y = net(x)
    assert y.min() >= 0 and y.max() > 10
    assert torch.equal(y, F.relu(y))


@pytest.mark.parametrize("shape", [(1, 3, 4, 8), (1, 3, 12, 16), (1, 4, 16, 16), (3, 16, 16)])
def test_wrong_input_is_a_user_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="UDCUNet needs"):
        UDCUNet(**TINY)(torch.rand(shape))


@pytest.mark.parametrize(
    ("options", "word"), [({"depths": [1]}, "depths"), ({"out_nc": 1}, "out_nc"), ({"DyK_size": 2}, "odd")]
)
def test_wrong_options_are_user_errors(options: dict, word: str) -> None:
    with pytest.raises(UserError, match=word):
        UDCUNet(**options)

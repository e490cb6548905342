from __future__ import annotations

from pathlib import Path
from typing import Any

import network_checks as checks
import pytest
import torch
import torch.nn.functional as F
from filling import fill_, image
from torch import nn

from udc_robust.errors import UserError
from udc_robust.restorers.discnet import CENTRE_PSF_CODE, DISCNet

TINY: dict[str, Any] = {"nf": 4, "kpn_sz": 3, "kernel_cond": "img-psf", "multi_scale": True}
CODE = torch.tensor(CENTRE_PSF_CODE).view(1, 5, 1, 1)


@pytest.mark.parametrize("name", ["discnet", "discnet_img"])
def test_names_and_shapes_are_official(shared: Path, name: str) -> None:
    checks.check_manifest(shared, name, DISCNet)


@pytest.mark.parametrize("name", ["discnet", "discnet_img"])
def test_outputs_are_official(shared: Path, name: str) -> None:
    assert checks.interop_difference(shared, name, DISCNet) < 1e-5


def test_published_code_is_the_official_one(shared: Path) -> None:
    def with_code(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return net(x, CODE.expand(len(x), -1, -1, -1))

    assert checks.interop_difference(shared, "discnet", DISCNet, with_code) < 1e-5


@pytest.mark.parametrize(
    ("options", "parameters", "entries"),
    [
        ({"kernel_cond": "img", "multi_scale": True}, 3_803_177, 124),
        ({"kernel_cond": "psf", "multi_scale": True}, 3_803_753, 124),
        ({"kernel_cond": "img-psf"}, 3_443_333, 96),
        ({}, 1_422_883, 52),
    ],
)
def test_counts_of_the_variants(options: dict[str, Any], parameters: int, entries: int) -> None:
    with torch.device("meta"):
        net = DISCNet(**options)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert len(net.state_dict()) == entries


def test_outputs_are_the_stored_ones() -> None:
    assert checks.vector_difference("discnet", DISCNet(**TINY)) < 1e-5


def test_psf_only_outputs_are_the_stored_ones() -> None:
    net = DISCNet(nf=4, kpn_sz=5, kernel_cond="psf", psf_nc=2, psf_code=[0.5, -1.0], res_scale=0.5)
    assert checks.vector_difference("discnet_psf", net) < 1e-5


@pytest.mark.parametrize("options", [TINY, {"nf": 4}, {"nf": 4, "kernel_cond": "psf"}])
def test_gradient(options: dict[str, Any]) -> None:
    checks.check_gradient(DISCNet(**options), (2, 3, 6, 9))


def test_batch_equals_singles() -> None:
    checks.check_batch(DISCNet(**TINY), (3, 10, 13))


def test_hub_round_trip(tmp_path: Path) -> None:
    checks.check_hub_round_trip(DISCNet(**TINY, psf_code=[0.1, 0.2, 0.3, 0.4, 0.5]), tmp_path, (1, 3, 9, 9))


@torch.no_grad()
def test_code_reaches_the_output_and_broadcasts() -> None:
    net, x = fill_(DISCNet(**TINY)), image((2, 3, 8, 8))
    one, other = torch.full((1, 5, 1, 1), 0.5), torch.full((1, 5, 1, 1), -0.5)
    assert (net(x, one) - net(x, other)).abs().max() > 1e-2
    torch.testing.assert_close(net(x, torch.cat([one, other])), torch.cat([net(x[:1], one), net(x[1:], other)]))
    assert torch.equal(net(x), net(x, CODE))


@torch.no_grad()
def test_padding_replicates_in_both_modes() -> None:
    net, x = fill_(DISCNet(**TINY)), image((1, 3, 9, 14))
    padded = net(F.pad(x, (0, 2, 0, 3), mode="replicate"))
    assert torch.equal(net(x), padded[..., :9, :14])
    assert torch.equal(net.train()(x), padded[..., :9, :14])


def test_initial_residual_blocks_are_small() -> None:
    net = DISCNet(**{**TINY, "nf": 32})
    deviation = net.conv_32.conv1.weight.std()
    torch.testing.assert_close(deviation, torch.tensor(0.1 * (2 / (9 * 128)) ** 0.5), rtol=0.05, atol=0)
    assert net.conv_32.conv1.bias.abs().max() == 0


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"multi_scale": True}, "multi_scale"),
        ({"act_type": None}, "act_type"),
        ({"kernel_cond": "image"}, "kernel_cond"),
        ({"kpn_sz": 4, "kernel_cond": "img"}, "kpn_sz"),
        ({"out_nc": 1}, "out_nc"),
        ({"kernel_cond": "psf", "psf_nc": 4}, "psf_code"),
    ],
)
def test_wrong_options_are_user_errors(options: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word):
        DISCNet(**options)


def test_wrong_inputs_are_user_errors() -> None:
    net = DISCNet(**TINY)
    with pytest.raises(UserError, match="B, 3, H, W"):
        net(torch.rand(1, 4, 8, 8))
    with pytest.raises(UserError, match="psf must have shape"):
        net(torch.rand(2, 3, 8, 8), torch.rand(3, 5, 1, 1))

from __future__ import annotations

from pathlib import Path

import network_checks as checks
import pytest
import torch
from filling import fill_, image

from udc_robust.errors import UserError
from udc_robust.restorers.restormer import BiasFreeChannelNorm, ChannelAttention, ChannelNorm, Restormer

TINY = {"dim": 4, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1, "heads": [1, 2, 2, 4]}
VARIANTS = {
    "restormer": TINY,
    "restormer_biasfree": {**TINY, "LayerNorm_type": "BiasFree"},
    "restormer_dual_pixel": {**TINY, "inp_channels": 6, "dual_pixel_task": True, "bias": True},
}


@pytest.fixture(params=list(VARIANTS))
def variant(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("name", ["restormer", "restormer_small", "restormer_biasfree"])
def test_names_and_shapes_are_official(shared: Path, name: str) -> None:
    checks.check_manifest(shared, name, Restormer)


@pytest.mark.parametrize("name", ["restormer_small", "restormer_biasfree"])
def test_outputs_are_official(shared: Path, name: str) -> None:
    assert checks.interop_difference(shared, name, Restormer) < 1e-5


def test_sizes_of_the_published_variants() -> None:
    def entries_and_parameters(**options: object) -> tuple[int, int]:
        with torch.device("meta"):
            net = Restormer(**options)  # type: ignore[arg-type]
        return len(net.state_dict()), sum(p.numel() for p in net.parameters())

    assert entries_and_parameters() == (494, 26_126_644)
    assert entries_and_parameters(LayerNorm_type="BiasFree") == (406, 26_111_668)
    assert entries_and_parameters(inp_channels=6, dual_pixel_task=True) == (495, 26_132_548)


def test_output_is_the_stored_one(variant: str) -> None:
    assert checks.vector_difference(variant, Restormer(**VARIANTS[variant])) < 1e-5


def test_gradient(variant: str) -> None:
    options = VARIANTS[variant]
    checks.check_gradient(Restormer(**options), (2, options.get("inp_channels", 3), 8, 16))


def test_batch_equals_singles(variant: str) -> None:
    options = VARIANTS[variant]
    checks.check_batch(Restormer(**options), (options.get("inp_channels", 3), 16, 8))


def test_hub_round_trip(variant: str, tmp_path: Path) -> None:
    options = VARIANTS[variant]
    checks.check_hub_round_trip(Restormer(**options), tmp_path, (1, options.get("inp_channels", 3), 8, 8))


def test_norms() -> None:
    x = image((2, 3, 3, 5))
    deviation = (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(ChannelNorm(5)(x), (x - x.mean(-1, keepdim=True)) / deviation)
    torch.testing.assert_close(BiasFreeChannelNorm(5)(x), x / deviation)


def test_heads_are_contiguous_channels() -> None:
    """With two heads, a change of the second half of the values leaves the first half of the result alone."""
    attention = fill_(ChannelAttention(4, 2, bias=False))
    with torch.no_grad():
        attention.project_out.weight.copy_(torch.eye(4).view(4, 4, 1, 1))
        x = image((1, 4, 5, 5))
        before = attention(x)
        attention.qkv_dwconv.weight[10:] += 0.5
        change = (attention(x) - before).abs().amax((0, 2, 3))
    assert change[:2].max() == 0 and change[2:].min() > 1e-3


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 3, 4, 8), (1, 3, 12, 8), (3, 8, 8)])
def test_wrong_input_is_a_user_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="Restormer"):
        Restormer(**TINY)(torch.rand(shape))


def test_wrong_options_are_user_errors() -> None:
    with pytest.raises(UserError, match="LayerNorm_type"):
        Restormer(LayerNorm_type="withbias")
    with pytest.raises(UserError, match="dual_pixel_task"):
        Restormer(inp_channels=6)

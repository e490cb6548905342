"""A restorer as it is deployed: averaged over flips and quarter turns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from udc_robust.config_file import check_config
from udc_robust.errors import UserError
from udc_robust.metrics import mse
from udc_robust.restorers.restorer import Restorer, over_flips
from udc_robust.restorers.zoo import RestorerSpec, load_restorer
from udc_robust.tasks.restoration_schema import RestorationConfig, RestorerConfig


class Shift(nn.Module):
    """Moves an image one px to the right: it sees which way is up."""

    def forward(self, x: Tensor) -> Tensor:
        return x.roll(1, -1) ** 2


def test_the_mean_over_flips_puts_every_answer_back() -> None:
    x = torch.rand(2, 3, 6, 9)
    assert torch.allclose(over_flips(lambda image: image * 2, x), x * 2)
    # Each of the four ways to move is met twice.
    ways = [x.roll(1, -1), x.roll(-1, -1), x.roll(1, -2), x.roll(-1, -2)]
    assert torch.allclose(over_flips(lambda image: image.roll(1, -1), x), torch.stack(ways).mean(0))
    seen: list[Tensor] = []
    half = over_flips(lambda image: seen.append(image) or image.roll(1, -1), x, 2)
    assert torch.allclose(half, (ways[0] + ways[1]) / 2)
    assert len(seen) == 2 and torch.equal(seen[1], x.flip(-2, -1))  # at twice the cost, not eight times


def test_the_mean_turns_with_the_image_and_is_no_worse_than_its_parts_are_on_average() -> None:
    x, truth = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    restorer = Restorer(
        "r", Shift(), domain="srgb", network_domain=None, trained=True, origin="here", flips=True
    ).eval()  # fmt: skip
    turned = restorer(torch.rot90(x, 1, (-2, -1)))
    assert torch.allclose(turned, torch.rot90(restorer(x), 1, (-2, -1)), atol=1e-6)
    parts = [
        torch.rot90(Shift()(torch.rot90(x.flip(mirror), turns, (-2, -1))), -turns, (-2, -1)).flip(mirror)
        for turns in range(4)
        for mirror in ((), (-1,))
    ]
    assert (mse(restorer(x), truth) <= torch.stack([mse(part, truth) for part in parts]).mean(0)).all()


@pytest.mark.parametrize("flips", [True, 2])
def test_the_way_from_a_config_to_the_restorer(flips) -> None:
    block = RestorerConfig(name="nafnet_mini", flips=flips).model_dump()
    restorer = load_restorer(RestorerSpec(**block), "tonemapped")
    x = torch.rand(1, 3, 16, 16)
    assert torch.allclose(restorer(x), over_flips(lambda image: restorer._padded(image), x, flips).clamp(0, 1))
    plain = load_restorer(RestorerSpec("nafnet_mini"), "tonemapped")
    assert not torch.allclose(restorer(x), plain(x))


def test_a_number_of_flips_that_there_is_not_is_told() -> None:
    values = {"data": {"kind": "embedded"}, "restorers": [{"name": "nafnet_mini", "flips": 3}]}
    with pytest.raises(UserError, match=r"flips: true \(all eight of them\), 2 .* or false, not 3"):
        check_config(values, RestorationConfig, "test")


def _local(flips: bool = False) -> Restorer:
    """Looks 3 px to every side."""
    network = nn.Conv2d(3, 3, 7, padding=3)
    return Restorer("r", network, domain="srgb", network_domain=None, trained=True, origin="here", flips=flips).eval()


def test_tiles_of_a_mean_over_flips_are_not_called_exact() -> None:
    assert _local().in_tiles(48).exact_in_tiles and not _local(flips=True).in_tiles(48).exact_in_tiles


@pytest.mark.gpu
def test_tiles_are_measured_where_the_network_is() -> None:
    restorer = _local().to("cuda").in_tiles(48)
    assert restorer.reach == 3 and restorer(torch.rand(1, 3, 64, 64, device="cuda")).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("overlap", [None, 0])
def test_the_tile_that_a_refusal_asks_for_is_enough(overlap) -> None:
    with pytest.raises(UserError, match="`tile` 16 is too small, r looks 3 px") as told:
        _local().in_tiles(16, overlap)
    least = int(str(told.value).split()[-3])
    assert _local().in_tiles(least, overlap).tiles.side == least
    with pytest.raises(UserError, match=f"set `tile` to {least} or more"):
        _local().in_tiles(least - 1, overlap)

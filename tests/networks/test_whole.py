"""Whole photographs: the gradient through tiles is the gradient, one tile's memory is enough, and nothing is wasted."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from udc_robust.attacks import THREATS, attack, objective
from udc_robust.attacks.within import Region, area
from udc_robust.networks.tiles import tile_boxes
from udc_robust.networks.whole import Tiles, reach


class Strided(nn.Module):
    """Looks 7 px (4 and 3 more), strides by 2, and counts the pixels that it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.body = nn.Conv2d(3, 6, 4, stride=2, padding=1), nn.Conv2d(6, 6, 5, padding=2)
        self.up, self.seen = nn.ConvTranspose2d(6, 3, 4, stride=2, padding=1), 0

    def forward(self, x):
        self.seen += x.shape[-1] * x.shape[-2]
        return x + self.up(torch.tanh(self.body(self.down(x))))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Strided().double().eval()


def images(*size: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.rand(2, 3, *size, generator=generator, dtype=torch.float64) for _ in range(2))


def gradient(answer, x, target, measure):
    x = x.clone().requires_grad_(True)
    output = answer(x)
    values = measure(output, target)
    return torch.autograd.grad(values.sum(), x)[0], values.detach(), output.detach()


@pytest.mark.parametrize("name", ["mse", "charbonnier", "ssim"])
@pytest.mark.parametrize("size", [(40, 56), (38, 70), (16, 90)])
def test_the_gradient_in_tiles_is_that_of_the_whole_image(name, size, network) -> None:
    x, target = images(*size)
    tiles, goal = Tiles(24, 8, 4), objective(name)
    whole = gradient(network, x, target, goal.values)
    through = gradient(lambda images: tiles.answer(network, images), x, target, goal.values)
    found = [through] + ([tiles.slope(network, x, target, goal.values)] if goal.pixelwise else [])
    for parts in found:
        for one, other in zip(parts, whole, strict=True):
            assert torch.allclose(one, other, atol=1e-12, rtol=1e-9)
    assert goal.pixelwise == (name != "ssim")


def test_less_overlap_than_its_reach_is_not_exact_and_is_measured(network) -> None:
    x, _ = images(60, 60)
    assert Tiles(24, 8, 4).difference(network, x) > 200 > 80 > Tiles(24, 4, 4).difference(network, x) > 10
    assert reach(network.float(), 4) in range(5, 9)
    assert reach(nn.Sequential(nn.Conv2d(3, 3, 1), nn.InstanceNorm2d(3)).eval(), 4) is None


@pytest.mark.parametrize("shift", [(5, 0), (-5, 0), (0, 5), (0, -5)])
def test_the_reach_is_that_of_the_farthest_side(shift) -> None:
    assert reach(lambda x: x + x.roll(shift, (-2, -1)), 4) == 5


def test_the_difference_is_a_psnr_by_the_range_of_the_answer_on_the_middle(network) -> None:
    x, _ = images(60, 52)
    tiles, middle = Tiles(24, 4, 4), x[:1, :, 12:48, 8:44]
    with torch.no_grad():
        whole = network(middle)
        error = (tiles.answer(network, middle) - whole).square().mean()
    span = whole.max() - whole.min()
    assert tiles.difference(network, x) == pytest.approx(float(10 * torch.log10(span**2 / error)))
    assert tiles.difference(nn.Identity(), x) == torch.inf


@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([(16, 4), (24, 8), (40, 12)]))
@settings(max_examples=60, deadline=None)
def test_tiles_on_a_grid_cover_every_pixel_once(height, width, sides) -> None:
    tile, overlap = sides
    count = torch.zeros(height, width)
    for box in tile_boxes(height, width, tile, overlap, 4):
        count[box.rows_out, box.columns_out] += 1
        for inner, outer, length in ((box.rows_out, box.rows_in, height), (box.columns_out, box.columns_in, width)):
            assert outer.start % 4 == 0 and outer.stop - outer.start <= tile
            assert outer.start == 0 or inner.start - outer.start >= overlap
            assert outer.stop == length or outer.stop - inner.stop >= overlap
    assert (count == 1).all()


def test_nothing_is_answered_twice_where_the_objective_is_a_mean_over_values(network) -> None:
    x, target = images(40, 56)
    tiles = Tiles(24, 8, 4)
    least = sum((b.rows_in.stop - b.rows_in.start) * (b.columns_in.stop - b.columns_in.start) for b in tiles.boxes(x))
    tiles.slope(network, x, target, objective("mse").values)
    assert network.seen == least


def test_a_region_asks_only_the_tiles_that_it_touches(network) -> None:
    x, target = images(80, 80)
    tiles, place, measure = Tiles(24, 8, 4), (4, 50, 6, 6), objective("mse").values
    whole, values, output = gradient(network, x, target, measure)
    first = tiles.slope(network, x, target, measure, place)
    other = x.clone()
    other[..., 4:10, 50:56] = 0.5
    network.seen = 0
    second = tiles.slope(network, other, target, measure, place, first.output)
    assert network.seen <= 6 * 24 * 24 < 80 * 80
    assert torch.allclose(first.gradient[..., 4:10, 50:56], whole[..., 4:10, 50:56]) and torch.allclose(
        first.values, values
    )
    assert torch.allclose(second.output, network(other)) and not torch.allclose(second.output, output)


class InTiles(nn.Module):
    """A victim in tiles, as a restorer is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.tiles = network, Tiles(24, 8, 4)

    def by_parts(self, *parts):
        return self.tiles.slope(self.network, *parts)

    def forward(self, x):
        return self.tiles.answer(self.network, x)


@pytest.mark.parametrize(
    "method, options, name",
    [
        ("pgd", {"steps": 3}, "mse"), ("pgd", {"steps": 3}, "ssim"), ("apgd", {"steps": 5}, "mse"),
        ("mifgsm", {"steps": 3}, "mse"), ("cw", {"steps": 3, "search_steps": 2}, "mse"),
        ("region_pgd", {"steps": 4, "region": (4, 50, 6, 6)}, "mse"),
    ],
)  # fmt: skip
def test_every_method_finds_the_same_in_tiles(method, options, name, network) -> None:
    x, target = images(40, 70)
    threat = THREATS["l2" if method == "cw" else "linf"](float("inf") if method == "cw" else 4 / 255)
    made = [
        attack(victim, x, objective(name), threat, method, target=target, seeds=[1, 2], round_8_bit=False, **options)
        for victim in (network, InTiles(network))
    ]
    assert torch.allclose(made[0].x_adv, made[1].x_adv, atol=1e-9)
    assert torch.allclose(made[0].adv_values, made[1].adv_values) and (made[0].adv_values > made[0].clean_values).all()
    if method == "region_pgd":
        part = Region(threat, area((40, 70), region=options["region"], mask=""))
        assert part.place == options["region"]
        outside = part.keep(made[1].x_adv - x)
        assert torch.equal(outside, made[1].x_adv - x)


PEAK = """
import torch
from udc_robust.networks.whole import Tiles
def network(x):
    for _ in range(12):
        x = x.tanh()
    return x
x, target = torch.rand(1, 3, 1024, 1536), torch.rand(1, 3, 1024, 1536)
measure = lambda a, b: (a - b).square().flatten(1).mean(1)
def told(name):  # not the peak of `getrusage`, which a child inherits
    return int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1])
before = told("VmRSS")
{step}
print((told("VmHWM") - before) / 1024)
"""


def test_the_peak_is_that_of_a_tile() -> None:
    tiled = "Tiles(256, 16, 1).slope(network, x, target, measure)"
    whole = "x.requires_grad_(True); torch.autograd.grad(measure(network(x), target).sum(), x)"
    peaks = [
        float(subprocess.run([sys.executable, "-c", PEAK.replace("{step}", step)], capture_output=True, text=True,
                             check=True).stdout)
        for step in (tiled, whole)
    ]  # fmt: skip
    image = 3 * 1024 * 1536 * 4 / 2**20
    assert peaks[0] < 6 * image < 12 * image < peaks[1]

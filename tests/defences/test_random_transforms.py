"""Random transformations: explicit randomness, gradients, and what each is known to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_purifier import images, noise_for

from udc_robust.defences import quilting
from udc_robust.defences.haar import bayes_shrink, wavelet_denoised
from udc_robust.defences.quilting import Quilting, _joined, clean_patches, least_seam
from udc_robust.defences.random_transforms import DropAndTotalVariation, PixelDeflection, RandomCrop, ResizeAndPad
from udc_robust.errors import UserError

PATCHES = clean_patches(list(images(2, 20, 24)), 5, 60)
MADE = {
    "drop_tv": DropAndTotalVariation(steps=20),
    "crop": RandomCrop(0.6),
    "resize_pad": ResizeAndPad(0.6),
    "deflection": PixelDeflection(30, 4, 0.05),
    "quilting": Quilting(PATCHES, neighbours=4),
}


@pytest.mark.parametrize("name", MADE)
def test_all_randomness_is_drawn_and_neighbours_do_not_matter(name) -> None:
    made, x = MADE[name], images(3, 13, 18)
    noise = noise_for(made, x)
    whole = made(x, noise)
    assert made.random and torch.equal(noise, noise_for(made, x))
    assert torch.equal(whole, made(x, noise)) and whole.shape == x.shape
    assert not torch.equal(whole, made(x, noise_for(made, x, seed=500)))
    for i in range(3):
        assert torch.allclose(made(x[i : i + 1], noise[i : i + 1])[0], whole[i], atol=1e-5)


@pytest.mark.parametrize("name", MADE)
@settings(max_examples=10, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([0.0, 1 - 2**-24]))
def test_any_size_and_the_ends_of_the_draws(name, height, width, end) -> None:
    made, x = MADE[name], images(1, height, width)
    noise = noise_for(made, x)
    for draw in (noise, torch.full_like(noise, end)):
        y = made(x, draw)
        assert y.shape == x.shape and y.isfinite().all()


@pytest.mark.parametrize("name", [name for name in MADE if name != "quilting"])
def test_exact_gradients(name) -> None:
    made, x = MADE[name], images(1, 10, 12, torch.float64)
    noise, direction = noise_for(made, x), torch.randn(x.shape, dtype=x.dtype)
    leaf = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(made(leaf, noise).square().sum(), leaf)
    assert gradient.abs().max() > 0
    h = 1e-6
    with torch.no_grad():
        ends = [made(x + k * h * direction, noise).square().sum().item() for k in (-1, 1)]
    assert (ends[1] - ends[0]) / (2 * h) == pytest.approx((gradient * direction).sum().item(), rel=1e-5)


def test_quilting_passes_the_gradient_by() -> None:
    made, x = MADE["quilting"], images(1, 9, 9).requires_grad_(True)
    for way in made.gradients.values():
        (gradient,) = torch.autograd.grad(way(made, x, noise_for(made, x)).sum(), x)
        assert torch.equal(gradient, torch.ones_like(x))


def test_a_dropped_value_is_not_looked_at() -> None:
    made, x = DropAndTotalVariation(0.5, 0.01, steps=60), torch.full((1, 3, 20, 20), 0.4)
    noise = noise_for(made, x)
    dropped = noise < 0.5
    y = made(x, noise)
    assert torch.equal(made(torch.where(dropped, x + 0.3, x), noise), y)
    assert (y - x).abs().max() < 0.02
    everything = made(x, torch.zeros_like(noise))  # all dropped: nothing to go by
    assert everything.isfinite().all()


def test_a_crop_is_a_part_of_the_image_enlarged() -> None:
    x = images(1, 12, 12)
    assert torch.equal(RandomCrop(1.0)(x, torch.rand(1, 2)), x)
    half = RandomCrop(0.5)
    for noise, (top, left) in (([0.0, 0.0], (0, 0)), ([0.999, 0.0], (6, 0)), ([0.5, 0.999], (3, 6))):
        part = x[..., top : top + 6, left : left + 6]
        expected = torch.nn.functional.interpolate(part, (12, 12), mode="bilinear")
        assert torch.equal(half(x, torch.tensor([noise])), expected)


def test_a_padded_picture_keeps_published_sizes() -> None:
    made, x = ResizeAndPad(), torch.ones(1, 3, 331, 331)
    sides = set()
    for seed in range(40):
        y = made(x, noise_for(made, x, seed))[0, 0]
        rows, columns = (y.amax(1 - axis).sum().int().item() for axis in (0, 1))
        assert y.sum() == rows * columns
        sides.add(rows)
        assert rows == columns
    assert min(sides) >= 310 and max(sides) <= 331 and len(sides) > 10
    assert torch.equal(ResizeAndPad(1.0)(x, torch.rand(1, 3)), x)


@pytest.mark.parametrize(
    "draw, side, top, left",
    [
        ((0.0, 0.0, 0.0), 6, 0, 0),
        ((0.999, 0.5, 0.5), 12, 0, 0),
        ((0.5, 0.999, 0.0), 9, 3, 0),
        ((0.5, 0.3, 0.999), 9, 1, 3),
    ],
)
def test_a_picture_is_shrunk_by_nearest_pixels_and_put_where_drawn(draw, side, top, left) -> None:
    """Six sides up to the whole one, and as many places as there is room for, are equally likely."""
    x = images(1, 12, 12)
    nearest = ((torch.arange(side) + 0.5) * 12 / side).long()
    expected = torch.zeros_like(x)
    expected[..., top : top + side, left : left + side] = x[..., nearest, :][..., nearest]
    assert torch.equal(ResizeAndPad(0.5)(x, torch.tensor([draw])), expected)


def test_deflection_moves_as_many_values_as_told_and_not_far() -> None:
    x = torch.arange(30.0 * 40).view(1, 1, 30, 40).repeat(1, 3, 1, 1)
    made = PixelDeflection(50, 3, 0)
    y = made(x, noise_for(made, x))
    moved = (y != x).any(1)
    assert 40 <= moved.sum() <= 50  # a few draws are the pixel itself
    assert (y[:, 0] != y[:, 1]).sum() > 25  # channels go their own ways
    rows, columns = (y / 40).floor() - (x / 40).floor(), y % 40 - x % 40
    assert all(way.min() == -3 and way.max() == 3 for way in (rows, columns))
    assert torch.equal(PixelDeflection(0, 3, 0)(x, noise_for(made, x)), x)
    assert PixelDeflection(10_000, 3, 0)(x, noise_for(made, x)).shape == x.shape


def test_wavelet_shrinkage_is_scikit_images() -> None:
    # skimage.restoration.denoise_wavelet(sigma=0.04, BayesShrink, soft) of PyWavelets 1.8: four pixels, sum of squares.
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(48.0), indexing="ij")
    x = 0.5 + 0.3 * torch.sin(rows / 5) * torch.cos(columns / 7) + 0.05 * torch.sin(37 * rows + 91 * columns)
    y = wavelet_denoised(x.double()[None, None], 0.04)[0, 0]
    expected = [0.5301119855697799, 0.5998885205383497, 0.49681809065809734, 0.4751864799205619, 420.05844132075043]
    assert np.allclose([y[0, 0], y[3, 7], y[17, 30], y[31, 47]], expected[:4], atol=1e-6)
    assert y.square().sum().item() == pytest.approx(expected[4], rel=1e-7)


def test_colour_is_shrunk_as_luminance_and_differences() -> None:
    from kornia.color import rgb_to_ycbcr, ycbcr_to_rgb

    x = images(2, 16, 24, torch.float64)
    planes = [wavelet_denoised(plane, 0.1) for plane in rgb_to_ycbcr(x).split(1, 1)]
    assert torch.allclose(wavelet_denoised(x, 0.1), ycbcr_to_rgb(torch.cat(planes, 1)), atol=1e-9)


def test_shrinkage_takes_noise_away() -> None:
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    x = torch.stack([rows, columns, (rows + columns) / 2])[None]
    noisy = x + 0.04 * torch.randn(x.shape)
    assert (wavelet_denoised(noisy, 0.04) - x).square().mean() < 0.35 * (noisy - x).square().mean()
    assert bayes_shrink(torch.full((1, 1, 4, 4), 0.01), 0.04).abs().max() == 0
    assert torch.allclose(wavelet_denoised(x, 1e-6), x, atol=1e-4)


def test_a_quilt_of_the_images_own_patches_is_the_image() -> None:
    x = images(1, 11, 14)
    own = torch.nn.functional.unfold(x, 5)[0].t().reshape(-1, 3, 5, 5)
    made = Quilting(own)
    assert not made.random and torch.equal(made(x, noise_for(made, x)), x)


def test_a_quilt_holds_only_values_of_the_clean_patches() -> None:
    x = images(1, 16, 17)
    y = MADE["quilting"](x, noise_for(MADE["quilting"], x))
    assert torch.isin(y, PATCHES).all()
    assert (Quilting(PATCHES)(x, x.new_empty(1, 0)) - x).square().mean() < (y - x).square().mean()


def test_a_large_index_is_searched_in_little_memory(monkeypatch) -> None:
    x, sizes, cdist = images(2, 16, 17), [], torch.cdist
    noise = noise_for(MADE["quilting"], x)
    whole = MADE["quilting"](x, noise)
    monkeypatch.setattr(quilting, "_AT_ONCE", 3 * len(PATCHES) + 1)
    monkeypatch.setattr(torch, "cdist", lambda a, b: sizes.append(len(a) * len(b)) or cdist(a, b))
    assert torch.equal(MADE["quilting"](x, noise), whole) and max(sizes) == 3 * len(PATCHES)


@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 99))
def test_seams_are_the_cheapest(height, width, seed) -> None:
    cost = torch.rand(height, width, generator=torch.Generator().manual_seed(seed))
    paths = [[column] for column in range(width)]
    for _ in range(height - 1):
        paths = [[*p, c] for p in paths for c in range(width) if abs(c - p[-1]) <= 1]

    def price(path) -> float:
        return sum(cost[row, column].item() for row, column in enumerate(path))

    assert price(least_seam(cost).tolist()) == pytest.approx(min(map(price, paths)))


def test_neighbours_meet_where_they_differ_least() -> None:
    left, right, seam = torch.rand(2, 4, 6), torch.rand(2, 4, 6), [1, 2, 1, 0]
    apart = torch.tensor([0.3, -0.3]).view(2, 1, 1).repeat(1, 4, 3)  # the channels' sum would not tell
    for row, column in enumerate(seam):
        apart[:, row, column] = 0
    right[:, :, :3] = left[:, :, 3:] + apart  # the three columns that they share
    joined = _joined(left, right, 3)
    assert joined.shape == (2, 4, 9)
    for row, column in enumerate(seam):
        assert torch.equal(joined[:, row, : 3 + column], left[:, row, : 3 + column])
        assert torch.equal(joined[:, row, 3 + column :], right[:, row, column:])


def test_clean_patches_come_from_every_image_and_place() -> None:
    whole = torch.arange(3 * 36.0).view(3, 6, 6)
    places = {float(patch[0, 0, 0]) for patch in clean_patches([whole], 5, 60)}
    assert places == {0.0, 1.0, 6.0, 7.0}  # the last row and column included
    shares = clean_patches([torch.full((3, 8, 8), float(i)) for i in range(3)], 5, 10)[:, 0, 0, 0]
    assert len(shares) == 10 and sorted(torch.bincount(shares.long()).tolist()) == [3, 3, 4]


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: DropAndTotalVariation(1.0), r"drop must be in \[0,1\)"),
        (lambda: DropAndTotalVariation(weight=-1.0), "weight must be in 0..1000"),
        (lambda: DropAndTotalVariation(steps=0), "steps must be in 1..100000"),
        (lambda: RandomCrop(0.0), r"share must be in \(0,1\]"),
        (lambda: ResizeAndPad(1.2), r"smallest must be in \(0,1\]"),
        (lambda: PixelDeflection(-1), "deflections must be 0 or more"),
        (lambda: PixelDeflection(window=0), "window must be in 1..16384 pixels"),
        (lambda: PixelDeflection(sigma=float("nan")), "sigma must be in 0..100"),
        (lambda: Quilting(PATCHES, overlap=3), r"overlap must be in 1\.\.2 for patches of 5 px, not 3"),
        (lambda: Quilting(PATCHES, neighbours=61), r"neighbours must be in 1\.\.60"),
        (lambda: Quilting(PATCHES)(torch.rand(1, 1, 8, 8), torch.empty(1, 0)), "channels must be 3"),
        (lambda: clean_patches([], 5, 10), "at least one clean image"),
        (lambda: clean_patches([torch.rand(3, 4, 9)], 5, 10), "4x9; quilting needs at least 5 px"),
    ],
)
def test_mistakes(build, message) -> None:
    with pytest.raises(UserError, match=message):
        build()

"""Transformations without randomness against the libraries that know them, and what all of them share."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data
from skimage.restoration import denoise_tv_chambolle
from tiny_purifier import images, linear_schedule, noise_for, tiny_unet

from udc_robust.defences.defence import Defence
from udc_robust.defences.purifier.core import NoisePredictor
from udc_robust.defences.purifier.samplers import clean_estimate
from udc_robust.defences.total_variation import tv_minimum
from udc_robust.defences.transforms import (
    AdditiveNoise,
    BitDepth,
    GaussianBlur,
    Identity,
    Jpeg,
    LowResolution,
    MedianBlur,
    PlainDenoiser,
    TotalVariation,
    quantised,
)
from udc_robust.errors import UserError


def photo(height: int = 48, width: int = 56) -> torch.Tensor:
    return torch.from_numpy(data.astronaut()[60 : 60 + height, 180 : 180 + width].copy()).permute(2, 0, 1)[None] / 255


def defended(made: Defence, x: torch.Tensor) -> torch.Tensor:
    return made(x, noise_for(made, x))


def denoiser(level: int = 20) -> PlainDenoiser:
    return PlainDenoiser(NoisePredictor(tiny_unet()), linear_schedule(), level, multiple=2)


MADE = {
    "identity": Identity(),
    "blur": GaussianBlur(1.3),
    "median": MedianBlur(5, 0.7),
    "jpeg": Jpeg(50),
    "bit_depth": BitDepth(6.5),
    "tv": TotalVariation(0.1, steps=25),
    "noise": AdditiveNoise(0.1),
    "low_resolution": LowResolution(2.5),
    "denoiser": denoiser(),
}


@pytest.mark.parametrize("name", MADE)
def test_a_defence_repeats_itself_and_knows_no_neighbours(name) -> None:
    made, x = MADE[name], images(3, 13, 18)
    noise = noise_for(made, x)
    whole = made(x, noise)
    assert torch.equal(whole, made(x, noise)) and whole.shape == x.shape and whole.isfinite().all()
    for i in range(3):
        assert torch.allclose(made(x[i : i + 1], noise[i : i + 1])[0], whole[i], atol=1e-5)


@pytest.mark.parametrize("name", MADE)
@settings(max_examples=10, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20))
def test_any_size(name, height, width) -> None:
    x = images(1, height, width)
    y = defended(MADE[name], x)
    assert y.shape == x.shape and y.isfinite().all()


@pytest.mark.parametrize("name", [name for name in MADE if name != "denoiser"])
def test_grey_images_and_flat_ones(name) -> None:
    made, grey = MADE[name], images(2, 9, 11)[:, :1]
    assert defended(made, grey).shape == grey.shape
    flat = torch.full((1, 3, 9, 9), 0.5, requires_grad=True)
    way = made.gradients["adaptive"]
    (gradient,) = torch.autograd.grad(way(made, flat, noise_for(made, flat)).sum(), flat)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", MADE)
def test_every_gradient_comes_with_the_defences_value_and_is_live(name) -> None:
    made, x = MADE[name], photo(16, 24)
    noise, direction = noise_for(made, x), torch.rand_like(x)
    for way in made.gradients.values():
        leaf = x.clone().requires_grad_(True)
        crossed = way(made, leaf, noise)
        assert torch.allclose(crossed, made(x, noise), atol=1e-6)
        (gradient,) = torch.autograd.grad((crossed * direction).sum(), leaf)
        assert gradient.isfinite().all() and gradient.abs().max() > 1e-3


@pytest.mark.parametrize("name", ["blur", "median", "tv", "noise", "low_resolution", "denoiser"])
def test_exact_gradients(name) -> None:
    made, x = MADE[name], images(1, 10, 12, torch.float64)
    made = denoiser().double() if name == "denoiser" else made
    noise, direction = noise_for(made, x), torch.randn(x.shape, dtype=x.dtype)
    leaf = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(made(leaf, noise).square().sum(), leaf)
    h = 1e-6
    with torch.no_grad():
        ends = [made(x + k * h * direction, noise).square().sum().item() for k in (-1, 1)]
    assert (ends[1] - ends[0]) / (2 * h) == pytest.approx((gradient * direction).sum().item(), rel=1e-5)


@pytest.mark.parametrize(
    "made",
    [
        Identity(), GaussianBlur(0), MedianBlur(1), MedianBlur(3, 0.0), TotalVariation(0), AdditiveNoise(0),
        LowResolution(1),
    ],
    ids=lambda made: type(made).__name__,
)  # fmt: skip
def test_no_strength_changes_nothing(made) -> None:
    x = images(2, 9, 10)
    assert torch.allclose(defended(made, x), x, atol=1e-6)


def test_straight_through_an_identity_counts_once() -> None:
    x = images(1, 4, 4).requires_grad_(True)
    (gradient,) = torch.autograd.grad(Identity().gradients["bpda"](Identity(), x, x.new_empty(1, 0)).sum(), x)
    assert torch.equal(gradient, torch.ones_like(x))


@pytest.mark.parametrize(
    "weaker, stronger",
    [
        (GaussianBlur(0.5), GaussianBlur(1.5)), (MedianBlur(3, 0.4), MedianBlur(3, 1.0)), (Jpeg(90), Jpeg(20)),
        (BitDepth(16), BitDepth(4)), (TotalVariation(0.02), TotalVariation(0.2)),
        (AdditiveNoise(0.02), AdditiveNoise(0.2)), (LowResolution(1.5), LowResolution(4)),
    ],
)  # fmt: skip
def test_strength_is_damage(weaker, stronger) -> None:
    x = photo()
    assert (defended(weaker, x) - x).square().mean() < 0.7 * (defended(stronger, x) - x).square().mean()


def test_blur_and_median_are_scipys() -> None:
    from scipy import ndimage

    x = images(1, 30, 31, torch.float64)
    for plane, blurred, middle in zip(
        x[0], defended(GaussianBlur(1.5), x)[0], defended(MedianBlur(3), x)[0], strict=True
    ):
        assert np.allclose(blurred, ndimage.gaussian_filter(plane, 1.5, mode="nearest", truncate=4.0), atol=1e-4)
        assert np.allclose(middle, ndimage.median_filter(plane, 3, mode="nearest"))


@pytest.mark.parametrize("quality", [10, 75])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_libjpegs_and_its_stand_in_is_near(quality, channels) -> None:
    x, made = photo()[:, :channels], Jpeg(quality)
    y = defended(made, x)
    pixels = (x[0].permute(1, 2, 0) * 255).round().byte().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "JPEG", quality=quality)
    assert np.array_equal((y[0] * 255).round().byte().permute(1, 2, 0).numpy().squeeze(), np.asarray(Image.open(file)))
    near = (made.stand_in(x, x) - y).square().mean()
    assert near < 0.15 * (x - y).square().mean()


@pytest.mark.parametrize("factor, size", [(2, (12, 10)), (2.5, (10, 8)), (3, (8, 7)), (100, (1, 1))])
def test_low_resolution_is_pillows_bilinear_and_torchs_bicubic(factor, size) -> None:
    x = photo(24, 20)
    planes = [Image.fromarray(plane, "F").resize(size[::-1], Image.Resampling.BILINEAR) for plane in x[0].numpy()]
    small = torch.from_numpy(np.stack([np.asarray(plane) for plane in planes]))[None]
    expected = torch.nn.functional.interpolate(small, (24, 20), mode="bicubic")
    assert torch.allclose(defended(LowResolution(factor), x), expected, atol=1e-5)


def test_bit_depth_levels() -> None:
    x = torch.linspace(0, 1, 256)
    assert sorted(set(quantised(x, 2).tolist())) == [0.0, 1.0]
    assert len(set(quantised(x, 8).tolist())) == 8
    assert (quantised(x, 8) - x).abs().max() <= 0.5 / 7 + 1e-6
    assert torch.allclose(quantised(x, 256), x, atol=1e-6)
    assert quantised(x, 2.5).max() <= 1
    assert quantised(torch.tensor([0.5, 0.499]), 2).tolist() == [1, 0]  # ties up
    assert quantised(torch.tensor([0.25, 0.75]), 3).tolist() == [0.5, 1]


def test_a_jpeg_file_holds_the_nearest_of_8_bits() -> None:
    x = photo(16, 24) * 1.9 - 0.2  # beyond black and white
    assert x.min() < 0 and x.max() > 1
    nearest = (x.clamp(0, 1) * 255).round() / 255
    for shift in (-0.4, 0.4):
        assert torch.equal(
            defended(Jpeg(90), (x.clamp(0, 1) * 255).round().add(shift) / 255), defended(Jpeg(90), nearest)
        )
    assert torch.equal(defended(Jpeg(90), x), defended(Jpeg(90), nearest))


def test_tv_reaches_the_minimum_that_scikit_image_finds() -> None:
    x = photo(40, 44).double()
    for weight, furthest in ((0.02, 2e-4), (0.1, 3e-3)):
        theirs = denoise_tv_chambolle(x[0].numpy(), weight, eps=0, max_num_iter=3000, channel_axis=0)
        assert np.sqrt(np.mean((defended(TotalVariation(weight), x)[0].numpy() - theirs) ** 2)) < furthest
        many = defended(TotalVariation(weight, steps=600), x)[0].numpy()
        assert np.abs(many - theirs).max() < 2e-3


def test_tv_fills_in_what_is_missing() -> None:
    x = torch.full((1, 1, 12, 12), 0.25)
    x[..., 6:] = 0.75
    keep = torch.ones_like(x)
    keep[..., 3:5, 2:4] = 0
    broken = torch.where(keep > 0, x, torch.zeros_like(x))
    filled = tv_minimum(broken, 0.001, 600, keep, broken)
    assert (filled - x).abs().max() < 0.02


def test_a_checkpointed_tv_is_the_plain_one() -> None:
    x = images(1, 8, 8)
    made = TotalVariation(0.1, steps=23)
    assert torch.equal(defended(made, x.clone().requires_grad_(True)), defended(made, x))


def test_the_plain_denoiser_adds_no_noise() -> None:
    made, x = denoiser(30), images(2, 8, 8)
    alpha = made.schedule.alpha(30)
    x_t = alpha**0.5 * (2 * x - 1)
    expected = (clean_estimate(x_t, made.model(x_t, 30), alpha) + 1) / 2
    assert torch.allclose(defended(made, x), expected, atol=1e-6)
    assert made.nfe == 1 and not made.random


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: GaussianBlur(-0.1), r"sigma must be in 0\.\.100 pixels"),
        (lambda: GaussianBlur(1e9), r"sigma must be in 0\.\.100 pixels"),
        (lambda: MedianBlur(4), r"size must be odd, in 1\.\.63, not 4"),
        (lambda: MedianBlur(3, 1.5), r"mix must be in \[0,1\]"),
        (lambda: Jpeg(0), r"quality must be in 1\.\.100, not 0"),
        (lambda: BitDepth(1.5), r"levels must be in 2\.\.65536"),
        (lambda: TotalVariation(float("nan")), r"weight must be in 0\.\.1000"),
        (lambda: TotalVariation(0.1, steps=0), r"steps must be in 1\.\.100000"),
        (lambda: AdditiveNoise(float("inf")), r"sigma must be in 0\.\.100"),
        (lambda: LowResolution(0.5), "factor must be 1 or more"),
        (lambda: denoiser(1000), r"noise_level must be in 0\.\.999"),
        (lambda: defended(Jpeg(), torch.rand(1, 4, 8, 8)), "channels of a JPEG must be 1 or 3, not 4"),
    ],
)
def test_mistakes(build, message) -> None:
    with pytest.raises(UserError, match=message):
        build()

"""Halftones: golden vectors, a plain loop, Pillow, tones that are kept, and the ways for a gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data
from tiny_purifier import images, noise_for

from udc_robust.defences.halftone.core import BAYER_SIZES, METHODS, Halftone, bayer_matrix, screened
from udc_robust.defences.halftone.error_diffusion import KERNELS, error_diffusion, soft_error_diffusion
from udc_robust.defences.registry import build_defence
from udc_robust.defences.total_variation import tv_minimum
from udc_robust.defences.transforms import blurred
from udc_robust.errors import UserError
from udc_robust.metrics import psnr
from udc_robust.networks.weights import save_weights
from udc_robust.restorers.zoo import build_network

RAMP = torch.linspace(0, 1, 8).expand(4, 8)


def pattern(dots: torch.Tensor) -> str:
    """Rows of dots as text; h is a half."""
    return "/".join("".join({0.0: "0", 0.5: "h", 1.0: "1"}[value] for value in row) for row in dots.tolist())


def halftoned(x: torch.Tensor, method: str, **options) -> torch.Tensor:
    return Halftone(method, **options)(x[None, None], x.new_empty(1, 0))[0, 0]


def luminance(x: torch.Tensor) -> torch.Tensor:
    """Y of BT.601 in all channels."""
    return (x * x.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True).expand_as(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "method, x, options, expected",
    [
        ("floyd_steinberg", torch.full((4, 4), 0.5), {}, "1010/0101/1010/0101"),
        ("floyd_steinberg", torch.full((4, 4), 0.5), {"serpentine": True}, "1010/0101/1010/0101"),
        ("floyd_steinberg", torch.full((4, 4), 0.25), {}, "0000/0101/0000/0100"),
        ("floyd_steinberg", RAMP, {}, "00010111/00010111/00101111/00010101"),
        ("jarvis_judice_ninke", RAMP, {}, "00001111/00011111/00001011/00010111"),
        ("floyd_steinberg", RAMP, {"levels": 3}, "00hhhh11/00hhh111/00hhhh11/00h0hh11"),
        ("bayer", torch.full((4, 4), 0.5), {"size": 4}, "1010/0101/1010/0101"),
        ("bayer", torch.full((4, 4), 0.3), {"size": 4}, "1010/0100/1010/0000"),
    ],
)
def test_known_halftones(dtype, method, x, options, expected) -> None:
    assert pattern(halftoned(x.to(dtype), method, **options)) == expected


def plain_loop(x: np.ndarray, kernel, levels: int, serpentine: bool) -> np.ndarray:
    values, dots = x.copy(), np.empty_like(x)
    height, width = x.shape
    for row in range(height):
        forward = -1 if serpentine and row % 2 else 1
        for column in range(width)[::forward]:
            dot = np.clip(np.floor(values[row, column] * (levels - 1) + 0.5) / (levels - 1), 0, 1)
            dots[row, column] = dot
            error = values[row, column] - dot
            for down, right, weight in kernel:
                y, x_ = row + down, column + right * forward
                if y < height and 0 <= x_ < width:
                    values[y, x_] += error * weight
    return dots


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(KERNELS)), st.integers(1, 12), st.integers(1, 12), st.integers(2, 5), st.booleans())
def test_any_size_equals_a_plain_loop(method, height, width, levels, serpentine) -> None:
    x = images(2, height, width, torch.float64)
    found = error_diffusion(x, KERNELS[method], levels, serpentine=serpentine)
    for image, dots in zip(x, found, strict=True):
        for plane, its_dots in zip(image.numpy(), dots.numpy(), strict=True):
            assert np.allclose(its_dots, plain_loop(plane, KERNELS[method], levels, serpentine), atol=1e-9)


@pytest.mark.parametrize(
    "method, mean_of_03",
    [
        ("floyd_steinberg", 0.2979), ("jarvis_judice_ninke", 0.2935), ("stucki", 0.2937), ("atkinson", 0.2463),
        ("sierra", 0.2935), ("burkes", 0.2959),
    ],
)  # fmt: skip
def test_tones_are_kept_but_by_atkinson(method, mean_of_03) -> None:
    assert halftoned(torch.full((64, 64), 0.3), method).mean() == pytest.approx(mean_of_03, abs=1e-4)


def test_weights_hand_on_the_whole_error_but_atkinsons() -> None:
    for name, kernel in KERNELS.items():
        assert sum(weight for _, _, weight in kernel) == pytest.approx(0.75 if name == "atkinson" else 1.0)


def test_256_levels_change_no_8_bit_image() -> None:
    x = (torch.arange(256.0) / 255).view(16, 16)
    for method in KERNELS:
        assert torch.allclose(halftoned(x, method, levels=256), x, atol=1e-6)


def of_pillow(grey: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(grey).convert("1"))


def test_pillow_where_its_rule_is_ours() -> None:
    """Pillow drops fractions of 8-bit values, clips them before rounding and sets a dot from 129 (ours: 127.5) on.

    Where none of that matters the dots are the same; elsewhere the texture differs and the tone does not.
    """
    generator = np.random.default_rng(0)

    def ours(grey: np.ndarray) -> np.ndarray:
        return halftoned(torch.from_numpy(grey).double() / 255, "floyd_steinberg").numpy() > 0.5

    black_and_white = (generator.random((40, 50)) > 0.5).astype(np.uint8) * 255
    line = generator.integers(0, 256, (1, 64), dtype=np.uint8)
    flat = [np.full((32, 32), value, np.uint8) for value in (0, 2, 127, 138, 170, 253, 255)]
    for grey in (black_and_white, line, *flat):
        assert (ours(grey) == of_pillow(grey)).all()
    smooth = np.tile(np.linspace(20, 235, 128).astype(np.uint8), (128, 1))
    assert not (ours(smooth) == of_pillow(smooth)).all()
    tones = [dots.reshape(8, 16, 8, 16).mean((1, 3)) for dots in (ours(smooth), of_pillow(smooth))]
    assert np.abs(tones[0] - tones[1]).max() < 0.03


def test_bayer_screens() -> None:
    assert bayer_matrix(4).tolist() == [[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]
    for size in BAYER_SIZES:
        assert sorted(bayer_matrix(size).flatten().tolist()) == list(range(size**2))
        tile = torch.full((size, size), 0.3)
        assert (halftoned(tile, "bayer", size=size).mean() - 0.3).abs() <= 0.5 / size**2 + 1e-6


def test_a_screen_is_exceeded_not_only_reached() -> None:
    x, thresholds = torch.tensor([0.0, 0.25, 0.25, 0.5, 0.75, 1.0]), torch.tensor([0.0, 0.25, 0.24, 0.0, 0.5, 0.99])
    assert screened(x, thresholds, 2).tolist() == [0, 0, 1, 1, 1, 1]
    assert screened(x, thresholds, 3).tolist() == [0, 0.5, 0.5, 0.5, 0.5, 1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("levels", [2, 3, 7])
def test_dots_are_levels_and_an_image_does_not_depend_on_its_batch(method, levels) -> None:
    x, made = images(3, 9, 14), Halftone(method, levels=levels)
    noise = noise_for(made, x)
    dots = made(x, noise)
    assert ((dots * (levels - 1)).round() / (levels - 1) - dots).abs().max() < 1e-6
    assert dots.min() >= 0 and dots.max() <= 1 and (dots.mean() - x.mean()).abs() < 0.1
    assert made.random == (method == "noise")
    for i in range(3):
        assert torch.equal(made(x[i : i + 1], noise[i : i + 1])[0], dots[i])


def test_luminance_only_keeps_the_colours() -> None:
    from kornia.color import rgb_to_ycbcr

    x = images(1, 12, 12) * 0.1 + 0.45
    made = Halftone(channels="luminance", levels=4)
    before, after = rgb_to_ycbcr(x), rgb_to_ycbcr(made(x, noise_for(made, x)))
    # Where the dot is no black or white, nothing is clipped.
    inner = (after[:, :1] > 0.2) & (after[:, :1] < 0.8)
    assert inner.any() and ((after - before)[:, 1:].abs() * inner).max() < 2e-3
    assert ((after[:, :1] * 3).round() / 3 - after[:, :1]).abs().mul(inner).max() < 2e-3
    vivid = images(1, 12, 12).round()
    cube = made(vivid, noise_for(made, vivid))
    assert cube.min() == 0 and cube.max() == 1  # full dots with the colour of half tones would leave it
    grey = images(1, 12, 12)[:, :1]
    assert torch.equal(made(grey, noise_for(made, grey)), Halftone(levels=4)(grey, noise_for(made, grey)))


def test_grey_dots_have_no_colour_and_those_of_the_luminance() -> None:
    from kornia.color import rgb_to_ycbcr

    x = images(1, 12, 12)
    grey, each = Halftone(channels="grey"), Halftone()
    made, luminance = grey(x, noise_for(grey, x)), rgb_to_ycbcr(x)[:, :1]
    assert torch.equal(made, each(luminance, noise_for(each, luminance)).expand(-1, 3, -1, -1))
    assert set(made.unique().tolist()) == {0.0, 1.0}


def test_the_inverse_stage_follows_the_dots() -> None:
    x = images(1, 16, 16)
    nothing = x.new_empty(1, 0)
    dots = Halftone()(x, nothing)
    assert torch.equal(Halftone(inverse="blur", sigma=1.5)(x, nothing), blurred(dots, 1.5))
    assert torch.equal(Halftone(inverse="tv", weight=0.2)(x, nothing), tv_minimum(dots, 0.2, 50))


@pytest.mark.parametrize(
    "options, stand_in",
    [
        ({}, lambda x: blurred(x, 1.0)),
        ({"inverse": "blur", "sigma": 0.8}, lambda x: blurred(x, 0.8)),
        ({"inverse": "tv", "weight": 0.05}, lambda x: tv_minimum(x, 0.05, 50)),
        ({"channels": "grey"}, lambda x: blurred(luminance(x), 1.0)),
        ({"channels": "grey", "inverse": "blur", "sigma": 0.8}, lambda x: blurred(luminance(x), 0.8)),
        ({"surrogate": "soft", "levels": 3}, lambda x: soft_error_diffusion(x, KERNELS["floyd_steinberg"], 3)),
    ],
)
def test_gradients_go_straight_or_through_the_stand_in(options, stand_in) -> None:
    made, x = Halftone(**options), images(2, 7, 8, torch.float64)
    noise = noise_for(made, x)
    direction = torch.randn(x.shape, dtype=x.dtype)

    def slope(function) -> torch.Tensor:
        leaf = x.clone().requires_grad_(True)
        return torch.autograd.grad((function(leaf) * direction).sum(), leaf)[0]

    assert torch.allclose(slope(lambda leaf: made.gradients["bpda"](made, leaf, noise)), direction)
    expected = slope(stand_in)
    assert expected.isfinite().all() and expected.abs().max() > 0
    for access in ("surrogate", "adaptive"):
        crossed = made.gradients[access](made, x, noise)
        assert torch.equal(crossed, made(x, noise))
        assert torch.allclose(slope(lambda leaf, way=made.gradients[access]: way(made, leaf, noise)), expected)


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> Halftone:
    """A halftone whose inverse is a tiny network with random weights."""
    options = {"num_feat": 4, "num_conv": 1, "upscale": 1}
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("inverse") / "tiny.safetensors"
    network = build_network("SRVGGNetCompact", options)
    save_weights(path, network, {"network": "SRVGGNetCompact", "options": options})
    return build_defence("halftone", {"inverse": "learned", "restorer": str(path)}).double()


def test_a_learned_inverse_is_a_restorer_of_dots(learned) -> None:
    x = images(2, 7, 9, torch.float64)
    nothing = noise_for(learned, x)
    assert torch.equal(learned(x, nothing), learned.restorer.network(Halftone()(x, nothing)))
    assert learned.nfe == 1 and Halftone().nfe == 0 and not any(p.requires_grad for p in learned.parameters())
    with pytest.raises(UserError, match="channels of images for the learned inverse must be 3, not 1"):
        learned(x[:, :1], nothing)


def test_gradients_through_a_learned_inverse_are_those_at_the_dots(learned) -> None:
    x = images(2, 8, 8, torch.float64)
    nothing, direction = noise_for(learned, x), torch.randn(x.shape, dtype=x.dtype)

    def slope(function, at) -> torch.Tensor:
        leaf = at.clone().requires_grad_(True)
        return torch.autograd.grad((function(leaf) * direction).sum(), leaf)[0]

    found = slope(lambda leaf: learned.gradients["adaptive"](learned, leaf, nothing), x)
    assert torch.allclose(found, slope(learned.restorer.network, Halftone()(x, nothing)))
    assert not torch.allclose(found, slope(learned.restorer.network, x))
    assert torch.allclose(slope(lambda leaf: learned.gradients["bpda"](learned, leaf, nothing), x), direction)
    assert torch.equal(learned.gradients["adaptive"](learned, x, nothing), learned(x, nothing))


def test_the_shipped_inverse_is_better_than_blur_and_tv() -> None:
    photo = torch.from_numpy(data.astronaut()[60:188, 180:308].copy()).permute(2, 0, 1)[None] / 255
    found = {
        inverse: psnr(build_defence("halftone", {"inverse": inverse})(photo, photo.new_empty(1, 0)), photo).item()
        for inverse in ("none", "blur", "tv", "learned")
    }
    assert found["none"] < found["blur"] and found["learned"] > max(found["blur"], found["tv"]) + 1


def test_sharp_soft_diffusion_is_error_diffusion() -> None:
    x = images(2, 6, 9, torch.float64)
    for kernel in KERNELS.values():
        for levels in (2, 4):
            soft = soft_error_diffusion(x, kernel, levels, sharpness=1e5)
            assert torch.allclose(soft, error_diffusion(x, kernel, levels), atol=1e-3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "floyd"}, "unknown halftone method 'floyd': did you mean 'floyd_steinberg'"),
        ({"levels": 1}, r"levels must be in 2\.\.256, not 1"),
        ({"method": "bayer", "size": 6}, "size must be 2, 4, 8 or 16, not 6"),
        ({"method": "bayer", "serpentine": True}, "belong to error diffusion, not to method 'bayer'"),
        ({"serpentine": True, "surrogate": "soft"}, "raster order"),
        ({"sigma": -1.0}, "sigma must be in 0..100"),
        ({"weight": float("nan")}, "weight must be in 0..1000"),
    ],
)
def test_mistakes(options, message) -> None:
    with pytest.raises(UserError, match=message):
        Halftone(**options)


def test_luminance_of_other_channel_counts() -> None:
    with pytest.raises(UserError, match="must be 1 or 3, not 4"):
        Halftone(channels="luminance")(torch.rand(1, 4, 8, 8), torch.empty(1, 0))

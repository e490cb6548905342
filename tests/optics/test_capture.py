"""Blur, noise, tone map and pseudo-HDR against direct formulas."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from udc_robust.optics.capture import capture, convolve, expand_highlights, inverse_tone_map, tone_map


def random_psf(side: int) -> torch.Tensor:
    psf = torch.rand(3, side, side)
    return psf / psf.sum(dim=(1, 2), keepdim=True)


@pytest.mark.parametrize("edge", ["replicate", "zero"])
@pytest.mark.parametrize(("height", "width", "side"), [(12, 9, 5), (4, 7, 15), (1, 1, 3), (8, 8, 1)])
def test_convolve_equals_direct_convolution(edge: str, height: int, width: int, side: int) -> None:
    image, psf = torch.rand(2, 3, height, width) * 10, random_psf(side)
    padded = functional.pad(image, [side // 2] * 4, mode="replicate" if edge == "replicate" else "constant")
    direct = functional.conv2d(padded, psf.flip(1, 2)[:, None], groups=3)
    torch.testing.assert_close(convolve(image, psf, edge=edge), direct, atol=1e-4, rtol=1e-4)


def test_convolve_moves_a_light_along_the_kernel() -> None:
    image, psf = torch.zeros(1, 3, 9, 9), torch.zeros(3, 5, 5)
    image[..., 4, 4] = 2.0
    psf[:, 0, 3] = 1.0  # two rows up, one column right of the centre
    blurred = convolve(image, psf)
    assert blurred[0, 0, 2, 5] == pytest.approx(2.0, abs=1e-5)
    assert blurred.sum() == pytest.approx(6.0, abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(level=st.floats(0, 500, width=32), side=st.sampled_from([1, 3, 9, 31]))
def test_a_flat_field_keeps_its_level(level: float, side: int) -> None:
    flat = torch.full((1, 3, 8, 10), level)
    torch.testing.assert_close(capture(flat, random_psf(side)), flat, atol=1e-4 * max(level, 1), rtol=1e-5)


def test_zero_edge_darkens_the_border_only() -> None:
    blurred = convolve(torch.ones(1, 3, 20, 20), random_psf(5), edge="zero")
    assert blurred[..., 0, 0].max() < 0.9
    torch.testing.assert_close(blurred[..., 2:-2, 2:-2], torch.ones(1, 3, 16, 16))


def test_convolve_is_differentiable() -> None:
    image = torch.rand(1, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: convolve(x, random_psf(3).double().detach() * 0 + 1 / 9), image)


@pytest.mark.parametrize("side", [2, 4])
def test_even_kernels_are_refused(side: int) -> None:
    with pytest.raises(ValueError, match="odd"):
        convolve(torch.rand(1, 3, 8, 8), random_psf(side))


def test_wrong_edge_is_refused() -> None:
    with pytest.raises(ValueError, match="edge"):
        convolve(torch.rand(1, 3, 8, 8), random_psf(3), edge="wrap")  # type: ignore[arg-type]


def test_capture_clips_to_the_sensor_range() -> None:
    bright = capture(torch.full((1, 3, 6, 6), 700.0), random_psf(3))
    assert bright.max() == 500


def test_noise_has_the_stated_variance_and_ignores_the_batch() -> None:
    level, shot, read = 2.0, 0.02, 0.1
    images, psf = torch.full((2, 3, 96, 96), level), random_psf(3)
    pair = capture(images, psf, shot=shot, read=read, generators=[torch.Generator().manual_seed(s) for s in (1, 2)])
    alone = capture(images[:1], psf, shot=shot, read=read, generators=[torch.Generator().manual_seed(2)])
    assert torch.equal(pair[1:], alone)
    assert pair.var() == pytest.approx(shot * level + read**2, rel=0.05)
    assert pair.mean() == pytest.approx(level, rel=0.01)


def test_noisy_captures_stay_in_the_sensor_range() -> None:
    scene = torch.tensor([0.0, 250.0, 500.0]).view(3, 1, 1).expand(1, 3, 40, 40)
    noisy = capture(scene, random_psf(1), read=10.0, generators=[torch.Generator().manual_seed(0)])
    assert noisy.min() == 0 and noisy.max() == 500 and noisy[0, 1].std() == pytest.approx(10, rel=0.1)


def test_noise_without_generators_is_refused() -> None:
    with pytest.raises(ValueError, match="generator"):
        capture(torch.rand(2, 3, 4, 4), random_psf(3), read=0.1, generators=[torch.Generator()])


def test_noise_keeps_the_gradient_finite_in_the_dark() -> None:
    dark = torch.zeros(1, 3, 4, 4, requires_grad=True)
    capture(dark, random_psf(3), shot=0.1, generators=[torch.Generator().manual_seed(0)]).sum().backward()
    assert dark.grad is not None and torch.isfinite(dark.grad).all()


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 500, width=32))
def test_tone_map_round_trip(radiance: float) -> None:
    linear = torch.tensor([radiance], dtype=torch.float64)
    toned = tone_map(linear)
    assert 0 <= toned < 1
    torch.testing.assert_close(inverse_tone_map(toned), linear, atol=1e-9, rtol=1e-9)


def test_inverse_tone_map_of_white_is_the_brightest_radiance() -> None:
    assert inverse_tone_map(torch.ones(1)) == 500


def test_small_highlights_become_brighter_than_large_ones() -> None:
    photo = torch.full((3, 200, 200), 0.2)
    photo[:, 10:14, 10:14] = 1.0  # a lamp: below 36 px
    photo[:, 100:150, 10:60] = 1.0  # a window: below 64 px
    photo[:, 20:100, 100:190] = 1.0  # a sky
    linear = expand_highlights(photo)
    assert linear[0, 12, 12] == 101
    assert linear[0, 120, 30] == 65
    assert linear[0, 50, 150] == 9
    assert linear[0, 199, 199] == photo[0, 199, 199]


def _gain(*sizes: tuple[int, int, float]) -> list[float]:
    """What becomes of white boxes (rows, columns, gap below); without a gap two of them touch at a corner."""
    photo, top, left, places = torch.full((3, 260, 260), 0.1), 5, 5, []
    for rows, columns, gap in sizes:
        photo[:, top : top + rows, left : left + columns] = 1.0
        places.append((top, left))
        top, left = top + rows + int(gap), left + columns
    linear = expand_highlights(photo)
    return [float(linear[0, row, column]) - 1 for row, column in places]


def test_the_gain_of_a_highlight_follows_the_longer_side_of_its_box() -> None:
    assert _gain((35, 10, 5), (36, 10, 5)) == [100, 64]
    assert _gain((10, 35, 5), (10, 36, 5)) == [100, 64]
    assert _gain((63, 10, 5), (64, 10, 5)) == [64, 8]
    assert _gain((30, 30, 0), (30, 30, 9)) == [64, 64]  # they touch at a corner: one highlight of 60
    assert _gain((30, 30, 1), (30, 30, 9)) == [100, 100]


def test_a_highlight_is_bright_in_the_mean_and_in_one_channel() -> None:
    lamps = [(1, 1, 1), (0.86, 0.86, 0.86), (0.84, 0.84, 0.84), (1, 0.6, 0.6), (1, 0.5, 0.5), (0.85, 0.7, 0.7)]
    photo = torch.full((3, 20, 80), 0.1)
    for i, colour in enumerate(lamps):
        photo[:, 5:9, 10 * i + 2 : 10 * i + 6] = torch.tensor(colour).view(3, 1, 1)
    linear = expand_highlights(photo)
    raised = [bool(linear[0, 6, 10 * i + 3] > 2) for i in range(len(lamps))]
    assert raised == [True, True, False, True, False, False]
    assert float(expand_highlights(20 * photo).max()) == 500


def test_a_dark_photograph_has_no_highlights() -> None:
    photo = torch.rand(3, 16, 16) * 0.8
    assert torch.equal(expand_highlights(photo), photo)

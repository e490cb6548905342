"""PSNR and SSIM against BasicSR's own, MS-SSIM and GMSD against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from udc_robust.metrics import fidelity, gmsd, ms_ssim, mse, psnr, ssim
from udc_robust.restorers.basicsr_bridge import import_basicsr

ALL = [psnr, ssim, ms_ssim, gmsd]


def _pair(height: int, width: int, noise: float = 0.1, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    smooth = torch.nn.functional.interpolate(
        torch.rand(batch, 3, 8, 8, generator=generator), (height, width), mode="bicubic"
    )
    clean = smooth.clamp(0, 1)
    return (clean + noise * torch.randn(clean.shape, generator=generator)).clamp(0, 1), clean


@pytest.mark.parametrize("size", [(64, 64), (33, 57), (11, 11)])
def test_psnr_and_ssim_equal_basicsr(size: tuple[int, int]) -> None:
    import_basicsr()
    from basicsr.metrics import calculate_psnr, calculate_ssim

    output, target = _pair(*size)
    output, target = (torch.round(t * 255) / 255 for t in (output, target))
    for i in range(len(output)):
        pictures = [(t[i].permute(1, 2, 0).numpy() * 255).round() for t in (output, target)]
        assert psnr(output, target)[i] == pytest.approx(calculate_psnr(*pictures, crop_border=0), abs=1e-4)
        reference = calculate_ssim(*pictures, crop_border=0)
        assert ssim(output.double(), target.double())[i] == pytest.approx(reference, abs=1e-4)
        assert ssim(output, target)[i] == pytest.approx(reference, abs=1e-4)


@pytest.mark.parametrize("brightest", [0.3, 0.05])
def test_dark_images_have_the_same_peak(brightest: float) -> None:
    import_basicsr()
    from basicsr.metrics import calculate_psnr, calculate_ssim

    output, target = (torch.round(t * brightest * 255) / 255 for t in _pair(24, 32))
    for i in range(len(output)):
        pictures = [(t[i].permute(1, 2, 0).numpy() * 255).round() for t in (output, target)]
        assert psnr(output, target)[i] == pytest.approx(calculate_psnr(*pictures, crop_border=0), abs=1e-4)
        reference = calculate_ssim(*pictures, crop_border=0)
        assert ssim(output.double(), target.double())[i] == pytest.approx(reference, abs=1e-4)


@pytest.mark.parametrize("metric", ALL)
def test_batch_equals_singles_and_gradient_is_finite(metric) -> None:
    output, target = (t.double() for t in _pair(48, 40))
    output.requires_grad_(True)
    both = metric(output, target)
    singles = torch.cat([metric(output[i : i + 1], target[i : i + 1]) for i in range(2)])
    assert torch.allclose(both, singles, atol=1e-12)
    (gradient,) = torch.autograd.grad(both.sum(), output)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0


@pytest.mark.parametrize("metric", [ssim, ms_ssim, gmsd])
def test_gradcheck(metric) -> None:
    output, target = (t.double()[:1, :, :24, :24] for t in _pair(24, 24))
    assert torch.autograd.gradcheck(
        lambda x: metric(x, target), output.requires_grad_(True), eps=1e-6, atol=1e-5, fast_mode=True
    )


@given(st.floats(0.02, 0.1))
@settings(max_examples=10, deadline=None)
def test_more_noise_is_never_better(noise: float) -> None:
    little, clean = _pair(64, 64, noise)
    much, _ = _pair(64, 64, 3 * noise)
    for metric, sign in [(psnr, 1), (ssim, 1), (ms_ssim, 1), (gmsd, -1)]:
        assert (sign * (metric(little, clean) - metric(much, clean)) > 0).all()


def test_equal_images_are_perfect() -> None:
    _, clean = _pair(192, 192)
    assert psnr(clean, clean).isinf().all()
    assert torch.allclose(ssim(clean, clean), torch.ones(2)) and torch.allclose(ms_ssim(clean, clean), torch.ones(2))
    assert torch.allclose(gmsd(clean, clean), torch.zeros(2), atol=1e-6) and (mse(clean, clean) == 0).all()


@pytest.mark.parametrize(
    "size, scales", [((192, 200), 5), ((176, 180), 5), ((175, 180), 4), ((22, 40), 2), ((21, 40), 1)]
)
def test_ms_ssim_matches_its_definition(size, scales) -> None:
    output, target = (t.double() for t in _pair(*size))
    expected, a, b = torch.ones(2, 3, dtype=torch.float64), output, target
    from udc_robust.metrics.fidelity import _ssim_parts

    weights = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333][:scales]
    for scale, weight in enumerate(weights):
        similarity, contrast = _ssim_parts(a, b)
        expected = expected * (similarity if scale == scales - 1 else contrast) ** (weight / sum(weights))
        a, b = (torch.nn.functional.avg_pool2d(t, 2) for t in (a, b))
    assert np.allclose(ms_ssim(output, target), expected.mean(1), atol=1e-9)


@pytest.mark.parametrize("size", [(24, 30), (40, 16)])
def test_gmsd_is_that_of_the_paper_on_8_bits(size: tuple[int, int]) -> None:
    """Written out with SciPy on 0..255, where the paper's constant is 170; piq 0.8 gives the same figures."""
    from scipy.ndimage import correlate

    output, target = (t.double() for t in _pair(*size))
    prewitt = np.array([[1, 0, -1]] * 3) / 3
    for i in range(len(output)):
        magnitudes = []
        for red, green, blue in (255 * output[i].numpy(), 255 * target[i].numpy()):
            y = 0.299 * red + 0.587 * green + 0.114 * blue
            small = (y[::2, ::2] + y[1::2, ::2] + y[::2, 1::2] + y[1::2, 1::2]) / 4
            magnitudes.append(np.hypot(*(correlate(small, kernel, mode="constant") for kernel in (prewitt, prewitt.T))))
        a, b = magnitudes
        expected = ((2 * a * b + 170) / (a**2 + b**2 + 170)).std()
        assert expected > 0.01 and gmsd(output, target)[i].item() == pytest.approx(expected, rel=1e-6)


def test_ms_ssim_of_a_negative_is_finite() -> None:
    """Its contrast terms are negative, and a negative number has no real power."""
    _, target = (t.double() for t in _pair(48, 48))
    negative = (1 - target).requires_grad_(True)
    value = ms_ssim(negative, target)
    (gradient,) = torch.autograd.grad(value.sum(), negative)
    assert ((value >= 0) & (value < 0.1)).all() and gradient.isfinite().all()


def test_too_small_for_the_window_is_said() -> None:
    with pytest.raises(ValueError, match="11x11"):
        ssim(torch.rand(1, 3, 10, 64), torch.rand(1, 3, 10, 64))


@pytest.mark.parametrize("rows", [74, 75, 138, 201])
def test_bands_of_rows_are_the_whole_image(rows) -> None:
    a, b = torch.rand(2, 2, 3, rows, 150, dtype=torch.float64).unbind()
    window = fidelity._gaussian_window(a)
    kernel = (window[:, None] * window).expand(3, 1, 11, 11)
    blurred = [torch.nn.functional.conv2d(x, kernel, groups=3) for x in (a, b, a * a, b * b, a * b)]
    mean_a, mean_b, square_a, square_b, product = blurred
    top = (2 * mean_a * mean_b + 0.01**2) * (2 * (product - mean_a * mean_b) + 0.03**2)
    below = (mean_a**2 + mean_b**2 + 0.01**2) * (square_a - mean_a**2 + square_b - mean_b**2 + 0.03**2)
    assert torch.allclose(ssim(a, b), (top / below).flatten(1).mean(1), rtol=1e-12)

"""Full-reference image quality that needs no weights: one differentiable number per image.

All functions take ``(B,3,H,W)`` images in [0,1] and return ``(B,)``. They compute in the dtype they are given: use
float64 for figures that are printed, float32 inside an attack.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2
_BAND = 64  # rows, and columns, that are filtered at once
_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def mse(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over channels and pixels."""
    return (output - target).square().flatten(1).mean(1)


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, crop 0, RGB; equal images give ``inf`` (as in BasicSR)."""
    return -10 * torch.log10(mse(output, target))


def _gaussian_window(x: Tensor, size: int = 11, sigma: float = 1.5) -> Tensor:
    offsets = torch.arange(size, dtype=x.dtype, device=x.device) - size // 2
    window = torch.exp(-offsets.square() / (2 * sigma**2))
    return window / window.sum()


def _banded(window: Tensor, places: int) -> Tensor:
    """The matrix ``(places,places+taps-1)`` that filters so many places along an axis."""
    return torch.stack([F.pad(window, (i, places - 1 - i)) for i in range(places)])


def _blur_valid(x: Tensor, window: Tensor) -> Tensor:
    """Separable Gaussian filter of a band of rows, only where the window lies inside.

    Products with banded matrices: in float64 several times as fast as convolutions.
    """
    rows = _banded(window, x.shape[-2] - window.numel() + 1) @ x
    places = x.shape[-1] - window.numel() + 1
    blocks = F.pad(rows, (0, -places % _BAND)).unfold(-1, _BAND + window.numel() - 1, _BAND)
    blocks = blocks.contiguous()  # or the product, on several threads, takes forty times as long
    return (blocks @ _banded(window, _BAND).T).flatten(-2)[..., :places]


def _ssim_parts(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Mean SSIM and mean contrast-structure term, each ``(B,C)`` (Wang et al. 2004, eq. 13).

    Large images go through in bands of rows, so that memory stays flat.
    """
    if min(output.shape[-2:]) < 11:
        raise ValueError(f"SSIM needs at least 11x11 pixels, not {output.shape[-2]}x{output.shape[-1]}")
    window = _gaussian_window(output)
    rows = output.shape[-2] - window.numel() + 1
    bands = [slice(top, min(top + _BAND, rows) + window.numel() - 1) for top in range(0, rows, _BAND)]
    sums = [_ssim_sums(output[..., band, :], target[..., band, :], window) for band in bands]
    count = rows * (output.shape[-1] - window.numel() + 1)
    similarity, contrast = (torch.stack(parts).sum(0) / count for parts in zip(*sums, strict=True))
    return similarity, contrast


def _ssim_sums(output: Tensor, target: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of both terms over a band of rows, each ``(B,C)``."""
    stacked = torch.cat([output, target, output * output, target * target, output * target])
    mean_a, mean_b, square_a, square_b, product = _blur_valid(stacked, window).chunk(5)
    variances = square_a - mean_a**2 + square_b - mean_b**2
    contrast = (2 * (product - mean_a * mean_b) + _SSIM_C2) / (variances + _SSIM_C2)
    luminance = (2 * mean_a * mean_b + _SSIM_C1) / (mean_a**2 + mean_b**2 + _SSIM_C1)
    return (luminance * contrast).flatten(2).sum(2), contrast.flatten(2).sum(2)


def ssim(output: Tensor, target: Tensor) -> Tensor:
    """Structural similarity: 11x11 Gaussian window, sigma 1.5, valid region, mean over channels (as in BasicSR)."""
    return _ssim_parts(output, target)[0].mean(1)


def ms_ssim(output: Tensor, target: Tensor) -> Tensor:
    """Multi-scale SSIM (Wang, Simoncelli, Bovik 2003).

    Five scales need a shorter side of 176 px. Smaller images use as many scales as leave 11 px, with the published
    weights renormalised, so figures of different sizes must not be compared.
    """
    scales = 1
    while scales < 5 and min(output.shape[-2:]) // 2**scales >= 11:
        scales += 1
    weights = output.new_tensor(_MS_SSIM_WEIGHTS[:scales])
    factors = []
    for scale in range(scales):
        similarity, contrast = _ssim_parts(output, target)
        factors.append(similarity if scale == scales - 1 else contrast)
        output, target = F.avg_pool2d(output, 2), F.avg_pool2d(target, 2)
    # A negative contrast term has no real power; the usual mend is to stop it at zero.
    stacked = torch.stack(factors).clamp_min(1e-6)
    return (stacked ** (weights / weights.sum()).view(-1, 1, 1)).prod(0).mean(1)


def gmsd(output: Tensor, target: Tensor) -> Tensor:
    """Gradient magnitude similarity deviation of luminance, 0 is best (Xue et al. 2014, c = 170 on 8 bits)."""
    constant = 170 / 255**2
    magnitudes = []
    for image in (output, target):
        luminance = (image * image.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        small = F.avg_pool2d(luminance, 2)
        prewitt = small.new_tensor([[1, 0, -1]] * 3) / 3
        kernels = torch.stack([prewitt, prewitt.T])[:, None]
        gradient = F.conv2d(small, kernels, padding=1)
        magnitudes.append((gradient.square().sum(1) + 1e-12).sqrt())
    a, b = magnitudes
    similarity = (2 * a * b + constant) / (a * a + b * b + constant)
    return similarity.flatten(1).std(1, correction=0)

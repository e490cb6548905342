"""Full-reference image quality that needs no weights: one differentiable number per image.

All functions take ``(B,3,H,W)`` images in [0,1] and return ``(B,)``. They compute in the dtype they are given: use
float64 for figures that are printed, float32 inside an attack.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2
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


def _blur_valid(x: Tensor, window: Tensor) -> Tensor:
    """Separable Gaussian filter, only where the window lies inside the image."""
    channels, size = x.shape[1], window.numel()
    rows = F.conv2d(x, window.view(1, 1, size, 1).expand(channels, 1, size, 1), groups=channels)
    return F.conv2d(rows, window.view(1, 1, 1, size).expand(channels, 1, 1, size), groups=channels)


def _ssim_parts(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Mean SSIM and mean contrast-structure term, each ``(B,C)`` (Wang et al. 2004, eq. 13)."""
    if min(output.shape[-2:]) < 11:
        raise ValueError(f"SSIM needs at least 11x11 pixels, not {output.shape[-2]}x{output.shape[-1]}")
    window = _gaussian_window(output)
    stacked = torch.cat([output, target, output * output, target * target, output * target])
    mean_a, mean_b, square_a, square_b, product = _blur_valid(stacked, window).chunk(5)
    variances = square_a - mean_a**2 + square_b - mean_b**2
    contrast = (2 * (product - mean_a * mean_b) + _SSIM_C2) / (variances + _SSIM_C2)
    luminance = (2 * mean_a * mean_b + _SSIM_C1) / (mean_a**2 + mean_b**2 + _SSIM_C1)
    return (luminance * contrast).flatten(2).mean(2), contrast.flatten(2).mean(2)


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

"""Wavelet shrinkage that a gradient gets through; scikit-image's needs PyWavelets and has no gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from udc_robust.networks.tiles import padded


def wavelet_denoised(x: Tensor, sigma: float) -> Tensor:
    """Shrink the Haar details of images ``(B,C,H,W)`` in [0,1]; colour in YCbCr, as pixel deflection does it.

    All but the three coarsest scales are shrunk, one at the least. The same ``sigma`` holds for Y, Cb and Cr.

    Args:
        x: any size; padded (replicated border) to a multiple of the coarsest cell.
        sigma: standard deviation of the noise, positive.
    """
    from kornia.color import rgb_to_ycbcr, ycbcr_to_rgb

    levels = max(int(math.log2(min(x.shape[-2:]))) - 3, 1)
    colour = x.shape[1] == 3
    planes = rgb_to_ycbcr(x) if colour else x
    shrunk = padded(lambda image: _shrink(image, sigma, levels), planes, 2**levels)
    return ycbcr_to_rgb(shrunk) if colour else shrunk


def bayes_shrink(details: Tensor, sigma: float) -> Tensor:
    """Soft-threshold one subband of each channel at ``sigma^2 / sigma_signal`` (Chang, Yu & Vetterli 2000)."""
    signal = details.square().mean((-2, -1), keepdim=True) - sigma**2
    threshold = sigma**2 / signal.clamp_min(torch.finfo(details.dtype).eps).sqrt()
    return details.sign() * (details.abs() - threshold).relu()


def _shrink(x: Tensor, sigma: float, levels: int) -> Tensor:
    """One scale of the orthonormal transform after the other, down and up again."""
    if not levels:
        return x
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    mean = _shrink((a + b + c + d) / 2, sigma, levels - 1)
    across, down, diagonal = (
        bayes_shrink(band / 2, sigma) for band in (a - b + c - d, a + b - c - d, a - b - c + d)
    )  # fmt: skip
    a, b = mean + across + down + diagonal, mean - across + down - diagonal
    c, d = mean + across - down - diagonal, mean - across - down + diagonal
    upper, lower = torch.stack([a, b], -1).flatten(-2), torch.stack([c, d], -1).flatten(-2)
    return torch.stack([upper, lower], -2).flatten(-3, -2) / 2

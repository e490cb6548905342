"""A budget from the data: how large a perturbation these very images hide."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from udc_robust.metrics import ssim

SSIM_WINDOW = 11  # pixels
_STEPS = 12


def largest_hidden(images: Tensor, keep: float, *, seed: int = 0) -> float:
    """The largest Linf ``eps`` in [0,1] whose random signs leave a mean SSIM of ``keep`` on images ``(N,3,H,W)``.

    Busy images hide more than smooth ones, so each data set has a budget of its own. Found by bisection, to 1/4096.
    """
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(2, images.shape, generator=generator) * 2.0 - 1

    def kept(eps: float) -> float:
        return float(ssim((images + eps * signs).clamp(0, 1), images).mean())

    return _bisected(kept, keep)


def _bisected(falls: Callable[[float], float], level: float) -> float:
    """The largest number in [0,1] at which a falling function is still at least ``level``."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if falls(middle) >= level else (low, middle)
    return low

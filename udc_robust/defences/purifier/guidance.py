"""What keeps a purified image near its input: optional callables for the sampler.

Both have a price: whatever pulls toward the input pulls toward its perturbation. Low frequencies that are anchored pass
a low-frequency attack almost untouched.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from udc_robust import metrics

Correction = Callable[[Tensor, Tensor], Tensor]
"""``(x_0, u) -> x_0``: the clean estimate of a step and the input, both ``(B,C,H,W)`` in [-1,1]."""

Shift = Callable[[Tensor, Tensor, float], Tensor]
"""``(x_t, u_t, abar) -> shift``: the noisy image, the input under its own noise of that level, and the level's abar."""


def low_frequency_consistency(radius: float) -> Correction:
    """Give the clean estimate the low frequencies of the input (after Choi et al. 2021, "ILVR").

    Args:
        radius: standard deviation of the Gaussian low-pass in pixels.
    """
    from kornia.filters import gaussian_blur2d

    size = 2 * math.ceil(3 * radius) + 1

    def correct(x_0: Tensor, u: Tensor) -> Tensor:
        difference = gaussian_blur2d(u - x_0, (size, size), (radius, radius), border_type="replicate")
        return x_0 + difference

    return correct


def gdmp(eps: float, distance: str = "mse", scale: float = 60_000.0) -> Shift:
    """Pull every noisy step toward the input under the same noise level (Wang et al. 2022, "GDMP").

    The pull is ``-s grad D(x_t, u_t)`` with ``s = sqrt(1 - abar) / sqrt(abar) * scale / (2 eps / 3)``: strong while
    the image is noisy, and weaker for larger budgets. ``D`` is taken for each image, so neighbours in a batch do not
    weaken it. The second-order gradient is kept where gradients are on.

    Args:
        eps: the perturbation's assumed Linf budget in [0,1] image units.
        distance: ``mse`` or ``ssim`` (1 - SSIM).
        scale: the paper's guide scale: 60000 for MSE, 1000 to 70000 for SSIM.
    """
    if distance not in ("mse", "ssim"):
        raise ValueError(f"distance must be mse or ssim, not {distance!r}")

    def measure(x_t: Tensor, u_t: Tensor) -> Tensor:
        if distance == "mse":
            return metrics.mse(x_t, u_t)
        return 1 - metrics.ssim((x_t + 1) / 2, (u_t + 1) / 2)

    def shift(x_t: Tensor, u_t: Tensor, alpha: float) -> Tensor:
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            x_t = x_t if x_t.requires_grad else x_t.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(measure(x_t, u_t).sum(), x_t, create_graph=keep)
        strength = math.sqrt((1 - alpha) / alpha) * scale / (2 * eps / 3)
        return -strength * slope

    return shift

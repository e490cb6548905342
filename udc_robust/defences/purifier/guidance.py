"""What keeps a purified image near its input: optional callables for the sampler.

All have a price: whatever pulls toward the input pulls toward its perturbation. Low frequencies that are anchored pass
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

Shift = Callable[[Tensor, Tensor, float, Tensor, Tensor], Tensor]
"""``(x_t, u_t, abar, x_0, u) -> shift``, in units of the step's variance: the noisy image, the input under its own
noise of that level, the level's abar, the clean estimate, and the input."""

View = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""What a network makes of images in [0,1]: features ``(B,...)``, and scores ``(B,K)`` where it is a classifier."""


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

    def shift(x_t: Tensor, u_t: Tensor, alpha: float, *clean: Tensor) -> Tensor:
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            x_t = x_t if x_t.requires_grad else x_t.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(measure(x_t, u_t).sum(), x_t, create_graph=keep)
        strength = math.sqrt((1 - alpha) / alpha) * scale / (2 * eps / 3)
        return -strength * slope

    return shift


def agdm(view: View, scale: float, classes: float = 0.0) -> Shift:
    """Pull the clean estimate toward the input in the features of a robust network (after AGDM, arXiv 2403.16067).

    The pull is ``grad (classes sum_c p_c(u) log p_c(x_0) - scale |f(x_0) - f(u)|^2)``, features as a mean of squares
    for each image. The paper's network knows the noise level and looks at ``x_t``; where ours was trained on clean
    images it looks at the clean estimate, whose slope is taken for ``1 / sqrt(abar)``: the predicted noise for a
    constant. Strength and layer are not published. The second-order gradient is kept where gradients are on.

    Args:
        view: of a network that was trained adversarially.
        scale: weight of the features' distance; ``classes`` of the likelihood of the input's own classes.
    """

    def agreement(x_0: Tensor, u: Tensor) -> Tensor:
        (features, scores), (its_features, its_scores) = view((x_0 + 1) / 2), view((u + 1) / 2)
        found = -scale * (features - its_features).square().flatten(1).mean(1)
        if classes and scores is not None and its_scores is not None:
            found = found + classes * (its_scores.softmax(1) * scores.log_softmax(1)).sum(1)
        return found

    def shift(x_t: Tensor, u_t: Tensor, alpha: float, x_0: Tensor, u: Tensor) -> Tensor:
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            x_0 = x_0 if x_0.requires_grad else x_0.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(agreement(x_0, u).sum(), x_0, create_graph=keep)
        return slope / math.sqrt(alpha)

    return shift

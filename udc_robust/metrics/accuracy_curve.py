"""Accuracy and quality as functions of the size of a perturbation, and the area under them.

The axis is what an attack really changed, not what it was allowed to change. Curves never rise: what broke an image
stays valid under every larger budget.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor


def top_k_correct(scores: Tensor, labels: Tensor, k: int) -> Tensor:
    """Whether the label ``(B,)`` is among the ``k`` best scores ``(B,K)``; always, where there are no more classes."""
    return (scores.topk(min(k, scores.shape[1]), 1).indices == labels[:, None]).any(1)


def breaking_distances(distances: Tensor, broken: Tensor, clean_broken: Tensor | None = None) -> Tensor:
    """The smallest change known to break each image: ``(B,)``, infinite where none does.

    Args:
        distances: ``(R,B)`` measured size of the change in each of R attacks: budgets, methods or restarts.
        broken: ``(R,B)`` whether it broke the image.
        clean_broken: ``(B,)`` images that need no change.
    """
    found = torch.where(broken, distances, torch.inf).amin(0)
    return found if clean_broken is None else torch.where(clean_broken, 0.0, found)


def holds(breaking: Tensor, size: float) -> Tensor:
    """Whether no change of ``size`` or less is known to break each image ``(B,)``.

    An attack of exactly that budget must count: distances are sums of float32, and differences of values near 1 are off
    by 6e-8, which is 8e-6 of 2/255.
    """
    return breaking > size * (1 + 1e-6) + 1e-6


def accuracy_curve(breaking: Tensor, eps: Sequence[float]) -> list[float]:
    """Share of images that no change of size ``eps`` or less is known to break, for each ``eps``; it never rises.

    One run of a minimum-norm attack (C&W, DDN) gives all of it, and so does a grid of budgets through
    `breaking_distances`.
    """
    return [float(holds(breaking, size).double().mean()) for size in eps]


def area_under(eps: Sequence[float], values: Sequence[float]) -> float:
    """Mean height of a curve over its eps, by the trapezoidal rule: AUAC of accuracies (Bouniot et al. 2021).

    Of PSNR or SSIM it is the quality analogue, in their units.

    Raises:
        ValueError: eps that do not begin at 0 and rise (without 0 the best part of the curve would be missing), or
            values that are not finite.
    """
    if len(eps) != len(values) or len(eps) < 2:
        raise ValueError(f"an area needs as many values as eps, two at least, not {len(values)} and {len(eps)}")
    if eps[0] != 0 or any(not a < b for a, b in itertools.pairwise(eps)):
        raise ValueError(f"eps must begin with 0 (the clean images) and rise, not {list(eps)}")
    if not all(math.isfinite(value) for value in (*eps, *values)):
        raise ValueError(f"values must be finite, not {list(values)}")
    heights, places = (torch.tensor(list(numbers), dtype=torch.float64) for numbers in (values, eps))
    return float(torch.trapezoid(heights, places) / eps[-1])

"""The smallest change that breaks an image, by way of the norm itself: one run gives a whole curve over eps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from udc_robust.attacks.gradient import begin
from udc_robust.attacks.methods import method
from udc_robust.attacks.oracle import Oracle
from udc_robust.attacks.threat import L2, Threat, norms

_TINY = 1e-12


@method("gradient", norms=("l2",), keeps_best=False, unbounded=True)
def ddn(
    oracle: Oracle,
    x: Tensor,
    threat: Threat,
    *,
    steps: int = 100,
    initial_norm: float = 1.0,
    gamma: float = 0.05,
    levels: int = 256,
) -> Tensor:
    """DDN, decoupled direction and norm (Rony et al. 2019).

    The change turns towards the gradient, by steps that fall from 1 to 0.01 along a cosine; its norm, ``initial_norm``
    at first, shrinks by ``gamma`` while the image is broken and grows by it while it is not. The smallest change that
    broke an image is returned, or the most damaging image seen where none did.

    The paper climbs the cross-entropy; the margin points at the nearest boundary and ends closer to it.

    Args:
        levels: changed images are rounded to so many, as the paper does: 256 are those of a PNG. 1 leaves them as they
            are.
    """
    closest, shortest = oracle.best_x, torch.full((len(x),), torch.inf).to(x)
    largest = torch.linalg.vector_norm(torch.maximum(x - threat.low, threat.high - x).flatten(1), dim=1)
    norm = torch.full_like(shortest, initial_norm)
    x_adv = begin(oracle, x, L2(min(initial_norm, threat.eps), threat.low, threat.high))
    delta = x_adv - x
    for i in range(steps):
        gradient, _, broken = oracle.answer(x_adv)
        distance = norms(x_adv - x).flatten()
        nearer = broken & (distance < shortest)
        shortest = torch.where(nearer, distance, shortest)
        closest = torch.where(nearer.view(-1, 1, 1, 1), x_adv, closest)
        size = 0.01 + 0.99 * (1 + math.cos(math.pi * i / steps)) / 2
        delta = delta + size * gradient / norms(gradient).clamp_min(_TINY)
        norm = torch.minimum(norm * torch.where(broken, 1 - gamma, 1 + gamma), largest)
        delta = delta * (norm.view(-1, 1, 1, 1) / norms(delta).clamp_min(_TINY))
        x_adv = _rounded(threat.project(x, x + delta), threat, levels)
        delta = x_adv - x
    return torch.where(shortest.isinf().view(-1, 1, 1, 1), oracle.best_x, closest)


def _rounded(x: Tensor, threat: Threat, levels: int) -> Tensor:
    if levels == 1:
        return x
    span = threat.high - threat.low
    return torch.round((x - threat.low) / span * (levels - 1)) / (levels - 1) * span + threat.low

"""The weight that makes a training look at what attacks break most."""

from __future__ import annotations

import torch
from torch import Tensor


def focal_mean(losses: Tensor, focal: float) -> Tensor:
    """Mean of losses ``(B,)`` with the weights ``(1 - exp(-loss))^focal``; the plain mean at 0 (after TAFL, ICPR 2020).

    TAFL weights few-shot tasks; here a task is one attacked image. The weights take no gradient and have a mean of 1,
    so that the learning rate keeps its meaning.
    """
    if not focal:
        return losses.mean()
    weights = (-torch.expm1(-losses.detach().clamp_min(0))) ** focal
    return (weights * losses).sum() / weights.sum().clamp_min(1e-12)

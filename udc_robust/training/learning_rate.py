"""The learning rate of a training, and the average of its weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Schedule(Protocol):
    """What a config says about the learning rate: ``lr`` at its peak, ``warmup`` and ``steps`` in optimiser steps."""

    @property
    def lr(self) -> float: ...  # noqa: D102

    @property
    def warmup(self) -> int: ...  # noqa: D102

    @property
    def steps(self) -> int: ...  # noqa: D102


def learning_rate(step: int, config: Schedule) -> float:
    """Linear warm-up, then a half cosine down to 1 % of ``lr``."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return config.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def moving_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Exponential moving average for ``AveragedModel`` that forgets the random start: early decays are smaller."""

    @torch.no_grad()
    def average(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        early = (1 + int(count)) / (10 + int(count))
        torch._foreach_lerp_(list(averaged), list(current), 1 - min(decay, early))

    return average

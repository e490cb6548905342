"""Gradients through a purifier, beside those of any defence (`defences.defence`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from udc_robust.defences.defence import Defence, value_of


@dataclass(frozen=True)
class Checkpointed:
    """Through every step, each computed again in the backward pass: about a third more time."""

    exactness: ClassVar[str] = "exact"
    memory: ClassVar[str] = "activations of one step, and one image a step and sample"

    def __call__(self, defence: Defence, x: Tensor, noise: Tensor) -> Tensor:
        """Purify with one checkpoint a step."""
        return defence(x, noise, run=_checkpoint)


def _checkpoint(step: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    # A step draws nothing (its noise is an argument), so no random state has to be kept.
    return checkpoint(step, *tensors, use_reentrant=False, preserve_rng_state=False)


@dataclass(frozen=True)
class Surrogate:
    """Back through a shorter chain from the same noise (after Lee & Kim 2023); forward through the whole one.

    To attack as cheaply as they do, attack a purifier of fewer steps and judge on the long one.
    """

    steps: int = 1
    exactness: ClassVar[str] = "approximate: gradient of a shorter chain"
    memory: ClassVar[str] = "activations of the shorter chain's steps of all samples"

    def __call__(self, defence: Defence, x: Tensor, noise: Tensor) -> Tensor:
        """Purify, with the gradient of ``steps`` deterministic steps."""
        value = value_of(defence, x, noise)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return value
        short = defence(x, noise, steps=self.steps)
        return value + (short - short.detach())

"""How a gradient crosses a purifier: an object handed to the victim, not a fork of the attack.

Whatever the way back, the way forward is the purifier's own: an attack's values are always those of the defence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from udc_robust.defences.purify import Purifier


class Crossing(Protocol):
    """A way for the gradient.

    Attributes:
        exactness: what the gradient is, for the report.
        memory: what is kept for the backward pass, for the report.
    """

    exactness: ClassVar[str]
    memory: ClassVar[str]

    def __call__(self, purifier: Purifier, x: Tensor, noise: Tensor) -> Tensor:
        """Purify ``x``; the gradient goes back as this object says."""
        ...


@dataclass(frozen=True)
class Exact:
    """Through every step of every sample."""

    exactness: ClassVar[str] = "exact"
    memory: ClassVar[str] = "activations of all steps of all samples"

    def __call__(self, purifier: Purifier, x: Tensor, noise: Tensor) -> Tensor:
        """Purify, keeping everything."""
        return purifier(x, noise)


@dataclass(frozen=True)
class Checkpointed:
    """Through every step, each computed again in the backward pass: about a third more time."""

    exactness: ClassVar[str] = "exact"
    memory: ClassVar[str] = "activations of one step, and one image a step and sample"

    def __call__(self, purifier: Purifier, x: Tensor, noise: Tensor) -> Tensor:
        """Purify with one checkpoint a step."""
        return purifier(x, noise, run=_checkpoint)


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

    def __call__(self, purifier: Purifier, x: Tensor, noise: Tensor) -> Tensor:
        """Purify, with the gradient of ``steps`` deterministic steps."""
        value = _value(purifier, x, noise)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return value
        short = purifier(x, noise, steps=self.steps)
        return value + (short - short.detach())


@dataclass(frozen=True)
class StraightThrough:
    """Back as if the purifier were the identity (BPDA, Athalye et al. 2018)."""

    exactness: ClassVar[str] = "approximate: gradient of the identity"
    memory: ClassVar[str] = "nothing of the purifier"

    def __call__(self, purifier: Purifier, x: Tensor, noise: Tensor) -> Tensor:
        """Purify, with the gradient of the identity."""
        return _value(purifier, x, noise) + (x - x.detach())


@torch.no_grad()
def _value(purifier: Purifier, x: Tensor, noise: Tensor) -> Tensor:
    return purifier(x, noise)


class FixedNoise(nn.Module):
    """A purifier whose noise is settled: image in, image out. With a network behind it, it is an attack's victim.

    Example: ``attack(nn.Sequential(FixedNoise(purifier, noise, Checkpointed()), restorer), x, ...)``
    """

    def __init__(self, purifier: Purifier, noise: Tensor, crossing: Crossing | None = None) -> None:
        super().__init__()
        self.purifier, self.noise, self.crossing = purifier, noise, crossing or Exact()

    def forward(self, x: Tensor) -> Tensor:
        """Purify ``(B,C,H,W)`` in [0,1], the very images that the noise was drawn for."""
        return self.crossing(self.purifier, x, self.noise)

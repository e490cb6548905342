"""Threat models: what an attacker may change, as three functions: start, step, project.

``x`` is always the unattacked batch ``(B,C,H,W)``, ``eps`` the budget in the units of ``x``. The box ``[low, high]`` is
the range an image may have in its domain: [0,1] unless it is linear light.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from udc_robust.attacks.streams import Streams

_TINY = 1e-12


def norms(delta: Tensor) -> Tensor:
    """Euclidean norm of each image, shaped to broadcast."""
    return torch.linalg.vector_norm(delta.flatten(1), dim=1).view(-1, 1, 1, 1)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each image's values, shaped to broadcast."""
    return (a * b).flatten(1).sum(1).view(-1, 1, 1, 1)


def unit(direction: Tensor) -> Tensor:
    """Each image's direction with length one."""
    return direction / norms(direction).clamp_min(_TINY)


@dataclass(frozen=True)
class Linf:
    """No value may change by more than ``eps``."""

    eps: float
    low: float = 0.0
    high: float = 1.0
    norm: ClassVar[str] = "linf"

    def start(self, x: Tensor, streams: Streams) -> Tensor:
        """A uniform point of the ball."""
        return self.project(x, x + self.eps * (2 * streams.uniform(x) - 1))

    def noise(self, x: Tensor, streams: Streams) -> Tensor:
        """Random signs of the full budget: the control that has the attack's norm and none of its knowledge."""
        return self.project(x, x + self.eps * streams.signs(x))

    def step(self, x_adv: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """Steepest ascent in this norm."""
        return x_adv + size * gradient.sign()

    def project(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Ball first, box last, in the order (and so to the bit) of torchattacks."""
        return (x + (x_adv - x).clamp(-self.eps, self.eps)).clamp(self.low, self.high)

    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Distance of each image in this norm."""
        return (x_adv - x).abs().flatten(1).amax(1)


@dataclass(frozen=True)
class L2:
    """The Euclidean norm of an image's change stays within ``eps`` (whole image, not per pixel; may be ``inf``)."""

    eps: float
    low: float = 0.0
    high: float = 1.0
    norm: ClassVar[str] = "l2"

    def start(self, x: Tensor, streams: Streams) -> Tensor:
        """A uniform point of the ball: Gaussian direction, radius ``u ** (1/n)``."""
        direction = streams.normal(x)
        radius = streams.uniform(x[:, :1, :1, :1]) ** (1 / x[0].numel())
        return self.project(x, x + self.eps * radius * direction / norms(direction))

    def noise(self, x: Tensor, streams: Streams) -> Tensor:
        """A random direction of the full norm."""
        direction = streams.normal(x)
        return self.project(x, x + self.eps * direction / norms(direction))

    def step(self, x_adv: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """Steepest ascent in this norm."""
        return x_adv + size * gradient / norms(gradient).clamp_min(_TINY)

    def project(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Ball first, box last: the box only shortens the change, so the result is in both."""
        if math.isinf(self.eps):
            return x_adv.clamp(self.low, self.high)
        delta = x_adv - x
        return (x + delta * (self.eps / norms(delta).clamp_min(_TINY)).clamp_max(1)).clamp(self.low, self.high)

    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Distance of each image in this norm."""
        return norms(x_adv - x).flatten()


class Ball(Protocol):
    """What a loop of steps needs of a threat, and of one with less freedom (`within`)."""

    @property
    def eps(self) -> float:
        """The budget."""
        ...

    def start(self, x: Tensor, streams: Streams) -> Tensor:
        """A random point."""
        ...

    def step(self, x_adv: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """Steepest ascent."""
        ...

    def project(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """A point within, near by."""
        ...


class Threat(Ball, Protocol):
    """What an attacker may change: `Linf`, `L2`, or a perceptual distance (`perceptual.Perceptual`)."""

    def __init__(self, eps: float, low: float = 0.0, high: float = 1.0) -> None: ...

    @property
    def norm(self) -> str:
        """In which the budget is stated."""
        ...

    @property
    def low(self) -> float:
        """Least value of an image."""
        ...

    @property
    def high(self) -> float:
        """Largest value of an image."""
        ...

    def noise(self, x: Tensor, streams: Streams) -> Tensor:
        """The control: noise of the full budget."""
        ...

    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Distance of each image in this norm."""
        ...


THREATS: dict[str, type[Threat]] = {"linf": Linf, "l2": L2}
"""By norm; `perceptual` adds its own."""


def round_to_8_bits(threat: Threat, x: Tensor, x_adv: Tensor) -> Tensor:
    """Move each value to a multiple of 1/255 without leaving the ball, so that a PNG can hold the attack.

    Linf: the nearest level inside the interval. Other norms: the change is shrunk until its rounded form fits the
    budget (bisection on the scale). ``x`` itself is returned where it lies on the grid and no other level is in reach.
    Where ``x`` is off the grid and no level lies within eps, the nearest one is taken: the distance that the result
    states is then larger than eps.
    """
    levels = 255.0
    if isinstance(threat, Linf):
        slack = 1e-3  # a budget of exactly k/255 must reach k levels in spite of float32
        lowest = torch.ceil((x - threat.eps) * levels - slack)
        highest = torch.floor((x + threat.eps) * levels + slack)
        rounded = torch.minimum(torch.maximum(torch.round(x_adv * levels), lowest), highest)
        return (torch.where(lowest > highest, torch.round(x * levels), rounded) / levels).clamp(threat.low, threat.high)
    fits, best = torch.zeros(len(x), 1, 1, 1).to(x), torch.round(x * levels) / levels
    too_far = torch.ones_like(fits)
    for step in range(11):
        trial = too_far if step == 0 else (fits + too_far) / 2
        candidate = (torch.round((x + trial * (x_adv - x)) * levels) / levels).clamp(threat.low, threat.high)
        inside = threat.distance(x, candidate).view(-1, 1, 1, 1) <= threat.eps * (1 + 1e-6)
        best = torch.where(inside & (trial >= fits), candidate, best)
        fits, too_far = torch.where(inside, trial, fits), torch.where(inside, too_far, trial)
    return best

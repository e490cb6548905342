"""Colour shifts: one change of each channel for the whole picture."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from udc_robust.attacks.gradient import ascend, begin
from udc_robust.attacks.methods import method
from udc_robust.attacks.oracle import Oracle
from udc_robust.attacks.threat import Threat
from udc_robust.attacks.within import Within


@dataclass(frozen=True)
class Tint(Within):
    """Changes that are the same at every pixel."""

    def keep(self, delta: Tensor) -> Tensor:
        """The mean of each channel."""
        return delta.mean((2, 3), keepdim=True).expand_as(delta)


@method("gradient")
def colour_shift(
    oracle: Oracle, x: Tensor, threat: Threat, *, steps: int = 10, step_size: float | None = None
) -> Tensor:
    """PGD over one shift of each channel: what a wrong white balance can do. `brightness` is its grey axis, untrained.

    Where a pixel is at the end of its range the shift is cut off.
    """
    tint = Tint(threat)
    start = begin(oracle, x, tint, random=True)
    oracle.values(ascend(oracle, x, start, tint, steps=steps, step_size=step_size))
    return oracle.best_x

"""A budget: how large a perturbation may be, in which norm, and how people write it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

NORM_SIGNS = {
    "linf": "L∞", "l2": "L2", "lpips_alex": "LPIPS (AlexNet) of the input",
    "lpips_squeeze": "LPIPS (SqueezeNet) of the input",
}  # fmt: skip


def eps_text(eps: float) -> str:
    """Write eps as people do: ``4/255`` where it is a small multiple of 1/255 or half of one."""
    if math.isinf(eps):
        return "free"
    levels = Fraction(eps * 255).limit_denominator(2)
    readable = 0 < levels <= (64 if levels.denominator == 1 else 4)
    if readable and abs(float(levels) / 255 - eps) < 1e-7:
        return f"{float(levels):g}/255"
    return f"{eps:g}"


def change_column(norm: str) -> str:
    """The column of a table that says how far an attacked image is from the image."""
    return norm if norm in ("linf", "l2") else f"{norm}_of_change"


@dataclass(frozen=True)
class Budget:
    """A norm and its bound.

    Attributes:
        norm: ``linf`` bounds every value of every pixel, ``l2`` the whole image at once, ``lpips_...`` how it looks.
        eps: in the units of the data's domain (LPIPS has its own); infinite for a minimum-norm attack.
    """

    norm: str
    eps: float

    @property
    def sign(self) -> str:
        """The norm as people write it."""
        return NORM_SIGNS[self.norm]

    @property
    def size(self) -> str:
        """Eps in the unit of its norm: a bound on each value in levels, one on the whole image as a number."""
        return eps_text(self.eps) if self.norm == "linf" or math.isinf(self.eps) else f"{self.eps:g}"

    def __str__(self) -> str:
        return f"{self.sign}\N{NO-BREAK SPACE}{self.size}"

    @property
    def limited(self) -> bool:
        """Whether it bounds anything and allows anything."""
        return 0 < self.eps < math.inf

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Whether an attacked image's measured change in this norm lies within the budget.

        The perceptual ones are measured for attacks that are made in them.

        An attack of exactly that budget must count: distances are sums of float32, and differences of values near 1
        are off by 6e-8, which is 8e-6 of 2/255.
        """
        change = row.get(change_column(self.norm))
        return change is not None and change <= self.eps * (1 + 1e-6) + 1e-6


def rising(budgets: Iterable[Budget]) -> list[Budget]:
    """Each budget once, Linf first, then by size."""
    return sorted(set(budgets), key=lambda budget: (budget.norm != "linf", budget.norm, budget.eps))

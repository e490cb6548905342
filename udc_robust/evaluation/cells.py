"""The grid of a run: fixed batches of images, and a cell for each restorer, attack and eps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from urllib.parse import quote

from udc_robust.attacks import METHODS, THREATS, Threat
from udc_robust.config import AttackConfig, EvaluateConfig
from udc_robust.restorers.light import value_range


@dataclass(frozen=True)
class Cell:
    """One attack at one budget."""

    attack: AttackConfig
    eps: float

    @property
    def key(self) -> str:
        """Name of the cell in seeds, units and file names."""
        return quote(f"{self.attack.label}-{self.attack.norm}-{eps_text(self.eps).replace('/', '_')}", safe="")

    def threat(self, domain: str) -> Threat:
        """The threat model, in the box of the data's domain."""
        low, high = value_range(domain)
        return THREATS[self.attack.norm](self.eps, low, high)


def eps_text(eps: float) -> str:
    """Write eps as people do: ``4/255`` where it is a small multiple of 1/255 or half of one."""
    if math.isinf(eps):
        return "free"
    levels = Fraction(eps * 255).limit_denominator(2)
    readable = 0 < levels <= (64 if levels.denominator == 1 else 4)
    if readable and abs(float(levels) / 255 - eps) < 1e-7:
        return f"{float(levels):g}/255"
    return f"{eps:g}"


def cells(config: EvaluateConfig) -> list[Cell]:
    """All cells of a run in order; a minimum-norm attack without eps gets the one cell of an unlimited budget."""
    found = []
    for attack in config.attacks:
        free = METHODS[attack.method].unbounded and attack.eps is None
        budgets = [math.inf] if free else attack.eps if attack.eps is not None else config.eps
        found += [Cell(attack, eps) for eps in budgets]
    return found


def batches(sizes: Sequence[tuple[int, int]], batch_size: int) -> Iterator[list[int]]:
    """Group neighbouring images of one size; fixed by the run, so that resuming recomputes whole batches."""
    batch: list[int] = []
    for i, size in enumerate(sizes):
        if batch and (len(batch) == batch_size or size != sizes[batch[0]]):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch

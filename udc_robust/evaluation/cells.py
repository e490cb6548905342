"""The grid of a run: fixed batches of images, and a cell for each victim, attack, access and eps."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol
from urllib.parse import quote

from udc_robust.attacks import METHODS, THREATS, Threat
from udc_robust.config import AttackConfig, DefenceConfig
from udc_robust.optics.domains import value_range

ACCESSES = ("blind", "bpda", "surrogate", "adaptive")


class Budgeted(Protocol):
    """The part of a run's config that cells are made of."""

    @property
    def attacks(self) -> Sequence[AttackConfig]:
        """The attacks."""

    @property
    def eps(self) -> Sequence[float]:
        """Budgets of attacks that name none."""


@dataclass(frozen=True)
class Cell:
    """One attack at one budget.

    Attributes:
        access: what the attacker has of the victim: ``none`` (noise), ``query``, ``gradient`` (of a bare restorer), or
            what a gradient attack knows of a defence (see `AttackConfig.access`).
    """

    attack: AttackConfig
    eps: float
    access: str

    @property
    def label(self) -> str:
        """Name of the attack in tables, with what it knows of a defence."""
        return f"{self.attack.label} {self.access}" if self.access in ACCESSES else self.attack.label

    @property
    def key(self) -> str:
        """Name of the cell in units and file names."""
        return self.seed_key + (f"-{self.access}" if self.access in ACCESSES else "")

    @property
    def seed_key(self) -> str:
        """Name of the cell in seeds: attacks that differ in their access only begin at the same points."""
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


def cells(config: Budgeted, defence: DefenceConfig, ways: Collection[str] = (), random: bool = False) -> list[Cell]:
    """All cells of one defence in order; a minimum-norm attack without eps gets the one cell of an unlimited budget.

    Args:
        defence: what stands before the network.
        ways: gradients that it has (``gradients``); none for the bare network.
        random: whether it is random: only then there are seeds to know.
    """
    found = []
    for attack in config.attacks:
        if (attack.defences is not None and defence.label not in attack.defences) or (attack.known_seed and not random):
            continue
        free = METHODS[attack.method].unbounded and attack.eps is None
        budgets = [math.inf] if free else attack.eps if attack.eps is not None else config.eps
        found += [Cell(attack, eps, access) for eps in budgets for access in _accesses(attack, defence, ways)]
    return found


def _accesses(attack: AttackConfig, defence: DefenceConfig, ways: Collection[str]) -> list[str]:
    method = METHODS[attack.method].access
    if method != "gradient" or defence.kind == "none":
        return [method]
    return [access for access in attack.access or ["adaptive"] if access == "blind" or access in ways]


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

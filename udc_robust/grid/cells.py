"""The cells of a run: one for each attack, access and eps that a victim meets; and its fixed batches of images."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from udc_robust.attacks import THREATS, Threat
from udc_robust.defences.config import DefenceConfig
from udc_robust.files import file_part
from udc_robust.grid.attack_schema import AttackConfig
from udc_robust.grid.budget import Budget, eps_text
from udc_robust.grid.network import Network
from udc_robust.optics.domains import value_range

ACCESSES = ("blind", "bpda", "surrogate", "adaptive")
"""What a gradient attack may know of a defence."""


@dataclass(frozen=True)
class Cell:
    """One attack at one budget.

    Attributes:
        access: what the attacker has of the victim: ``none`` (noise), ``query``, ``output`` (answers and truths),
            ``gradient`` (of a bare network), or what a gradient attack knows of a defence (see `AttackConfig.access`).
        sources: the networks that the attacker has instead of the victim; a network is never its own source.
    """

    attack: AttackConfig
    eps: float
    access: str
    sources: Sequence[Network] = field(default=(), compare=False)

    @property
    def label(self) -> str:
        """Name of the attack in tables, with what it knows of a defence."""
        return f"{self.attack.label} {self.access}" if self.access in ACCESSES else self.attack.label

    @property
    def key(self) -> str:
        """Name of the cell in units and file names."""
        return self.seed_key + (f"-{self.access}" if self.access in ACCESSES else "")

    @property
    def title(self) -> str:
        """For people who wait."""
        return f"{self.label} {eps_text(self.eps)}"

    @property
    def seed_key(self) -> str:
        """Name of the cell in seeds: attacks that differ in their access only begin at the same points."""
        return file_part(f"{self.attack.label}-{self.attack.norm}-{eps_text(self.eps).replace('/', '_')}")

    @property
    def budget(self) -> Budget:
        """What it may change."""
        return Budget(self.attack.norm, self.eps)

    @property
    def jitter(self) -> float:
        """Deviation of the noise that the attacker explores with: only where it follows a defence's own gradient."""
        return self.attack.jitter if self.access in ("bpda", "surrogate", "adaptive") else 0.0

    def threat(self, domain: str) -> Threat:
        """The threat model, in the box of the data's domain."""
        low, high = value_range(domain)
        return THREATS[self.attack.norm](self.eps, low, high)


def cells(
    attacks: Sequence[AttackConfig],
    run_eps: Sequence[float],
    defence: DefenceConfig,
    gradients: Collection[str] = (),
    random: bool = False,
) -> list[Cell]:
    """All cells of one defence in order; a minimum-norm attack without eps gets the one cell of an unlimited budget.

    Args:
        run_eps: budgets of attacks that name none.
        defence: what stands before the network.
        gradients: those that it has, by access; none for the bare network.
        random: whether it is random: only then there are seeds to know.
    """
    found = []
    for attack in attacks:
        if (attack.defences is not None and defence.label not in attack.defences) or (attack.known_seed and not random):
            continue
        free = attack.chosen.unbounded and attack.eps is None
        budgets = [math.inf] if free else attack.eps if attack.eps is not None else run_eps
        found += [Cell(attack, eps, access) for eps in budgets for access in _accesses(attack, defence, gradients)]
    return found


def _accesses(attack: AttackConfig, defence: DefenceConfig, gradients: Collection[str]) -> list[str]:
    method = attack.chosen.access
    if attack.is_transfer:
        return ["transfer"]
    if method != "gradient" or defence.kind == "none":
        return [method]
    return [access for access in attack.access or ["adaptive"] if access == "blind" or access in gradients]


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

"""Published figures beside ours: as printed, ours against attackers who ignore the defence, ours against the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from udc_robust.grid.budget import Budget
from udc_robust.grid.published import Figure, PublishedConfig, System, systems
from udc_robust.grid.task import Row
from udc_robust.grid.victims import victim_label
from udc_robust.report.panel import Outcome, Panel
from udc_robust.report.run_folder import Run

_KIN = {"pgd": ("pgd", "apgd")}
"""Attacks of ours that stand for a paper's: Auto-PGD is PGD that sets its own step sizes."""
THEIRS, BLIND, KNOWING = "published (their data)", "ours (our data, blind)", "ours, knowing attacker"


@dataclass(frozen=True)
class Beside:
    """One system and a victim of ours.

    Attributes:
        rows: name and figures, in the order of the system's; None where the run has no such attack.
    """

    system: System
    said: PublishedConfig
    panel: Panel
    rows: Sequence[tuple[str, Sequence[float | None]]]

    @property
    def budget(self) -> Budget:
        """Of ours."""
        return Budget("linf", self.said.eps)


def beside(runs: Sequence[Run], panels: Sequence[Panel]) -> list[Beside]:
    """A table for each ``published`` block of each run and every data block of it."""
    return [
        _beside(systems()[said.system], said, panel)
        for run in runs
        for said in run.config.published
        for panel in panels
        if panel.folder == run.path and victim_label(panel.network, panel.defence) == said.victim
    ]


def _beside(system: System, said: PublishedConfig, panel: Panel) -> Beside:
    def ours(knows: bool) -> list[float | None]:
        return [_ours(panel, figure, said.eps, knows) for figure in system.figures]

    theirs: list[float | None] = [figure.value for figure in system.figures]
    return Beside(system, said, panel, [(THEIRS, theirs), (BLIND, ours(False)), (KNOWING, ours(True))])


def _ours(panel: Panel, figure: Figure, eps: float, knows: bool) -> float | None:
    """The least that attacks of a kind leave; an unattacked image knows nothing of who knows what."""
    if figure.attack == "clean":
        return _mean(panel.clean_rows, figure)
    met = [
        outcome for outcome in panel.outcomes
        if outcome.counts and _climbs(outcome, figure.attack) and _is_of(outcome, eps) and _is_blind(outcome) != knows
    ]  # fmt: skip
    return min((mean for outcome in met if (mean := _mean(outcome.rows, figure)) is not None), default=None)


def _climbs(outcome: Outcome, attack: str) -> bool:
    made = outcome.cell.attack
    if attack == "lpips":
        return "lpips" in made.objective
    return made.method in _KIN.get(attack, (attack,)) and made.objective in made.plain_objectives


def _is_of(outcome: Outcome, eps: float) -> bool:
    same = math.isclose(outcome.cell.eps, eps, rel_tol=1e-5)  # tables have seven digits
    return not outcome.budget.limited or (outcome.budget.norm == "linf" and same)


def _is_blind(outcome: Outcome) -> bool:
    return outcome.cell.access in ("blind", "transfer")


def _mean(rows: Sequence[Row], figure: Figure) -> float | None:
    values = [row.get(figure.figure) for row in rows]
    return None if None in values else figure.factor * fmean(values)  # type: ignore[arg-type]


COLUMNS = ("system", "paper", "data", "victim", "eps", "figure", "unit", "published", "blind", "knowing")


def rows(found: Sequence[Beside]) -> list[dict[str, Any]]:
    """A row for each published figure."""
    return [
        {
            "system": one.said.system, "paper": one.system.paper, "data": one.panel.data, "victim": one.said.victim,
            "eps": one.said.eps, "figure": figure.head, "unit": figure.unit, "published": theirs, "blind": blind,
            "knowing": knowing,
        }
        for one in found
        for figure, theirs, blind, knowing in zip(
            one.system.figures, *(figures for _, figures in one.rows), strict=True
        )
    ]  # fmt: skip

"""A defence by who attacks it: who does not know it, who attacks other networks, who asks, and who knows it.

Papers on purification measure the first only: attacks that never saw the purifier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from udc_robust.grid.budget import Budget
from udc_robust.grid.statistics import Interval
from udc_robust.report.comparison import Comparison, attacker, gains_over
from udc_robust.report.panel import Outcome, Panel
from udc_robust.report.words import difference
from udc_robust.report.worst import Worst, held, worst_by_image

KINDS: Mapping[str, tuple[str, ...]] = {
    "unknowing": ("blind",),
    "transfer": ("transfer",),
    "query": ("query", "output"),
    "knowing": ("gradient", "bpda", "surrogate", "adaptive", "jitter"),
}
"""Attackers as people speak of them: by the kinds of `comparison.ATTACKERS`."""


@dataclass(frozen=True)
class Against:
    """What a victim holds against one kind of attacker, and the gain over the baseline under the same kind.

    An attacker who does not know a defence attacks the bare network: the baseline is then under its own white box.
    """

    quality: float
    gain: float | None
    interval: Interval


@dataclass(frozen=True)
class Row:
    """A victim, by `KINDS`; None where no such attacker met it."""

    panel: Panel
    clean: float
    against: Mapping[str, Against | None]


@dataclass(frozen=True)
class Attackers:
    """The victims of one comparison at one budget."""

    comparison: Comparison
    budget: Budget
    rows: Sequence[Row]

    @property
    def sentence(self) -> str:
        """By how much the unknowing attacker flatters the defence that gains most in his eyes."""
        seen = [row for row in self.rows if row.against["unknowing"] and row.against["knowing"]]
        flattered = [row for row in seen if row.against["unknowing"].gain is not None]  # type: ignore[union-attr]
        if not flattered:
            return ""
        row = max(flattered, key=lambda one: one.against["unknowing"].gain)  # type: ignore[union-attr, return-value, arg-type]
        blind, knowing = row.against["unknowing"], row.against["knowing"]
        assert blind is not None and knowing is not None and blind.gain is not None and knowing.gain is not None
        metric = self.comparison.metric
        return (
            f"Against attacks that never saw it {row.panel.label} seems to {'gain' if blind.gain >= 0 else 'lose'} "
            f"{difference(metric, blind.gain)}; against who knows it {difference(metric, knowing.gain)} "
            f"{'more' if knowing.gain >= 0 else 'less'} than nothing are left."
        )


def attackers(found: Sequence[Comparison]) -> list[Attackers]:
    """A table for each comparison and budget at which somebody attacked without knowing a defence."""
    made = []
    for comparison in found:
        panels, baseline = comparison.panels, comparison.baseline
        for budget in comparison.shared_budgets:
            kinds = {kind for panel in panels for o in panel.outcomes if (kind := _kind(o, budget))}
            if baseline is not None and "unknowing" in kinds:
                floor = {kind: _worst(baseline, budget, kind) for kind in KINDS}
                floor["unknowing"] = floor["knowing"]
                rows = [_row(panel, baseline, floor, budget) for panel in panels]
                made.append(Attackers(comparison, budget, rows))
    return made


def _kind(outcome: Outcome, budget: Budget) -> str | None:
    """What people call who made an attack, where it counts at the budget."""
    if not outcome.counts or outcome.budget != budget:
        return None
    return next((kind for kind, ways in KINDS.items() if attacker(outcome) in ways), None)


def _worst(panel: Panel, budget: Budget, kind: str) -> Mapping[str, Worst] | None:
    """By image, or None where no such attacker met the victim."""
    if not any(_kind(outcome, budget) == kind for outcome in panel.outcomes):
        return None
    wanted: Callable[[Outcome], bool] = lambda outcome: attacker(outcome) in KINDS[kind]  # noqa: E731
    return worst_by_image(panel, budget, wanted)


def _row(panel: Panel, baseline: Panel, floor: Mapping[str, Mapping[str, Worst] | None], budget: Budget) -> Row:
    against: dict[str, Against | None] = {}
    for kind in KINDS:
        worst, before = _worst(panel, budget, kind), floor[kind]
        if worst is None:
            against[kind] = None
            continue
        gains = gains_over(panel.task.quality, worst, before) if before and panel is not baseline else {}
        mean = fmean(gains.values()) if gains else None
        against[kind] = Against(held(worst), mean, panel.interval(gains) if gains else None)
    return Row(panel, fmean(panel.figures(panel.clean_rows).values()), against)


COLUMNS = ("data", "metric", "family", "victim", "kind", "budget", "clean", "attacker", "held", "gain", "gain_low",
           "gain_high")  # fmt: skip


def rows(found: Sequence[Attackers]) -> list[dict[str, Any]]:
    """A row a victim and attacker, for ``report.attackers.csv``."""
    return [
        {
            "data": table.comparison.data, "metric": table.comparison.metric.name, "family": table.comparison.family,
            "victim": row.panel.label, "kind": row.panel.kind, "budget": str(table.budget), "clean": row.clean,
            "attacker": kind, "held": one.quality, "gain": one.gain, "gain_low": (one.interval or (None, None))[0],
            "gain_high": (one.interval or (None, None))[1],
        }
        for table in found
        for row in table.rows
        for kind, one in row.against.items()
        if one is not None
    ]  # fmt: skip

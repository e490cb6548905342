"""Before and after: victims of the same images side by side, image by image, ranked by what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from udc_robust.grid.budget import Budget, rising
from udc_robust.grid.statistics import Interval
from udc_robust.metrics import Metric
from udc_robust.report.panel import Panel
from udc_robust.report.worst import attacked_at, worst_by_image


@dataclass(frozen=True)
class Change:
    """How a figure of one victim differs from the first victim's: the mean over images they share, at 95 %."""

    value: float
    difference: float | None
    interval: Interval


@dataclass(frozen=True)
class Pair:
    """One victim beside the first: unattacked, under noise and under the worst attack of a budget."""

    panel: Panel
    clean: Change
    noise: Change | None
    held: Change


@dataclass(frozen=True)
class Pairing:
    """Bare networks on the same images at the largest budget that all of them met, the best under attack first.

    Attributes:
        before: the label of the victim that the others are compared with.
    """

    data: str
    before: str
    metric: Metric
    budget: Budget
    pairs: Sequence[Pair]

    @property
    def verdict(self) -> str:
        """Who holds most, and what that costs."""
        from udc_robust.report.words import difference, figure

        best = self.pairs[0]
        held = figure(self.metric, best.held.value)
        told = f"At {self.budget} {best.panel.label} holds most: {held}"
        if best.held.difference is None:
            rival = self.pairs[1]
            behind = rival.held.difference or 0.0
            return f"{told}; {rival.panel.label} holds {difference(self.metric, behind)} {self.metric.more(behind)}."
        word = "more" if best.held.difference >= 0 else "less"
        told += f", {difference(self.metric, best.held.difference)} {word} than {self.before}"
        if best.clean.difference is None:
            return f"{told}, with the same clean {self.metric.title}."
        cost = "for" if self.metric.better(best.clean.difference, 0.0) <= 0 else "with a gain of"
        return f"{told}, {cost} {difference(self.metric, best.clean.difference)} of clean {self.metric.title}."


def of_runs(panels: Sequence[Panel]) -> list[Pairing]:
    """Those of several runs; a run by itself has no before."""
    return pairings(panels) if len({panel.folder for panel in panels}) > 1 else []


def pairings(panels: Sequence[Panel]) -> list[Pairing]:
    """One for each data block on which several bare networks met a budget; the first of them is "before".

    Those that share no image with it are left out.
    """
    found = []
    for data in dict.fromkeys(panel.data for panel in panels):
        bare = [panel for panel in panels if panel.data == data and panel.is_bare and panel.has_truth]
        same = [panel for panel in bare if _images(panel) & _images(bare[0])]
        budgets = rising(set.intersection(*map(attacked_at, same))) if len(same) > 1 else []
        if budgets:
            linf = [budget for budget in budgets if budget.norm == "linf"] or budgets
            found.append(_pairing(data, same, linf[-1]))
    return found


def _images(panel: Panel) -> set[str]:
    return {row["image"] for row in panel.clean_rows}


def _pairing(data: str, panels: Sequence[Panel], budget: Budget) -> Pairing:
    before = panels[0]
    pairs = [_pair(panel, before, budget) for panel in panels]
    pairs.sort(key=lambda pair: before.task.quality.better(0.0, pair.held.value))
    return Pairing(data, before.label, before.task.quality, budget, pairs)


def _pair(panel: Panel, before: Panel, budget: Budget) -> Pair:
    noise = [_noise(one, budget) for one in (panel, before)]
    return Pair(
        panel,
        _change(panel, *(one.figures(one.clean_rows) for one in (panel, before))),
        _change(panel, noise[0], noise[1]) if noise[0] and noise[1] else None,
        _change(panel, *({i: w.figure for i, w in worst_by_image(one, budget).items()} for one in (panel, before))),
    )


def _noise(panel: Panel, budget: Budget) -> dict[str, float]:
    found = next((o for o in panel.outcomes if o.is_noise and o.budget == budget), None)
    return {} if found is None else panel.figures(found.rows)


def _change(panel: Panel, after: dict[str, float], before: dict[str, float]) -> Change:
    gaps = {image: after[image] - before[image] for image in after if image in before}
    same = after == before
    return Change(
        fmean(after.values()),
        None if same or not gaps else fmean(gaps.values()),
        None if same else panel.interval(gaps),
    )


COLUMNS = (
    "data", "metric", "victim", "before", "budget", "clean", "clean_change", "noise", "noise_change", "held",
    "held_change", "held_low", "held_high",
)  # fmt: skip


def rows(found: Sequence[Pairing]) -> list[dict[str, Any]]:
    """For ``report.paired.csv``."""
    return [
        {
            "data": pairing.data, "metric": pairing.metric.name, "victim": pair.panel.label,
            "before": pairing.before, "budget": str(pairing.budget),
            "clean": pair.clean.value, "clean_change": pair.clean.difference,
            "noise": pair.noise.value if pair.noise else None,
            "noise_change": pair.noise.difference if pair.noise else None,
            "held": pair.held.value, "held_change": pair.held.difference,
            "held_low": pair.held.interval[0] if pair.held.interval else None,
            "held_high": pair.held.interval[1] if pair.held.interval else None,
        }
        for pairing in found
        for pair in pairing.pairs
    ]  # fmt: skip

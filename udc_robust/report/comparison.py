"""What each victim holds under the worst attack on each image, and what that is more than its baseline's.

The baseline of a defence is the network without it; that of a fine-tuned network is its parent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from udc_robust.grid.budget import Budget, rising
from udc_robust.grid.cells import ACCESSES
from udc_robust.grid.statistics import Interval
from udc_robust.metrics import Metric
from udc_robust.report.panel import Outcome, Panel
from udc_robust.report.worst import Worst, attacked_at, held, strongest, worst_by_image

ATTACKERS = ("gradient", *ACCESSES, "jitter", "output", "query", "transfer")
"""What kinds of attackers there are: by their access, or ``jitter`` for gradients at several places near by."""


CAPS = ("brightness", "smooth_field")
"""Attacks that no restorer which keeps brightness can refuse: what they leave of a network caps what it could hold."""


@dataclass(frozen=True)
class Held:
    """What a victim holds at one budget, as people read it: the mean over images of the worst over attacks.

    Attributes:
        interval: of the mean, at 95 %.
        noise: what random noise of the budget leaves; None where the run has none.
        by: what each kind of attacker leaves, see `ATTACKERS`.
        gain: over the baseline, image by image; ``gain_interval`` at 95 %. None for the baseline itself.
        cap: what constant and smooth shifts alone leave of the baseline, which nothing faithful to brightness can
            refuse; None where the run has none.
        share: of what can be closed, ``(held - undefended) / (cap - undefended)``.
        strongest: the attack that is the worst on most images.
        worst: by image.
    """

    quality: float
    interval: Interval
    noise: float | None
    by: Mapping[str, float]
    gain: float | None
    gain_interval: Interval
    cap: float | None
    share: float | None
    strongest: str
    worst: Mapping[str, Worst]

    @property
    def blind(self) -> float | None:
        """What it seems to hold against an attacker who does not know the defence; None for a bare network."""
        return self.by.get("blind")


@dataclass(frozen=True)
class Standing:
    """One victim: its clean quality, what that costs against the baseline, and what it holds at each budget.

    Attributes:
        held: by budget, in the order of the table's columns; None where the victim was not attacked.
    """

    panel: Panel
    clean: float
    clean_interval: Interval
    cost: float
    held: Sequence[Held | None]

    def at(self, place: int) -> Held:
        """What it holds at a budget at which it was attacked."""
        found = self.held[place]
        assert found is not None
        return found


@dataclass(frozen=True)
class Comparison:
    """All victims of one family on one data block, the baseline first."""

    data: str
    family: str
    budgets: Sequence[Budget]
    standings: Sequence[Standing]

    @property
    def metric(self) -> Metric:
        """The figure that is held."""
        return self.standings[0].panel.task.quality

    @property
    def panels(self) -> list[Panel]:
        """Of the victims."""
        return [standing.panel for standing in self.standings]

    @property
    def baseline(self) -> Panel | None:
        """The undefended network, where the run has it."""
        return next((panel for panel in self.panels if panel.is_baseline), None)

    @property
    def shared(self) -> list[int]:
        """Places of the budgets at which every victim was attacked."""
        return [i for i in range(len(self.budgets)) if all(standing.held[i] for standing in self.standings)]

    @property
    def shared_budgets(self) -> list[Budget]:
        """The budgets at which every victim was attacked."""
        return [self.budgets[place] for place in self.shared]


def comparisons(panels: Sequence[Panel]) -> list[Comparison]:
    """One for each data block and family of a run, where answers are measured against a target."""
    groups: dict[tuple[str, str, str], list[Panel]] = {}
    for panel in panels:
        groups.setdefault((str(panel.folder), panel.data, panel.family), []).append(panel)
    found = []
    for (_, data, family), group in groups.items():
        baseline = next((panel for panel in group if panel.is_baseline), None)
        if group[0].has_truth:
            group = sorted(group, key=lambda panel: panel is not baseline)
            budgets = rising(budget for panel in group for budget in attacked_at(panel))
            found.append(Comparison(data, family, budgets, [_standing(p, baseline, budgets) for p in group]))
    return found


def unmade(panels: Sequence[Panel]) -> list[str]:
    """Why victims are in no comparison, or in one without a baseline."""
    blind = [panel.data for panel in panels if not panel.has_truth]
    found = [f"{data} has no ground truth: what a defence gains there cannot be told." for data in dict.fromkeys(blind)]
    lone = {(panel.data, panel.family) for panel in panels if panel.has_truth}
    lone -= {(panel.data, panel.family) for panel in panels if panel.is_baseline}
    return found + [
        f"{family} without a defence is not in this run, so no gain over it can be told: add `none` to its defences."
        for _, family in sorted(lone)
    ]


def _standing(panel: Panel, baseline: Panel | None, budgets: Sequence[Budget]) -> Standing:
    clean = panel.figures(panel.clean_rows)
    before = fmean((clean if baseline is None else baseline.figures(baseline.clean_rows)).values())
    found = [_held(panel, baseline, budget) for budget in budgets]
    mean = fmean(clean.values())
    return Standing(panel, mean, panel.interval(clean), panel.task.quality.better(before, mean), found)


def _held(panel: Panel, baseline: Panel | None, budget: Budget) -> Held | None:
    here = [o for o in panel.outcomes if o.budget == budget]
    rivals = [o for o in here if o.counts]
    if not rivals:
        return None
    worst = worst_by_image(panel, budget)
    by = {
        kind: held(worst_by_image(panel, budget, wanted=lambda o, kind=kind: attacker(o) == kind))  # type: ignore[misc]
        for kind in dict.fromkeys(map(attacker, rivals))
    }
    gains = (
        {}
        if baseline is None or baseline is panel
        else gains_over(panel.task.quality, worst, worst_by_image(baseline, budget))
    )
    floor = panel if baseline is None else baseline
    cap = capped(floor, budget)
    return Held(
        quality=held(worst),
        interval=panel.interval({image: one.figure for image, one in worst.items()}),
        noise=next((o.left for o in here if o.is_noise), None),
        by=by,
        gain=fmean(gains.values()) if gains else None,
        gain_interval=panel.interval(gains) if gains else None,
        cap=cap,
        share=None if cap is None or not gains else share_closed(floor, budget, fmean(gains.values()), cap),
        strongest=strongest(worst),
        worst=worst,
    )


def capped(panel: Panel, budget: Budget) -> float | None:
    """What attacks that need no gradient leave of a victim: a constant shift, a smooth field."""

    def shifts(outcome: Outcome) -> bool:
        return outcome.cell.attack.method in CAPS

    found = any(shifts(outcome) and outcome.counts and outcome.budget == budget for outcome in panel.outcomes)
    return held(worst_by_image(panel, budget, shifts)) if found else None


def share_closed(baseline: Panel, budget: Budget, gain: float, cap: float) -> float | None:
    """Which part of the gap between the undefended network and its cap a gain is; None where there is no gap."""
    metric = baseline.task.quality
    gap = metric.better(cap, held(worst_by_image(baseline, budget)))
    return gain / gap if gap > metric.scale.large else None


def gains_over(metric: Metric, worst: Mapping[str, Worst], floor: Mapping[str, Worst]) -> dict[str, float]:
    """By how much each image of one victim is better than that of another."""
    return {image: metric.better(worst[image].figure, floor[image].figure) for image in worst if image in floor}


def attacker(outcome: Outcome) -> str:
    """What kind of attacker it is, see `ATTACKERS`."""
    return "jitter" if outcome.cell.jitter else outcome.cell.access


COLUMNS = (
    "data", "metric", "family", "victim", "kind", "role", "nfe", "clean", "cost", "norm", "eps", "budget", "held",
    "held_low", "held_high", "noise", "gain", "gain_low", "gain_high", "cap", "share", *ATTACKERS, "strongest",
)  # fmt: skip


def rows(found: Sequence[Comparison]) -> list[dict[str, Any]]:
    """All victims at all budgets, for a table."""
    return [
        {
            "data": comparison.data, "metric": comparison.metric.name, "family": comparison.family,
            "victim": standing.panel.label, "kind": standing.panel.kind, "role": standing.panel.role,
            "nfe": standing.panel.nfe, "clean": standing.clean, "cost": standing.cost, "norm": budget.norm,
            "eps": budget.eps, "budget": str(budget), "held": one.quality, "noise": one.noise, "gain": one.gain,
            "cap": one.cap, "share": one.share,
            "strongest": one.strongest, **_ends("held", one.interval), **_ends("gain", one.gain_interval),
            **{kind: one.by.get(kind) for kind in ATTACKERS},
        }
        for comparison in found
        for standing in comparison.standings
        for budget, one in zip(comparison.budgets, standing.held, strict=True)
        if one is not None
    ]  # fmt: skip


def _ends(name: str, interval: Interval) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}

"""The one rule of "worst": an attack counts at every budget that its measured change fits.

Whatever it was made for, an image within 4/255 of the original is an attack of 4/255. So what a victim holds never
rises with eps, and it is at most its clean quality: an attacker may also do nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from udc_robust.grid.budget import Budget, rising
from udc_robust.grid.task import Row
from udc_robust.metrics import Metric
from udc_robust.report.panel import Outcome, Panel

UNTOUCHED = "no attack"
Wanted = Callable[[Outcome], bool]


@dataclass(frozen=True)
class Worst:
    """The worst that any attack makes of one image.

    Attributes:
        figure: in the unit that people read.
        attacks: those that leave it, or `UNTOUCHED` where none does harm.
    """

    figure: float
    attacks: tuple[str, ...]


def worst_by_image(panel: Panel, budget: Budget, wanted: Wanted = lambda outcome: True) -> dict[str, Worst]:
    """For each image what is left of it at a budget, in the figure that the panel is judged by.

    Args:
        wanted: which of the attacks count.
    """
    metric = panel.task.quality
    found = {row["image"]: Worst(metric.factor * row[metric.name], (UNTOUCHED,)) for row in panel.clean_rows}
    for outcome in panel.outcomes:
        if outcome.counts and wanted(outcome):
            for row in outcome.rows:
                if budget.fits(row):
                    found[row["image"]] = _worse(found[row["image"]], row, outcome.cell.label, metric)
    return found


def _worse(before: Worst, row: Row, attack: str, metric: Metric) -> Worst:
    figure = metric.factor * row[metric.name]
    lead = metric.better(figure, before.figure)
    if lead < 0:
        return Worst(figure, (attack,))
    # Many attacks may turn a right answer into a wrong one.
    tied = lead == 0 and UNTOUCHED not in before.attacks and attack not in before.attacks
    return Worst(figure, (*before.attacks, attack)) if tied else before


def held(worst: Mapping[str, Worst]) -> float:
    """The mean over images."""
    return fmean(one.figure for one in worst.values())


def strongest(worst: Mapping[str, Worst]) -> str:
    """The attack that is the worst on most images."""
    names = Counter(name for one in worst.values() for name in one.attacks if name != UNTOUCHED)
    return max(names, key=lambda name: (names[name], name)) if names else UNTOUCHED


def attacked_at(panel: Panel, wanted: Wanted = lambda outcome: True) -> set[Budget]:
    """The limited budgets at which attacks were made on a victim."""
    return {o.budget for o in panel.outcomes if o.counts and o.budget.limited and wanted(o)}


def is_blind(outcome: Outcome) -> bool:
    """Whether the attack was made without the defence."""
    return outcome.cell.access == "blind"


def curve(panel: Panel, budgets: Sequence[Budget], wanted: Wanted = lambda outcome: True) -> list[float]:
    """What is held at rising budgets of one norm."""
    return [held(worst_by_image(panel, budget, wanted)) for budget in budgets]


def strongest_outcomes(panel: Panel) -> list[Outcome]:
    """The attack that leaves least on average at each limited budget, by norm and rising eps."""
    best: dict[Budget, Outcome] = {}
    for outcome in panel.outcomes:
        if outcome.counts and outcome.budget.limited:
            rival = best.setdefault(outcome.budget, outcome)
            best[outcome.budget] = outcome if outcome.quality.better(rival.left, outcome.left) > 0 else rival
    return [best[budget] for budget in rising(best)]


def hardest(panel: Panel) -> list[Outcome]:
    """The same at the largest budget of each norm."""
    return list({outcome.budget.norm: outcome for outcome in strongest_outcomes(panel)}.values())

"""The area under quality over eps: one number for a victim over all budgets.

Bouniot et al. (2021) take the area under a classifier's accuracy (AUAC); here it is any figure, each image under the
worst of all attacks whose change fits a budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from udc_robust.grid.budget import NORM_SIGNS, Budget, rising
from udc_robust.metrics.accuracy_curve import area_under
from udc_robust.report.panel import Panel
from udc_robust.report.worst import Wanted, attacked_at, curve, is_blind


@dataclass(frozen=True)
class Area:
    """One victim, averaged over eps from 0 to the largest of the budgets that all these victims met, and over images.

    Attributes:
        quality: under the worst attack on each image; ``blind``: of those who do not know the defence; ``noise``: under
            noise alone. None where a budget has none.
        others: the same of the task's other figures, each under the attack that is the worst for it.
    """

    panel: Panel
    budgets: Sequence[Budget]
    quality: float
    blind: float | None
    noise: float | None
    others: Mapping[str, float]


def areas(panels: Sequence[Panel]) -> list[Area]:
    """One for each victim and norm that met two budgets or more, over those that all such victims on the data met.

    Against targets only. Attacks that were told a random defence's seed do not count, nor do unlimited budgets.
    """
    found = []
    for data in dict.fromkeys(panel.data for panel in panels if panel.has_truth):
        same = [panel for panel in panels if panel.data == data and panel.has_truth]
        for norm in NORM_SIGNS:
            met = {panel.label: {b for b in attacked_at(panel) if b.norm == norm} for panel in same}
            several = [panel for panel in same if len(met[panel.label]) > 1]
            budgets = rising(set.intersection(*(met[panel.label] for panel in several))) if several else []
            if len(budgets) > 1:
                found += [_area(panel, budgets) for panel in several]
    return found


def _area(panel: Panel, budgets: Sequence[Budget]) -> Area:
    blind = set(budgets) <= attacked_at(panel, is_blind)
    others = {m.name: _under(panel.judged_by(m), budgets) for m in panel.metrics if panel.has(m)}
    return Area(
        panel, budgets, _under(panel, budgets), _under(panel, budgets, wanted=is_blind) if blind else None,
        _noise(panel, budgets), others,
    )  # fmt: skip


def _under(panel: Panel, budgets: Sequence[Budget], wanted: Wanted = lambda outcome: True) -> float:
    start = curve(panel, [Budget(budgets[0].norm, 0.0)], lambda outcome: False)
    return area_under([0.0, *(b.eps for b in budgets)], [*start, *curve(panel, budgets, wanted)])


def _noise(panel: Panel, budgets: Sequence[Budget]) -> float | None:
    left = {o.budget: o.left for o in panel.outcomes if o.is_noise}
    if not set(budgets) <= set(left):
        return None
    clean = sum(map(panel.figure, panel.clean_rows)) / len(panel.clean_rows)
    return area_under([0.0, *(b.eps for b in budgets)], [clean, *(left[b] for b in budgets)])


def columns(found: Sequence[Area]) -> list[str]:
    """Of ``report.areas.csv``."""
    others = dict.fromkeys(name for area in found for name in area.others)
    return ["data", "victim", "norm", "eps", "budgets", "quality", "blind", "noise", *others]


def rows(found: Sequence[Area]) -> list[dict[str, Any]]:
    """Of ``report.areas.csv``."""
    return [
        {
            "data": area.panel.data, "victim": area.panel.label, "norm": area.budgets[0].sign,
            "eps": area.budgets[-1].eps, "budgets": len(area.budgets), "quality": area.quality, "blind": area.blind,
            "noise": area.noise, **area.others,
        }
        for area in found
    ]  # fmt: skip

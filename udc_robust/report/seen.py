"""Whether detectors see the attacks on what a victim was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from udc_robust.grid.statistics import Interval
from udc_robust.grid.tables import SEEN
from udc_robust.metrics.detection import auroc, auroc_interval
from udc_robust.report.panel import Outcome, Panel


@dataclass(frozen=True)
class Sight:
    """What a detector makes of one attack.

    Attributes:
        area: AUROC of the attacked images against the same ones unattacked; ``interval`` at 95 %.
        flagged: share of the attacked images that it flags at 5 % false alarms.
    """

    outcome: Outcome
    area: float
    interval: Interval
    flagged: float


@dataclass(frozen=True)
class Seen:
    """One detector beside one victim.

    Attributes:
        alarms: share of the unattacked images that it flags.
    """

    panel: Panel
    detector: str
    alarms: float
    sights: Sequence[Sight]


def seen(panels: Sequence[Panel]) -> list[Seen]:
    """Every detector of every victim."""
    return [
        _seen(panel, column)
        for panel in panels
        for column in panel.clean_rows[0]
        if column.startswith(SEEN) and all(row[column] is not None for row in panel.clean_rows)
    ]


def _seen(panel: Panel, column: str) -> Seen:
    clean = {row["image"]: row[column] for row in panel.clean_rows}
    sights = []
    for outcome in panel.outcomes:
        after, before = [row[column] for row in outcome.rows], [clean[row["image"]] for row in outcome.rows]
        scenes = [panel.scenes.get(row["image"], row["image"]) for row in outcome.rows]
        sights.append(Sight(outcome, auroc(after, before), auroc_interval(after, before, scenes), _flagged(after)))
    return Seen(panel, column.removeprefix(SEEN), _flagged(list(clean.values())), sights)


def _flagged(scores: Sequence[float]) -> float:
    return fmean(score > 1 for score in scores)


COLUMNS = ("data", "victim", "detector", "attack", "norm", "eps", "auroc", "auroc_low", "auroc_high", "flagged_5")


def rows(found: Sequence[Seen]) -> list[dict[str, Any]]:
    """A row for each detector and attack, and one of false alarms."""
    made: list[dict[str, Any]] = []
    for one in found:
        names = {"data": one.panel.data, "victim": one.panel.label, "detector": one.detector}
        made.append({**names, "attack": "clean", "flagged_5": one.alarms})
        for sight in one.sights:
            low, high = sight.interval or (None, None)
            made.append({
                **names, "attack": sight.outcome.cell.label, "norm": sight.outcome.budget.norm,
                "eps": sight.outcome.cell.eps, "auroc": sight.area, "auroc_low": low, "auroc_high": high,
                "flagged_5": sight.flagged,
            })  # fmt: skip
    return made

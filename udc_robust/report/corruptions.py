"""Threats that nobody aims, in tables: what each victim keeps of its quality by corruption and severity.

They stand beside the attacks and count in no "worst": chance is no adversary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from udc_robust.grid.statistics import Interval
from udc_robust.grid.tables import mean_of
from udc_robust.grid.task import Row
from udc_robust.metrics import Metric
from udc_robust.report.panel import Panel
from udc_robust.report.words import figure

NAMES = ("corruption", "family", "place", "severity")


@dataclass(frozen=True)
class Kept:
    """What a victim keeps under one corruption in one severity, the mean over images, as people read it.

    Attributes:
        drop: from its quality on the images as they are; None for changed scenes, which have truths of their own.
        given: quality of the changed input itself, where the task knows one.
        share: of the largest drop of the table, 0 to 1.
    """

    quality: float
    interval: Interval
    drop: float | None
    given: float | None
    share: float

    @property
    def useless(self) -> bool:
        """Whether the input was better before the network had it."""
        return self.given is not None and self.quality < self.given


@dataclass(frozen=True)
class Table:
    """One victim on the images of one data block.

    Attributes:
        rows: corruption, its family, place, and what is kept at each of ``severities`` (None: not tried).
        means: over all corruptions of a place, at each severity that all of them were tried in.
    """

    panel: Panel
    metric: Metric
    clean: float
    severities: Sequence[int]
    rows: Sequence[tuple[str, str, str, Sequence[Kept | None]]]
    means: Mapping[str, Sequence[float | None]]

    def verdict(self) -> str:
        """What chance does to the victim after the optics, and whether it still helps there."""
        after = [(kind, s, kept) for kind, _, place, cells in self.rows if place == "after"
                 for s, kept in zip(self.severities, cells, strict=True) if kept is not None]  # fmt: skip
        if not after:
            return ""
        kind, severity, worst = min(after, key=lambda cell: cell[2].quality)
        mean = fmean(kept.quality for _, _, kept in after)
        start = f"Of {figure(self.metric, self.clean)} it" if self.panel.has_truth else "It"
        words = [
            f"{start} keeps {figure(self.metric, mean)} on average over all corruptions of the capture, and "
            f"{figure(self.metric, worst.quality)} under the worst, {words_of(kind)} {severity}."
        ]
        if any(kept.given is not None for _, _, kept in after):
            useless = sum(kept.useless for _, _, kept in after)
            words.append(f"In {useless} of {len(after)} cases the capture was better before the network had it.")
        return " ".join(words)


def words_of(name: str) -> str:
    """A corruption as people write it."""
    return name.replace("_", " ")


def tables(panels: Sequence[Panel]) -> list[Table]:
    """One for each victim that was shown corruptions."""
    return [_table(panel) for panel in panels if panel.corruptions]


def _table(panel: Panel) -> Table:
    metric, cells = panel.task.quality, _cells(panel)
    clean = fmean(panel.figure(row) for row in panel.clean_rows) if panel.has_truth else None
    drops = {key: _drop(panel, key, rows, clean) for key, rows in cells.items()}
    most = max((drop for drop in drops.values() if drop is not None), default=0.0)
    found = {key: _kept(panel, rows, drops[key], most) for key, rows in cells.items()}
    severities = sorted({key[3] for key in found})
    kinds = list(dict.fromkeys(key[:3] for key in found))
    listed = [(*kind, [found.get((*kind, severity)) for severity in severities]) for kind in kinds]
    places = dict.fromkeys(kind[2] for kind in kinds)
    means = {place: [_mean([r[3][i] for r in listed if r[2] == place]) for i in range(len(severities))]
             for place in places}  # fmt: skip
    return Table(panel, metric, fmean(map(panel.figure, panel.clean_rows)), severities, listed, means)


def _cells(panel: Panel) -> dict[tuple[str, str, str, int], list[Row]]:
    """The rows of each corruption, place and severity: those of the capture first, kinds of one family together."""
    found: dict[tuple[str, str, str, int], list[Row]] = {}
    for row in panel.corruptions:
        key = (row["corruption"], row["family"], row["place"], int(row["severity"]))
        found.setdefault(key, []).append(row)
    return {key: found[key] for key in sorted(found, key=lambda key: (key[2], key[1], key[0], key[3]))}


def _drop(panel: Panel, key: tuple[str, str, str, int], rows: Sequence[Row], clean: float | None) -> float | None:
    return None if key[2] == "before" or clean is None else clean - fmean(map(panel.figure, rows))


def _kept(panel: Panel, rows: Sequence[Row], drop: float | None, most: float) -> Kept:
    figures = panel.figures(rows)
    given = mean_of([row.get(f"{panel.task.quality.name}_input") for row in rows])
    share = max(drop, 0) / most if drop is not None and most > 0 else 0.0
    factor = panel.task.quality.factor
    return Kept(
        fmean(figures.values()), panel.interval(figures), drop, None if given is None else factor * given, share
    )


def _mean(kept: Sequence[Kept | None]) -> float | None:
    return None if None in kept else fmean(one.quality for one in kept if one is not None)


def columns(found: Sequence[Table]) -> list[str]:
    """Of ``report.corruptions.csv``."""
    more = dict.fromkeys(name for table in found for name in _figures(table.panel.corruptions))
    return ["data", "victim", *NAMES, "images", "quality", "low", "high", "drop", "input", *more]


def rows(found: Sequence[Table]) -> list[dict[str, Any]]:
    """Of ``report.corruptions.csv``: quality as people read it, and the means of all figures as in the run's tables."""
    made = []
    for table in found:
        kept = {(*row[:3], s): one for row in table.rows for s, one in zip(table.severities, row[3], strict=True)}
        for key, members in _cells(table.panel).items():
            one = kept[key]
            assert one is not None
            low, high = one.interval or (None, None)
            made.append(
                {"data": table.panel.data, "victim": table.panel.label, **dict(zip(NAMES, key, strict=True))}
                | {"images": len(members), "quality": one.quality, "low": low, "high": high, "drop": one.drop}
                | {"input": one.given}
                | {name: mean_of([row[name] for row in members]) for name in _figures(members)}
            )
    return made


def _figures(rows: Sequence[Row]) -> list[str]:
    """The columns of figures, by name."""
    no_figures = {"severity", "draws", "nfe", "label", "answer", "height", "width", "channels", "eot"}
    return [
        name for name in rows[0] if name not in no_figures and all(isinstance(row[name], float | None) for row in rows)
    ]

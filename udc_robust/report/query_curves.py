"""Damage over queries: what attacks that only ask leave after so many questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from udc_robust.grid.budget import rising
from udc_robust.report.drawing import MARKER_SIGNS, MARKERS, SERIES, Axis, Line, Plot, axis_title, in_words, svg_of
from udc_robust.report.panel import Outcome, Panel


def query_plots(panels: Sequence[Panel], prefix: str) -> list[Plot]:
    """A plot for each data block and budget, with a curve for each victim and attack that asks.

    Args:
        prefix: of ids, unique in a page.
    """
    made: list[Plot] = []
    for data in dict.fromkeys(panel.data for panel in panels):
        asking = [(p, o) for p in panels if p.data == data for o in p.outcomes if o.asked]
        for budget in rising(outcome.budget for _, outcome in asking):
            here = [(panel, outcome) for panel, outcome in asking if outcome.budget == budget]
            made.append(_plot(data, str(budget), here, f"{prefix}-{len(made)}"))
    return made


def _plot(data: str, budget: str, asking: Sequence[tuple[Panel, Outcome]], prefix: str) -> Plot:
    victims = list(dict.fromkeys(panel.label for panel, _ in asking))
    names = list(dict.fromkeys(outcome.cell.label for _, outcome in asking))
    lines = []
    for panel, outcome in asking:
        place, name = victims.index(panel.label), outcome.cell.label
        points = curve(outcome)
        lines.append(Line(f"{panel.label}, {name}", place, names.index(name), points))
        if outcome.noise_left is not None:
            ends = [(x, outcome.noise_left) for x in (points[0][0], points[-1][0])]
            lines.append(Line("", place, None, ends, 1.0, True))
    metric = asking[0][0].task.quality
    texts = {x: f"{x:,.0f}" for x in sorted({x for line in lines for x, _ in line.points})}
    words = {x: f"{text} queries" for x, text in texts.items()}
    ticks = {x: text for x, text in texts.items() if text.replace(",", "").rstrip("0") in ("1", "5")}
    axis = Axis("queries", ticks, "log")
    svg = svg_of(lines, axis, axis_title(metric.title, metric.unit), prefix)
    colours = [(i % len(SERIES), "", label) for i, label in enumerate(victims)]
    markers = [(MARKER_SIGNS[i % len(MARKERS)], name) for i, name in enumerate(names)]
    return Plot(
        data, f"{budget}, after so many queries", svg, in_words(lines, words), colours, markers,
        "noise of the norm of the whole attack",
    )  # fmt: skip


def curve(outcome: Outcome) -> list[tuple[float, float]]:
    """Mean quality over images after each number of queries; an image that took fewer keeps its last."""
    by_image: dict[str, dict[float, float]] = {}
    for row in outcome.asked:
        by_image.setdefault(row["image"], {})[row["queries"]] = outcome.quality.factor * row[outcome.quality.name]
    first = max(min(asked) for asked in by_image.values())
    counts = sorted({count for asked in by_image.values() for count in asked if count >= first})
    return [(count, fmean(_until(asked, count) for asked in by_image.values())) for count in counts]


def _until(asked: Mapping[float, float], count: float) -> float:
    """The quality after the last recorded number of queries up to ``count``."""
    return asked[max(known for known in asked if known <= count)]

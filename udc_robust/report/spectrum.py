"""The gain spectrum: what each band of spatial frequencies does with the whole budget."""

from __future__ import annotations

from collections.abc import Sequence

from udc_robust.grid.budget import rising
from udc_robust.report.drawing import MARKER_SIGNS, MARKERS, SERIES, Axis, Line, Plot, axis_title, in_words, svg_of
from udc_robust.report.panel import Outcome, Panel

_FEWEST = 3


def spectrum_plots(panels: Sequence[Panel], prefix: str) -> list[Plot]:
    """A plot for each data block and budget with at least three bands, with a curve for each victim and access.

    Args:
        prefix: of ids, unique in a page.
    """
    made: list[Plot] = []
    for data in dict.fromkeys(panel.data for panel in panels):
        mine = [panel for panel in panels if panel.data == data]
        for budget in rising(o.budget for panel in mine for o in panel.outcomes if is_band(o)):
            lines = [line for i, panel in enumerate(mine) for line in _lines(panel, i, str(budget))]
            if lines:
                made.append(_plot(mine[0], str(budget), lines, f"{prefix}-{len(made)}"))
    return made


def is_band(outcome: Outcome) -> bool:
    """Whether it is an attack in a band, which has its place in the spectrum."""
    return outcome.cell.attack.method == "band_pgd"


def _lines(panel: Panel, place: int, budget: str) -> list[Line]:
    """The quality that each band leaves, over the middle of the band, for each access."""
    found: dict[str, list[tuple[float, float]]] = {}
    for outcome in panel.outcomes:
        if is_band(outcome) and str(outcome.budget) == budget:
            low, high = edges(outcome)
            found.setdefault(outcome.cell.access, []).append(((low + high) / 2, outcome.left))
    return [
        Line(panel.label if len(found) == 1 else f"{panel.label}, {access}", place, marker, sorted(points))
        for marker, (access, points) in enumerate(found.items())
        if len(points) >= _FEWEST
    ]


def edges(outcome: Outcome) -> tuple[float, float]:
    """Where its band begins and ends, as shares of the Nyquist frequency."""
    return outcome.options["low"], outcome.options["high"]


def _plot(panel: Panel, budget: str, lines: Sequence[Line], prefix: str) -> Plot:
    metric = panel.task.quality
    places = sorted({x for line in lines for x, _ in line.points})
    ticks = {share / 4: f"{share / 4:g}" for share in range(5)}
    axis = Axis("spatial frequency, middle of the band, of Nyquist's", ticks, "linear")
    svg = svg_of(lines, axis, axis_title(metric.title, metric.unit), prefix)
    colours = [
        (line.place % len(SERIES), MARKER_SIGNS[(line.marker or 0) % len(MARKERS)], line.label) for line in lines
    ]
    words = {x: f"{x:.2f} of Nyquist" for x in places}
    return Plot(panel.data, f"{budget}, what each band leaves", svg, in_words(lines, words), colours)

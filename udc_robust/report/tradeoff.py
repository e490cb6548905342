"""What robustness costs: each victim's unattacked figure against what it holds, with the cap."""

from __future__ import annotations

from collections.abc import Sequence

from udc_robust.report.comparison import Comparison
from udc_robust.report.drawing import INK, MARKER_SIGNS, MARKERS, SERIES, Plot, axis_title, drawing, inline, quiet
from udc_robust.report.words import number

_FEWEST = 3
"""Victims; of two the table says as much."""


def tradeoff_plots(title: str, comparisons: Sequence[Comparison], prefix: str) -> list[Plot]:
    """One plot at the largest budget at which all victims were attacked; none for fewer than three.

    Args:
        prefix: of its ids, unique in a page.
    """
    shared = [budget for budget in comparisons[0].budgets if all(budget in c.shared_budgets for c in comparisons)]
    standings = [(c, standing) for c in comparisons for standing in c.standings]
    if not shared or len(standings) < _FEWEST:
        return []
    budget = shared[-1]
    found = [(standing.panel, standing.clean, standing.at(c.budgets.index(budget))) for c, standing in standings]
    quality = comparisons[0].metric
    caps = sorted({held.cap for _, _, held in found if held.cap is not None})
    with drawing(prefix):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.6, 3.7), layout="constrained")
        axes = figure.add_subplot()
        for cap in caps:
            axes.axhline(cap, color=INK, linestyle="--", linewidth=1.2)
        for place, (panel, clean, held) in enumerate(found):
            colour = SERIES[place % len(SERIES)]
            axes.plot(
                clean, held.quality, color=colour, marker=MARKERS[place % len(MARKERS)], markersize=8,
                markerfacecolor="none" if panel.is_control else colour, linestyle="",
            )  # fmt: skip
        axes.set_xlabel(axis_title(f"{quality.title}, unattacked", quality.unit), color=INK)
        axes.set_ylabel(axis_title(f"{quality.title}, held", quality.unit), color=INK)
        quiet(axes)
        svg = inline(figure, prefix)
    digits = quality.digits
    alt = "; ".join(
        f"{panel.label}: {number(clean, digits)} unattacked, {number(held.quality, digits)} held"
        for panel, clean, held in found
    )
    colours = [
        (place % len(SERIES), MARKER_SIGNS[place % len(MARKERS)], panel.label + " (control)" * panel.is_control)
        for place, (panel, _, _) in enumerate(found)
    ]
    note = f"unattacked against held at {budget}"
    return [Plot(title, note, svg, alt, colours, dashes="cap: shifts of brightness alone" if caps else "")]

"""How a drop is spread over the images: whether all lose some, or a few lose much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import numpy as np

from udc_robust.grid.budget import NORM_SIGNS
from udc_robust.report.drawing import INK, SERIES, Plot, drawing, inline, quiet
from udc_robust.report.panel import Outcome, Panel
from udc_robust.report.words import number
from udc_robust.report.worst import hardest

_FEWEST_IMAGES, _MOST_BINS = 4, 24


def drop_plots(panels: Sequence[Panel], prefix: str) -> list[Plot]:
    """One for each data block and norm: victims under their strongest attack at its largest budget.

    Only for figures that fall by degrees, measured against a target, on four images or more.

    Args:
        prefix: of ids, unique in a page.
    """
    labels = list(dict.fromkeys(panel.label for panel in panels))
    made: list[Plot] = []
    for data in dict.fromkeys(panel.data for panel in panels):
        for norm in NORM_SIGNS:
            found = [
                (panel, outcome, values)
                for panel in panels
                if panel.data == data and panel.has_truth and panel.task.quality.unit != "%"
                for outcome in hardest(panel)
                if outcome.budget.norm == norm and len(values := drops(panel, outcome)) >= _FEWEST_IMAGES
            ]
            if found:
                made.append(_plot(found, labels, f"{prefix}-{len(made)}"))
    return made


def drops(panel: Panel, outcome: Outcome) -> list[float]:
    """What an attack took from each image; those that it cannot be told of (identical ones) are left out."""
    clean = {row["image"]: panel.figure(row) for row in panel.clean_rows}
    values = [clean[row["image"]] - panel.figure(row) for row in outcome.rows]
    return [value for value in values if math.isfinite(value)]


def _plot(found: Sequence[tuple[Panel, Outcome, list[float]]], labels: Sequence[str], prefix: str) -> Plot:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    quality = found[0][0].task.quality
    everything = [value for _, _, values in found for value in values]
    bins = min(_MOST_BINS, max(6, 2 * math.isqrt(len(everything))))
    edges = np.histogram_bin_edges(everything, bins=bins)
    with drawing(prefix):
        figure = Figure(figsize=(5.6, 3.7), layout="constrained")
        axes = figure.add_subplot()
        colors = [SERIES[labels.index(panel.label) % len(SERIES)] for panel, _, _ in found]
        axes.hist([values for _, _, values in found], edges.tolist(), color=colors, rwidth=0.85)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(f"drop, {quality.unit}".rstrip(", "), color=INK)
        axes.set_ylabel("images", color=INK)
        quiet(axes)
        svg = inline(figure, prefix)
    budgets = dict.fromkeys(str(outcome.budget) for _, outcome, _ in found)
    alt = "; ".join(
        f"{panel.label}: {number(min(values), 1)} to {number(max(values), 1)} {quality.unit}, half of {len(values)} "
        f"images over {number(median(values), 1)}"
        for panel, _, values in found
    )
    colours = [(labels.index(panel.label) % len(SERIES), "", panel.label) for panel, _, _ in found]
    return Plot(found[0][0].data, f"images by their drop at {', '.join(budgets)}", svg, alt, colours)

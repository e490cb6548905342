"""Curves of accuracy over eps, as SVG that takes its colours from the page around it."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from udc_robust.evaluation.cells import eps_text
from udc_robust.evaluation.classifying.robust import Standing, breaking
from udc_robust.evaluation.curves import INK, MARKER_SIGNS, MARKERS, SERIES, inline, quiet
from udc_robust.evaluation.run_folder import NORM_SIGNS
from udc_robust.evaluation.verdict import number
from udc_robust.metrics.accuracy_curve import accuracy_curve, area_under


@dataclass(frozen=True)
class Plot:
    """One plot of one data block.

    Attributes:
        svg, alt: the plot, and the plot in words.
        victims: (colour index, marker, label), the label with the area under the curve where that is told.
        noise: whether there are dashed curves of random noise.
    """

    title: str
    svg: str
    alt: str
    victims: list[tuple[int, str, str]]
    noise: bool


Line = tuple[int, Standing, list[float], list[float]]
"""Place of a victim in the legend, the victim, sizes and accuracies in percent."""


def plots(found: Sequence[Standing], grid: Sequence[tuple[str, float]], prefix: str) -> list[Plot]:
    """What victims seem to hold and what they hold, for each norm; and the curve of minimum-norm attacks.

    Args:
        prefix: of ids, unique in a page.
    """
    made: list[Plot] = []
    for norm in NORM_SIGNS:
        eps = [size for kind, size in grid if kind == norm]
        if eps:
            blind = [
                (
                    lambda h: h.blind if h.blind is not None else h.accuracy,
                    "what they seem to hold: the defence unknown",
                ),
                (lambda h: h.accuracy, "what they hold under all attacks"),
            ]
            for read, words in blind:
                lines = _over_budgets(found, grid, norm, read)
                title = f"Accuracy over {NORM_SIGNS[norm]}, {words}"
                made.append(_plot(title, lines, [0.0, *eps], norm, f"{prefix}-{len(made)}", _noise(found, grid, norm)))
    free = _minimum_norm(found)
    if free:
        made.append(_plot("Accuracy over the L2 norm that broke an image", free, [], "l2", f"{prefix}-{len(made)}", []))
    return made


def _over_budgets(
    found: Sequence[Standing], grid: Sequence[tuple[str, float]], norm: str, read: Callable[..., float | None]
) -> list[Line]:
    lines: list[Line] = []
    for place, standing in enumerate(found):
        points = [(0.0, standing.clean)]
        for (kind, eps), held in zip(grid, standing.held, strict=True):
            value = read(held) if kind == norm and held is not None else None
            if value is not None:
                points.append((eps, value))
        lines.append((place, standing, [eps for eps, _ in points], [100 * value for _, value in points]))
    return lines


def _noise(found: Sequence[Standing], grid: Sequence[tuple[str, float]], norm: str) -> list[Line]:
    lines = _over_budgets(found, grid, norm, lambda held: held.noise)
    return [line for line in lines if len(line[2]) > 1]


def _minimum_norm(found: Sequence[Standing]) -> list[Line]:
    """One run of an attack without a budget gives the whole curve, in steps."""
    needed = {
        place: sizes for place, standing in enumerate(found)
        if (sizes := breaking(standing.panel, "l2", lambda o: math.isinf(o.cell.eps))) is not None
    }  # fmt: skip
    known = [size for sizes in needed.values() for size in sizes.tolist() if math.isfinite(size)]
    end = max(known, default=0.0)
    if end == 0:
        return []
    axis = [end * i / 200 for i in range(201)]
    return [
        (place, found[place], axis, [100 * share for share in accuracy_curve(sizes, axis)])
        for place, sizes in needed.items()
    ]


def minimum_norm_areas(found: Sequence[Standing]) -> dict[str, float]:
    """Mean accuracy over the curve of minimum-norm attacks, by victim; all over one axis, so that they compare."""
    return {standing.panel.label: area_under(axis, shares) / 100 for _, standing, axis, shares in _minimum_norm(found)}


def _plot(
    title: str, lines: Sequence[Line], ticks: Sequence[float], norm: str, prefix: str, noise: Sequence[Line]
) -> Plot:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix, "font.size": 10}):
        figure = Figure(figsize=(5.6, 3.9), layout="constrained")
        axes = figure.add_subplot()
        for place, _, sizes, shares in noise:
            axes.plot(sizes, shares, color=_colour(place), linestyle="--", linewidth=1, alpha=0.6)
        for place, standing, sizes, shares in lines:
            marker = MARKERS[place % len(MARKERS)] if len(sizes) < 50 else None
            width = 2.2 if standing.panel.kind in ("none", "halftone") else 1.2
            axes.plot(sizes, shares, color=_colour(place), marker=marker, markersize=5, linewidth=width)
        if ticks:
            axes.set_xticks(ticks, ["0", *(eps_text(eps) if norm == "linf" else f"{eps:g}" for eps in ticks[1:])])
        axes.set_xlabel(NORM_SIGNS[norm], color=INK)
        axes.set_ylabel("accuracy (%)", color=INK)
        axes.set_ylim(-2, 102)
        quiet(axes)
        svg = io.StringIO()
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    alt = "; ".join(
        f"{standing.panel.label}: "
        + ", ".join(f"{number(share, 0)} % at {size:.3g}" for size, share in _few(sizes, shares))
        for _, standing, sizes, shares in lines
    )
    victims = [(place % len(SERIES), MARKER_SIGNS[place % len(MARKERS)], s.panel.label) for place, s, *_ in lines]
    return Plot(title, inline(svg.getvalue(), prefix), alt, victims, bool(noise))


def _colour(place: int) -> str:
    return SERIES[place % len(SERIES)]


def _few(sizes: Sequence[float], shares: Sequence[float]) -> list[tuple[float, float]]:
    """At most five points of a curve, for words."""
    step = max((len(sizes) - 1) // 4, 1)
    return list(zip(sizes, shares, strict=True))[::step]

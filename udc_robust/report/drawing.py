"""Drawing curves as SVG that takes its colours from the page around it."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from udc_robust.report.words import number

# Stand-ins that matplotlib can draw with; the page's CSS variables replace them, so that dark mode has its own. The
# page defines the series by Okabe and Ito's colour-blind-safe palette.
SERIES = [f"#0a0b{i:02x}" for i in range(7)]
INK, GRID = "#0a0c00", "#0a0c01"
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
MARKER_SIGNS = ["●", "■", "▲", "◆", "▼", "✚", "✖", "★"]


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        place: of its victim in the legend, which gives the colour; ``marker``: place of its marker, None for none.
        dashed: for controls and noise.
    """

    label: str
    place: int
    marker: int | None
    points: Sequence[tuple[float, float]]
    width: float = 1.8
    dashed: bool = False


@dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
        svg: inline SVG without user text; ``alt``: the plot in words.
        colours, markers: the legend: (colour index, marker, label), and (marker, label). ``dashes``: what dashes mean.
    """

    title: str
    note: str
    svg: str
    alt: str
    colours: list[tuple[int, str, str]]
    markers: list[tuple[str, str]] = field(default_factory=list)
    dashes: str = ""


@dataclass(frozen=True)
class Axis:
    """The horizontal axis.

    Attributes:
        ticks: texts by place.
        spacing: ``even`` (ticks side by side, whatever their values), ``linear`` or ``log``.
    """

    label: str
    ticks: Mapping[float, str]
    spacing: str


def axis_title(title: str, unit: str) -> str:
    """A figure with its unit."""
    return f"{title} ({unit})" if unit else title


def svg_of(lines: Sequence[Line], axis: Axis, title: str, prefix: str) -> str:
    """Inline SVG.

    Args:
        title: of the vertical axis.
        prefix: of ids, unique in a page.
    """
    from matplotlib.figure import Figure

    even = list(axis.ticks) if axis.spacing == "even" else []
    with drawing(prefix):
        figure = Figure(figsize=(5.6, 3.7), layout="constrained")
        axes = figure.add_subplot()
        for line in lines:
            marker = "" if line.marker is None else MARKERS[line.marker % len(MARKERS)]
            axes.plot(
                [even.index(x) if even else x for x, _ in line.points], [y for _, y in line.points],
                color=SERIES[line.place % len(SERIES)], marker=marker, markersize=5, linewidth=line.width,
                linestyle="--" if line.dashed else "-", alpha=0.75 if line.dashed else 1,
            )  # fmt: skip
        if axis.spacing == "log":
            axes.set_xscale("log")
            axes.minorticks_off()
        if axis.ticks:
            axes.set_xticks(range(len(even)) if even else list(axis.ticks), list(axis.ticks.values()))
        axes.set_xlabel(axis.label, color=INK)
        axes.set_ylabel(title, color=INK)
        quiet(axes)
        return inline(figure, prefix)


@contextlib.contextmanager
def drawing(prefix: str) -> Iterator[None]:
    """How matplotlib draws for a page; ``prefix``: of the ids, unique in it."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix, "font.size": 10}):
        yield


def quiet(axes: Any) -> None:
    """A frame that does not compete with the curves."""
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)


def inline(figure: Any, prefix: str) -> str:
    """A figure as SVG fit for a page: no prologue, ids of its own, colours from CSS, as wide as its place."""
    drawn = io.StringIO()
    # No date and no creator: the same run gives the same bytes.
    figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)\bheight="[^"]*"', r'\1 aria-hidden="true"', svg, count=1)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for i, color in enumerate(SERIES):
        svg = svg.replace(color, f"var(--series-{i})")
    return svg.replace(INK, "var(--muted)").replace(GRID, "var(--line)")


def in_words(lines: Sequence[Line], texts: Mapping[float, str]) -> str:
    """A plot in words, each curve with five points at most.

    Args:
        texts: of places on the horizontal axis.
    """
    parts = []
    for line in lines:
        if line.label:
            few = line.points[:: max((len(line.points) - 1) // 4, 1)]
            told = ", ".join(f"{number(y, 1)} at {texts.get(x, f'{x:.3g}')}" for x, y in few)
            parts.append(f"{line.label}: {told}")
    return "; ".join(parts)

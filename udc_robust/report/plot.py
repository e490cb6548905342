"""What the plots of a page share: colours that the page around them chooses, and SVG that fits into it."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

# Stand-ins that matplotlib can draw with; the page's CSS variables replace them, so that dark mode has its own. The
# page defines the series by Okabe and Ito's colour-blind-safe palette.
SERIES = [f"#0a0b{i:02x}" for i in range(7)]
INK, GRID = "#0a0c00", "#0a0c01"


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

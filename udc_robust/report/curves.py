"""Curves of damage over eps, as SVG that takes its colours from the page around it."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from udc_robust.evaluation.bargains import Market
from udc_robust.evaluation.run_folder import NORM_SIGNS, Outcome, Panel, eps_label
from udc_robust.evaluation.verdict import number

# Stand-ins that matplotlib can draw with; the page's CSS variables replace them, so that dark mode has its own. The
# page defines the series by Okabe and Ito's colour-blind-safe palette.
SERIES = [f"#0a0b{i:02x}" for i in range(7)]
INK, GRID = "#0a0c00", "#0a0c01"
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
MARKER_SIGNS = ["●", "■", "▲", "◆", "▼", "✚", "✖", "★"]


@dataclass(frozen=True)
class Curves:
    """One plot: all restorers and attacks on one data block in one norm.

    Attributes:
        svg: inline SVG without user text.
        alt: the plot in words.
        restorers: (colour index, label); ``attacks``: (marker, label).
    """

    data: str
    norm: str
    axis: str
    svg: str
    alt: str
    restorers: list[tuple[int, str]]
    attacks: list[tuple[str, str]]


@dataclass(frozen=True)
class Holds:
    """One plot: what each victim of a market holds over eps.

    Attributes:
        svg, alt: the plot, and the plot in words.
        victims: (colour index, marker, label).
    """

    data: str
    family: str
    norm: str
    svg: str
    alt: str
    victims: list[tuple[int, str, str]]


def hold_curves(markets: Sequence[Market]) -> list[Holds]:
    """A plot for each market and norm: PSNR under the worst attack on each image, from the clean one at eps 0."""
    found: list[Holds] = []
    for market in markets:
        for sign in NORM_SIGNS.values():
            places = [i for i, budget in enumerate(market.budgets) if budget.startswith(sign)]
            if places:
                found.append(_holds(market, sign, places, f"holds{len(found)}"))
    return found


def _holds(market: Market, sign: str, places: Sequence[int], prefix: str) -> Holds:
    import matplotlib
    from matplotlib.figure import Figure

    ticks = ["0", *(market.budgets[i].split("\N{NO-BREAK SPACE}")[1] for i in places)]
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix, "font.size": 10}):
        figure = Figure(figsize=(5.6, 3.9), layout="constrained")
        axes = figure.add_subplot()
        for n, bargain in enumerate(market.bargains):
            held = [math.nan if (h := bargain.held[i]) is None else h.psnr for i in places]
            axes.plot(
                range(len(ticks)), [bargain.clean, *held], color=SERIES[n % len(SERIES)],
                marker=MARKERS[n % len(MARKERS)], markersize=5, linewidth=1.2 if bargain.is_control else 2,
                linestyle="--" if bargain.is_control else "-",
            )  # fmt: skip
        axes.set_xticks(range(len(ticks)), ticks)
        axes.set_xlabel(f"eps, {sign}", color=INK)
        axes.set_ylabel("PSNR (dB)", color=INK)
        quiet(axes)
        svg = io.StringIO()
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    alt = "; ".join(
        f"{b.panel.label}: {number(b.clean, 1)} clean, "
        + ", ".join(f"{number(h.psnr, 1)} at {market.budgets[i]}" for i in places if (h := b.held[i]) is not None)
        for b in market.bargains
    )
    victims = [(n % len(SERIES), MARKER_SIGNS[n % len(MARKERS)], b.panel.label) for n, b in enumerate(market.bargains)]
    return Holds(market.data, market.family, sign, inline(svg.getvalue(), prefix), alt, victims)


def drop_curves(panels: Sequence[Panel]) -> list[Curves]:
    """A plot for each data block and norm that has attacks of a limited budget."""
    labels = list(dict.fromkeys(panel.label for panel in panels))
    found: list[Curves] = []
    for data, truth in dict.fromkeys((panel.data, panel.has_truth) for panel in panels):
        for norm in NORM_SIGNS:
            same = [panel for panel in panels if (panel.data, panel.has_truth) == (data, truth)]
            shown = [panel for panel in same if _attacks(panel, norm)]
            if shown:
                found.append(_curves(shown, norm, labels, f"curves{len(found)}"))
    return found


def _attacks(panel: Panel, norm: str) -> dict[str, list[Outcome]]:
    """The attacks of one norm with their outcomes by rising eps; noise and unlimited budgets are no curves."""
    found: dict[str, list[Outcome]] = {}
    for outcome in sorted(panel.outcomes, key=lambda outcome: outcome.cell.eps):
        cell = outcome.cell
        if cell.attack.norm == norm and not outcome.is_noise and 0 < cell.eps < math.inf:
            found.setdefault(cell.label, []).append(outcome)
    return found


def _curves(panels: Sequence[Panel], norm: str, labels: Sequence[str], prefix: str) -> Curves:
    import matplotlib
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for panel in panels for name in _attacks(panel, norm)))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix, "font.size": 10}):
        figure = Figure(figsize=(5.6, 3.5), layout="constrained")
        axes = figure.add_subplot()
        for panel in panels:
            color = SERIES[labels.index(panel.label) % len(SERIES)]
            for name, outcomes in _attacks(panel, norm).items():
                eps = [outcome.cell.eps for outcome in outcomes]
                marker = MARKERS[names.index(name) % len(MARKERS)]
                axes.plot(
                    eps,
                    [outcome.level for outcome in outcomes],
                    color=color,
                    marker=marker,
                    markersize=5,
                    linewidth=1.8,
                )
                noise = [math.nan if o.noise_level is None else o.noise_level for o in outcomes]
                axes.plot(eps, noise, color=color, linestyle="--", linewidth=1, alpha=0.75)
        _dress(axes, panels, norm)
        svg = io.StringIO()
        # No date and no creator: the same run gives the same bytes.
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Curves(
        data=panels[0].data,
        norm=NORM_SIGNS[norm],
        axis="drop in PSNR (dB)" if panels[0].has_truth else "PSNR to the clean restoration (dB)",
        svg=inline(svg.getvalue(), prefix),
        alt=_alt(panels, norm),
        restorers=[(labels.index(panel.label) % len(SERIES), panel.label) for panel in panels],
        attacks=[(MARKER_SIGNS[i % len(MARKERS)], name) for i, name in enumerate(names)],
    )


def _dress(axes, panels: Sequence[Panel], norm: str) -> None:  # type: ignore[no-untyped-def]
    """Ticks at the eps of the run, on a log axis when they double."""
    outcomes = [outcome for panel in panels for found in _attacks(panel, norm).values() for outcome in found]
    labels = {outcome.cell.eps: eps_label(outcome.cell) for outcome in outcomes}
    ticks = sorted(labels)
    if len(ticks) > 2 and ticks[-1] >= 4 * ticks[0]:
        axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [labels[eps] for eps in ticks])
    axes.minorticks_off()
    axes.set_xlabel(f"eps, {NORM_SIGNS[norm]}", color=INK)
    axes.set_ylabel("drop (dB)" if panels[0].has_truth else "PSNR to clean restoration (dB)", color=INK)
    quiet(axes)
    if panels[0].has_truth:
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))


def quiet(axes) -> None:  # type: ignore[no-untyped-def]
    """A frame that does not compete with the curves."""
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)


def inline(svg: str, prefix: str) -> str:
    """Make a whole SVG file fit for a page: no prologue, ids of its own, colours from CSS, as wide as its place."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)\bheight="[^"]*"', r'\1 aria-hidden="true"', svg, count=1)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for i, color in enumerate(SERIES):
        svg = svg.replace(color, f"var(--series-{i})")
    return svg.replace(INK, "var(--muted)").replace(GRID, "var(--line)")


def _alt(panels: Sequence[Panel], norm: str) -> str:
    parts = [
        f"{panel.label}, {name}: " + ", ".join(f"{number(o.level, 1)} at {eps_label(o.cell)}" for o in outcomes)
        for panel in panels
        for name, outcomes in _attacks(panel, norm).items()
    ]
    return "; ".join(parts)

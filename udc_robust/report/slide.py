"""One slide of a report: the worst photograph, what each victim holds beside noise and doing nothing, one sentence."""

from __future__ import annotations

import io
import math
import re
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from udc_robust.errors import UserError
from udc_robust.files import write_bytes
from udc_robust.report.damage import Damage, worst_damage, worst_square
from udc_robust.report.gallery import Pixels, difference
from udc_robust.report.panel import Outcome, Panel
from udc_robust.report.words import figure
from udc_robust.report.worst import held, worst_by_image
from udc_robust.terminal import shown

_WIDTH, _HEIGHT, _DPI = 16.0, 9.0, 120  # 1920 x 1080
_INK, _MUTED, _GRID, _ATTACKED, _NOISE = "#1a1b1e", "#5c6068", "#dcd9d2", "#d55e00", "#7fb2d6"
_LEFT, _LINES, _MOST_BARS, _LONGEST_NAME = 0.0365, 3, 7, 34


@dataclass(frozen=True)
class Bar:
    """What a victim holds at the slide's budget, and under noise of the same size; as people read it."""

    label: str
    clean: float
    attacked: float
    noise: float | None


def draw(panels: Sequence[Panel], headline: str, title: str, out: Path) -> Path:
    """Write the slide, 16:9: 1920 x 1080 as PNG, or as SVG with its letters as outlines.

    Raises:
        UserError: no pictures were kept.
    """
    import matplotlib

    drawn = io.BytesIO()
    # Text of users is text: no mathematics between dollar signs. A sign that the font lacks is drawn as a box.
    with matplotlib.rc_context({"text.parse_math": False, "svg.hashsalt": "slide"}), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        slide = compose(panels, headline, title)
        ours: dict[str, Any] = {"Software": "udc_robust"}
        if out.suffix.lower() == ".svg":
            ours = {"Creator": "udc_robust", "Date": None}
        slide.savefig(drawn, format=out.suffix[1:].lower(), metadata=ours)
    write_bytes(out, drawn.getvalue())
    return out


def compose(panels: Sequence[Panel], headline: str, title: str) -> Any:
    """The slide as a matplotlib figure.

    Args:
        panels: of one task; its trained victims that are no controls are searched for the worst photograph.
        title: of the report.

    Raises:
        UserError: no pictures were kept.
    """
    from matplotlib.figure import Figure

    studied = [panel for panel in panels if not panel.is_control]
    worst = worst_damage([panel for panel in studied if panel.trained] or studied)
    if worst is None:
        raise UserError(
            f"{panels[0].folder} kept no pictures for a slide: set `gallery: 4` in its config, and evaluate again "
            "with another --out"
        )
    bars, untreated = _bars(panels, worst), _untreated(worst)
    slide = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DPI, facecolor="white")
    _write_words(slide, headline, title, worst, len(bars) - _MOST_BARS)
    _draw_pictures(slide, worst)
    _draw_bars(slide, bars[:_MOST_BARS], untreated, worst)
    _draw_legend(slide, bars[:_MOST_BARS], untreated, worst)
    return slide


def _bars(panels: Sequence[Panel], worst: Damage) -> list[Bar]:
    """Victims on the photograph's data that met its budget: the baseline, then those that hold most, controls last."""
    found = []
    for panel in panels:
        met = [o for o in panel.outcomes if o.counts and o.budget == worst.outcome.budget]
        if panel.data == worst.panel.data and met:
            strongest = min(met, key=lambda outcome: outcome.left)
            clean = fmean(map(panel.figure, panel.clean_rows))
            bar = Bar(panel.label, clean, _held(panel, strongest), strongest.noise_left)
            found.append(((panel.is_control, not panel.is_baseline, panel.task.quality.better(0.0, bar.attacked)), bar))
    return [bar for _, bar in sorted(found, key=lambda ranked: ranked[0])]


def _held(panel: Panel, strongest: Outcome) -> float:
    """Under the worst attack on each image; a budget without a limit is told by its strongest attack."""
    budget = strongest.budget
    return held(worst_by_image(panel, budget)) if budget.limited else strongest.left


def _untreated(worst: Damage) -> float | None:
    """The mean quality of the inputs as they came, where the task knows it and there is a truth to measure by."""
    if not worst.panel.has_truth:
        return None
    quality, rows = worst.panel.task.quality, worst.panel.clean_rows
    values = [row.get(f"{quality.name}_input") for row in rows]
    known = [quality.factor * value for value in values if value is not None and math.isfinite(value)]
    return fmean(known) if len(known) == len(rows) else None


def _write_words(slide: Any, headline: str, title: str, worst: Damage, left_out: int) -> None:
    """The sentence, the title above, and what is shown below."""
    size, lines = _fitted(headline)
    slide.text(_LEFT, 0.945, shown(title), size=15, color=_MUTED, va="top")
    for i, line in enumerate(lines):
        slide.text(_LEFT, 0.87 - i * 1.32 * size / (72 * _HEIGHT), line, size=size, color=_INK, va="baseline")
    panel = worst.panel
    told = f"Hit hardest: {worst.image} by {worst.outcome.title}, against {panel.label}"
    slide.text(_LEFT, 0.155, "\n".join(textwrap.wrap(shown(told), 90)[:2]), size=14, color=_MUTED, va="top")
    where = f"udc_robust on {panel.data}, {len(panel.clean_rows)} image{'s' if len(panel.clean_rows) > 1 else ''}"
    more = f"; {left_out} more victims in the report" if left_out > 0 else ""
    slide.text(_LEFT, 0.045, shown(where + more), size=12, color=_MUTED)


def _fitted(headline: str) -> tuple[float, list[str]]:
    """The headline, or its first sentence where it is long, in the largest size that three lines hold."""
    sentence = re.split(r"(?<=\.) (?=[A-Z])", headline)[0]
    for text, sizes in ((headline, (28, 25, 22)), (sentence, (28, 25, 22, 19))):
        for size in sizes:
            if len(lines := _wrapped(text, size)) <= _LINES:
                return size, lines
    return 16, _wrapped(sentence, 16)[:5]


def _wrapped(text: str, size: float) -> list[str]:
    """Lines of the slide's width; a letter is 0.55 of its size wide on average."""
    return textwrap.wrap(shown(text), int((1 - 2 * _LEFT) * _WIDTH * 72 / (0.55 * size)))


def _draw_pictures(slide: Any, worst: Damage) -> None:
    """Before, after and their difference, cut to the square in which the error grew most."""
    panel, name = worst.panel, worst.panel.task.shown.name if worst.answers else "input"
    before, after = _cut(worst)
    magnified, note = difference(after, before)
    row = {row["image"]: row for row in worst.outcome.rows}[worst.image]
    clean = {row["image"]: row for row in panel.clean_rows}[worst.image]
    side, gap, left, bottom = 0.218, 0.0105, _LEFT, 0.265
    for i, (picture, head, told) in enumerate(
        (
            (before, f"Clean {name}", panel.task.answer(panel, clean)),
            (after, f"Attacked {name}", panel.task.answer(panel, row)),
            (magnified, "Difference, magnified", note),
        )
    ):
        place = left + i * (side + gap)
        axes = slide.add_axes((place, bottom, side, side * _WIDTH / _HEIGHT))
        smooth = "antialiased" if len(picture) >= 256 else "nearest"
        axes.imshow(picture.round().clip(0, 255).astype(np.uint8), interpolation=smooth)
        axes.set_axis_off()
        slide.text(place, bottom - 0.018, head, size=16, color=_INK, va="top", weight="bold")
        slide.text(place, bottom - 0.052, shown(told), size=14, color=_MUTED, va="top")


def _cut(worst: Damage) -> tuple[Pixels, Pixels]:
    before, after = worst.pictures()
    side = min(before.shape[:2])
    top, left = worst_square(worst.grown(), side)
    cut = np.s_[top : top + side, left : left + side]
    return before[cut], after[cut]


def _draw_bars(slide: Any, bars: Sequence[Bar], untreated: float | None, worst: Damage) -> None:
    """Two bars a victim, a mark for its clean quality, a dashed one for doing nothing; the figures stand beside."""
    quality = worst.panel.task.quality
    axes = slide.add_axes((0.745, 0.235, 0.17, 0.43))
    low, high = _range(bars, untreated, quality.unit)
    for i, bar in enumerate(bars):
        axes.text(low, i - 0.36, _short(bar.label), size=13, color=_INK, va="bottom", weight="bold")
        for place, value, color in ((i - 0.14, bar.attacked, _ATTACKED), (i + 0.14, bar.noise, _NOISE)):
            if value is not None:
                axes.barh(place, min(value, high) - low, 0.26, left=low, color=color)
                beside = high + 0.03 * (high - low)
                axes.text(beside, place, figure(quality, value), size=13, color=_INK, va="center")
        for value, style in ((bar.clean, "-"), (untreated, (0, (2.2, 1.6)))):
            if value is not None and math.isfinite(value):
                ends = [i - 0.27, i + 0.27]
                axes.plot([value, value], ends, color=_INK, linewidth=2.4, linestyle=style, clip_on=False)
    axes.set_xlim(low, high)
    axes.set_ylim(max(len(bars), 2) - 0.4, -0.75)
    axes.set_yticks([])
    axes.set_xlabel(f"{quality.title}, {quality.unit}".rstrip(", "), size=13, color=_MUTED)
    axes.tick_params(colors=_MUTED, labelsize=12, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)


def _range(bars: Sequence[Bar], untreated: float | None, unit: str) -> tuple[float, float]:
    """Ends of the axis: shares begin at 0, decibels have no zero to begin at."""
    if unit == "%":
        return 0.0, 100.0
    values = [untreated, *(value for bar in bars for value in (bar.attacked, bar.noise, bar.clean))]
    known = [value for value in values if value is not None and math.isfinite(value)] or [0.0, 1.0]
    return 5 * math.floor((min(known) - 1) / 5), max(known)


def _draw_legend(slide: Any, bars: Sequence[Bar], untreated: float | None, worst: Damage) -> None:
    """What bars and marks are, below them."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=_ATTACKED, label=f"worst attack on each image, {worst.outcome.budget}")]
    if any(bar.noise is not None for bar in bars):
        handles.append(Patch(color=_NOISE, label="random noise of the same size"))
    if any(math.isfinite(bar.clean) for bar in bars):
        handles.append(Line2D([], [], color=_INK, linewidth=2.4, label="unattacked"))
    if untreated is not None:
        label = f"do nothing: {figure(worst.panel.task.quality, untreated)}"
        handles.append(Line2D([], [], color=_INK, linewidth=2.4, linestyle=(0, (2.2, 1.6)), label=label))
    slide.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.738, 0.155), fontsize=12, frameon=False,
        labelcolor=_MUTED, handlelength=1.6, borderpad=0,
    )  # fmt: skip


def _short(label: str) -> str:
    label = shown(label)
    return label if len(label) <= _LONGEST_NAME else f"{label[:9]}…{label[10 - _LONGEST_NAME :]}"

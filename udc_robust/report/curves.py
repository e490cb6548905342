"""Curves over eps: what victims hold, and what each attack leaves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from udc_robust.grid.budget import NORM_SIGNS, Budget, rising
from udc_robust.report.comparison import Comparison, Held, Standing
from udc_robust.report.drawing import MARKER_SIGNS, MARKERS, SERIES, Axis, Line, Plot, axis_title, in_words, svg_of
from udc_robust.report.panel import Outcome, Panel
from udc_robust.report.spectrum import is_band
from udc_robust.report.worst import curve

Read = Callable[[Held], float | None]


def held_plots(title: str, comparisons: Sequence[Comparison], prefix: str) -> list[Plot]:
    """For each norm what victims hold, what they seem to hold to the ignorant, and what searches of the norm break.

    Args:
        prefix: of ids, unique in a page.
    """
    standings = [(c, standing) for c in comparisons for standing in c.standings]
    made: list[Plot] = []
    for norm in NORM_SIGNS:
        budgets = rising(b for c in comparisons for b in c.budgets if b.norm == norm)
        blind = any(h and h.blind is not None for c, s in standings for h in _of(c, s, budgets))
        seen: list[tuple[str, Read]] = [("under the worst attack on each image", lambda held: held.quality)]
        if blind:
            seen.append(("as it seems: the defence unknown", lambda h: h.quality if h.blind is None else h.blind))
        for note, read in seen if budgets else []:
            lines = [_held_line(c, s, i, budgets, read) for i, (c, s) in enumerate(standings)]
            made.append(_plot(title, f"{NORM_SIGNS[norm]}, {note}", lines, budgets, standings, f"{prefix}-{len(made)}"))
    free = _free_lines(standings)
    if free:
        note = "over the L2 norm that attacks without a budget needed"
        made.append(_plot(title, note, free, [], standings, f"{prefix}-{len(made)}", "L2"))
    return made


def _of(comparison: Comparison, standing: Standing, budgets: Sequence[Budget]) -> list[Held | None]:
    found = dict(zip(comparison.budgets, standing.held, strict=True))
    return [found.get(budget) for budget in budgets]


def _held_line(c: Comparison, standing: Standing, place: int, budgets: Sequence[Budget], read: Read) -> Line:
    found = zip(budgets, _of(c, standing, budgets), strict=True)
    values = [(b.eps, value) for b, held in found if held is not None and (value := read(held)) is not None]
    panel = standing.panel
    return Line(
        panel.label, place, place, [(0.0, standing.clean), *values], 1.2 if panel.is_control else 2.0, panel.is_control
    )


def _free_lines(standings: Sequence[tuple[Comparison, Standing]]) -> list[Line]:
    """One run of an attack without a budget gives the whole curve, in steps."""
    searched = {
        i: standing.panel for i, (_, standing) in enumerate(standings)
        if any(_is_free(outcome) for outcome in standing.panel.outcomes)
    }  # fmt: skip
    sizes = [row["l2"] for panel in searched.values() for o in panel.outcomes if _is_free(o) for row in o.rows]
    end = max((size for size in sizes if math.isfinite(size)), default=0.0)
    if not end:
        return []
    axis = [Budget("l2", end * i / 100) for i in range(101)]
    return [
        Line(panel.label, i, None, list(zip([b.eps for b in axis], curve(panel, axis, wanted=_is_free), strict=True)))
        for i, panel in searched.items()
    ]


def _is_free(outcome: Outcome) -> bool:
    return outcome.counts and outcome.cell.attack.norm == "l2" and math.isinf(outcome.cell.eps)


def attack_plots(panels: Sequence[Panel], prefix: str) -> list[Plot]:
    """For each data block and norm what each attack by itself leaves, and noise of its own norm."""
    labels = list(dict.fromkeys(panel.label for panel in panels))
    made: list[Plot] = []
    for data in dict.fromkeys(panel.data for panel in panels):
        for norm in NORM_SIGNS:
            shown = [panel for panel in panels if panel.data == data and _series(panel, norm)]
            if shown:
                made.append(_attack_plot(shown, norm, labels, f"{prefix}-{len(made)}"))
    return made


def _series(panel: Panel, norm: str) -> dict[str, list[Outcome]]:
    """The attacks of one norm with their outcomes by rising eps; noise, bands and unlimited budgets are no curves."""
    found: dict[str, list[Outcome]] = {}
    for outcome in sorted(panel.outcomes, key=lambda outcome: outcome.cell.eps):
        if outcome.budget.norm == norm and not outcome.is_noise and outcome.budget.limited and not is_band(outcome):
            found.setdefault(outcome.cell.label, []).append(outcome)
    return found


def _attack_plot(panels: Sequence[Panel], norm: str, labels: Sequence[str], prefix: str) -> Plot:
    names = list(dict.fromkeys(name for panel in panels for name in _series(panel, norm)))
    lines = []
    for panel in panels:
        place = labels.index(panel.label)
        for name, outcomes in _series(panel, norm).items():
            label = f"{panel.label}, {name}"
            lines.append(Line(label, place, names.index(name), [(o.cell.eps, o.left) for o in outcomes]))
            noise = [(o.cell.eps, left) for o in outcomes if (left := o.noise_left) is not None]
            lines.append(Line("", place, None, noise, 1.0, True))
    budgets = rising(o.budget for panel in panels for found in _series(panel, norm).values() for o in found)
    metric = panels[0].task.quality
    note = f"{NORM_SIGNS[norm]}, each attack by itself" + ("" if panels[0].has_truth else "; to the clean answer")
    axis = _budgets_axis(lines, budgets, NORM_SIGNS[norm])
    svg = svg_of(lines, axis, axis_title(metric.title, metric.unit), prefix)
    colours = [(labels.index(panel.label) % len(SERIES), "", panel.label) for panel in panels]
    return Plot(
        panels[0].data, note, svg, _words(lines, budgets), colours,
        [(MARKER_SIGNS[i % len(MARKERS)], name) for i, name in enumerate(names)], "noise of the same norm",
    )  # fmt: skip


def _plot(
    title: str, note: str, lines: Sequence[Line], budgets: Sequence[Budget],
    standings: Sequence[tuple[Comparison, Standing]], prefix: str, sign: str = "",
) -> Plot:  # fmt: skip
    metric = standings[0][0].metric
    axis = _budgets_axis(lines, budgets, sign or budgets[0].sign)
    svg = svg_of(lines, axis, axis_title(metric.title, metric.unit), prefix)
    legend = [(line.place % len(SERIES), MARKER_SIGNS[line.place % len(MARKERS)], line.label) for line in lines]
    dashes = "controls" if any(line.dashed for line in lines) else ""
    return Plot(title, note, svg, _words(lines, budgets), legend, dashes=dashes)


def _budgets_axis(lines: Sequence[Line], budgets: Sequence[Budget], sign: str) -> Axis:
    """Places on the axis are budgets where there are any, else sizes."""
    if not budgets:
        return Axis(f"size of the change, {sign}", {}, "linear")
    used = {x for line in lines for x, _ in line.points}
    texts = {0.0: "0"} | {budget.eps: budget.size for budget in budgets}
    return Axis(f"eps, {sign}", {eps: text for eps, text in texts.items() if eps in used}, "even")


def _words(lines: Sequence[Line], budgets: Sequence[Budget]) -> str:
    return in_words(lines, {0.0: "0"} | {budget.eps: str(budget) for budget in budgets})

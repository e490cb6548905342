"""The report of one or several studies: one HTML file of the same family as that of restorers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from udc_robust.evaluation import redflags
from udc_robust.evaluation.cells import eps_text
from udc_robust.evaluation.classifying import curves, gallery
from udc_robust.evaluation.classifying.matrix import (
    Matrix,
    column_name,
    held_at,
    matrix,
    matrix_columns,
    matrix_rows,
)
from udc_robust.evaluation.classifying.robust import (
    STANDING_COLUMNS,
    Held,
    Standing,
    budgets,
    standing_rows,
    standings,
)
from udc_robust.evaluation.classifying.run_folder import Outcome, Panel, Run, read_run
from udc_robust.evaluation.report import FLAG_COLUMNS, costs_of, named, source_of, template
from udc_robust.evaluation.run_folder import NORM_SIGNS
from udc_robust.evaluation.show import console_table
from udc_robust.evaluation.tables import to_csv
from udc_robust.evaluation.verdict import mean_interval, number, other_images, untrained
from udc_robust.files import write_text

# An image set under this size says little about another one: an accuracy of it moves by a point or more an image.
_FEW_IMAGES = 100


@dataclass(frozen=True)
class Study:
    """All victims on one data block, with the budgets that they share."""

    data: str
    grid: list[tuple[str, float]]
    standings: list[Standing]

    @property
    def matrix(self) -> Matrix | None:
        """Classifiers against defences, where each met the same."""
        return matrix(self.data, self.standings, self.signs)

    @property
    def signs(self) -> list[str]:
        """The budgets as people write them."""
        return [f"{NORM_SIGNS[norm]} {eps_text(eps) if norm == 'linf' else f'{eps:g}'}" for norm, eps in self.grid]


def write_report(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write the report of finished studies and return its path.

    Args:
        runs: run folders; victims of several stand side by side as ``run name: victim``.
        out: the HTML file; None: ``report.html`` in the only run's folder, or in the current folder for several.

    Raises:
        UserError: a folder holds no finished study, or a file of it is damaged.
    """
    read = named([read_run(Path(path)) for path in runs])
    out = out or (read[0].path / "report.html" if len(read) == 1 else Path("report.html"))
    panels = [panel for run in read for panel in run.panels(f"{run.name}: " if len(read) > 1 else "")]
    studies = [_study([panel for panel in panels if panel.data == data]) for data in _data(panels)]
    matrices = [study.matrix for study in studies if study.matrix]
    page = template("classifiers.html.j2").render(
        title=" and ".join(dict.fromkeys(run.name for run in read)),
        headline=headline(studies[0]),
        warnings=_warnings(read, panels),
        matrices=matrices,
        column_name=column_name,
        studies=[_context(study, i) for i, study in enumerate(studies)],
        flags=[(panel, redflags.red_flags(panel, redflags.POINTS)) for panel in panels],
        figures=[(panel, [_row(panel, outcome) for outcome in panel.outcomes]) for panel in panels],
        gallery=[g for study in studies for g in _gallery(study)],
        costs=[cost for panel in panels for cost in costs_of(panel.label, panel.data, panel.nfe, panel.outcomes)],
        sources=[source_of(run, out) for run in read],
    )
    write_text(out, page)
    write_text(out.with_suffix(".flags.csv"), to_csv(FLAG_COLUMNS, redflags.flag_rows(panels, redflags.POINTS)))
    if matrices:
        write_text(out.with_suffix(".matrix.csv"), to_csv(matrix_columns(matrices), matrix_rows(matrices)))
    rows = [row for study in studies for row in standing_rows(study.standings, study.grid)]
    write_text(out.with_suffix(".robust.csv"), to_csv(STANDING_COLUMNS, rows))
    return out


def _data(panels: Sequence[Panel]) -> list[str]:
    return list(dict.fromkeys(panel.data for panel in panels))


def _study(panels: Sequence[Panel]) -> Study:
    return Study(panels[0].data, budgets(panels), standings(panels))


def headline(study: Study) -> str:
    """What the most protected victim seems to hold at the middle budget, and what it holds.

    That is the halftone which does best against those who do not know it, or the best of other defences.
    """
    at = len(study.grid) // 2
    defended = [s for s in study.standings if study.grid and _at(s, at) and held_at(s, at).blind is not None]
    halftones = [s for s in defended if s.panel.kind == "halftone"]
    if not defended:
        return "How many images small perturbations make these classifiers take for something else."
    subject = max(halftones or defended, key=lambda s: held_at(s, at).blind or 0.0)
    held = held_at(subject, at)
    rivals = [s for s in defended if s.panel.kind != subject.panel.kind]
    against = ""
    if rivals and held.blind is not None:
        usual = fmean(held_at(s, at).blind or 0.0 for s in rivals)
        against = f", {_points(held.blind - usual)} {'over' if held.blind >= usual else 'under'} the mean of its rivals"
    return (
        f"Against attackers who do not know it, {subject.panel.label} seems to hold {_percent(held.blind)} of the "
        f"images at {study.signs[at]}{against}. Under all attacks of this run it holds {_percent(held.accuracy)}"
        f"{_spread(held)}, of {_percent(subject.clean)} unattacked."
    )


def _spread(held: Held) -> str:
    return f" ({_percent(held.interval[0])} to {_percent(held.interval[1])})" if held.interval else ""


def verdict(study: Study) -> str:
    """Who holds most at the middle budget, and who loses most once it is known."""
    at = len(study.grid) // 2
    ranked = [s for s in study.standings if study.grid and _at(s, at)]
    if not ranked:
        return "No budget was tried on every victim, so they cannot be ranked."
    best = max(ranked, key=lambda s: held_at(s, at).accuracy)
    words = [
        f"At {study.signs[at]} {best.panel.label} holds most: {_percent(held_at(best, at).accuracy)}"
        f"{_spread(held_at(best, at))} of the images under all attacks, {_percent(best.clean)} unattacked."
    ]
    flattered = [(s, b - held_at(s, at).accuracy) for s in ranked if (b := held_at(s, at).blind) is not None]
    if flattered:
        worst, by = max(flattered, key=lambda pair: pair[1])
        words.append(
            f"Blind attacks flatter {worst.panel.label} most, by {_points(by)}; a mean of {len(flattered)} defences is "
            f"{_points(fmean(gap for _, gap in flattered))}."
        )
    return " ".join(words)


def _at(standing: Standing, at: int) -> Held | None:
    return standing.held[at]


def _percent(share: float | None) -> str:
    return "n/a" if share is None else f"{number(100 * share, 0)} %"


def _points(share: float) -> str:
    return f"{number(abs(100 * share), 0)} points"


def _warnings(runs: Sequence[Run], panels: Sequence[Panel]) -> list[str]:
    found = untrained(panels)
    for panel in panels:
        images = len(panel.clean_rows)
        if images < _FEW_IMAGES:
            found.append(f"{panel.data}: {images} images are few. Read the intervals.")
    return list(dict.fromkeys([*found, *other_images(runs)]))


def _context(study: Study, number_of: int) -> dict[str, Any]:
    areas = curves.minimum_norm_areas(study.standings)
    # The many victims of a matrix would hide each other in one plot.
    parts = study.matrix.rows if study.matrix else [(study.data, study.standings)]
    return {
        "data": study.data,
        "verdict": verdict(study),
        "budgets": study.signs,
        "rows": [{"standing": s, "panel": s.panel, "area_l2": areas.get(s.panel.label)} for s in study.standings],
        "has_l2": bool(areas),
        "plots": [
            (title, plot)
            for i, (title, found) in enumerate(parts)
            for plot in curves.plots(found, study.grid, f"study{number_of}-{i}")
        ],
    }


def _gallery(study: Study) -> list[gallery.Group]:
    linf = [budget for budget in study.grid if budget[0] == "linf"]
    panels = [standing.panel for standing in study.standings]
    return gallery.groups(panels, (linf or study.grid)[-1]) if study.grid else []


def _row(panel: Panel, outcome: Outcome) -> dict[str, Any]:
    """One line of the table of all figures."""
    kept = ("top1", "top5", "top1_one_draw", "top1_worst_draw", "top1_noise", "top5_noise", "l2", "linf", "eot")
    return {
        "kind": "noise" if outcome.is_noise else "attack",
        "attack": "random noise" if outcome.is_noise else outcome.cell.label,
        "budget": outcome.budget,
        "exactness": outcome.summary["exactness"],
        "interval": mean_interval([row["top1"] for row in outcome.rows]),
        **{name: outcome.summary[name] for name in kept},
    }


def print_robust(folder: Path) -> None:
    """The headline table of a finished study, for the terminal."""
    console, table = console_table("victim", "clean", "budget", "noise", "blind", "all attacks", "strongest")
    panels = list(read_run(folder).panels())
    for data in _data(panels):
        study = _study([panel for panel in panels if panel.data == data])
        for standing in study.standings:
            for sign, held in zip(study.signs, standing.held, strict=True):
                if held is not None:
                    shares = (held.noise, held.blind, held.accuracy)
                    texts = [_percent(share) for share in shares]
                    table.add_row(standing.panel.label, _percent(standing.clean), sign, *texts, held.strongest)
    console.print(table)

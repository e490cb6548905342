"""The report of one or several runs: one HTML file that needs nothing else and asks the network for nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from udc_robust.files import write_text
from udc_robust.grid.tables import to_csv
from udc_robust.grid.task import Task
from udc_robust.portable import portable
from udc_robust.report import (
    annotated,
    areas,
    attackers,
    comparison,
    corruptions,
    costs,
    curves,
    error_map,
    flags,
    gallery,
    histogram,
    matrix,
    paired,
    possible,
    published,
    seen,
    slide,
    tradeoff,
    transfer,
    words,
)
from udc_robust.report.comparison import Comparison
from udc_robust.report.figures import panel_tables
from udc_robust.report.flag_rules import aims
from udc_robust.report.panel import Panel
from udc_robust.report.pooled import pooled
from udc_robust.report.query_curves import query_plots
from udc_robust.report.run_folder import CORRUPTIONS, FILES, Run, damage_told, read_run
from udc_robust.report.spectrum import spectrum_plots
from udc_robust.report.verdict import headline, verdict


def write_report(runs: Sequence[Path], tasks: Mapping[str, Task], out: Path | None = None) -> Path:
    """Write the report of finished runs and return its path.

    Args:
        runs: run folders; victims of several stand side by side as ``run name: victim``.
        tasks: by name.
        out: the HTML file; None: ``report.html`` in the only run's folder, or in the current folder for several.

    Raises:
        UserError: a folder holds no finished run, or a file of it is damaged.
    """
    read, panels = _read(runs, tasks)
    out = out or (read[0].path / "report.html" if len(read) == 1 else Path("report.html"))
    kinds = list(dict.fromkeys(run.task.name for run in read))
    parts = [_part(tasks[kind], [p for p in panels if p.task.name == kind], i) for i, kind in enumerate(kinds)]
    for part in parts:
        part["published"] = published.beside(read, [panel for panel in panels if panel.task is part["task"]])
    page = template("report.html.j2").render(
        title=_title(read),
        kicker=" and ".join(part["task"].kicker for part in parts),
        headline=" ".join(part["headline"] for part in parts),
        warnings=words.warnings(read, panels),
        parts=parts,
        common_glossary=words.GLOSSARY,
        sources=[_source(run, out) for run in read],
        footnotes=list(dict.fromkeys(note for part in parts for note in part["footnotes"])),
    )
    write_text(out, page)
    _write_tables(out, parts)
    return out


def write_slide(runs: Sequence[Path], tasks: Mapping[str, Task], out: Path) -> Path:
    """Write one slide of finished runs, as PNG or SVG, and return its path; of several tasks the first run's is shown.

    Raises:
        UserError: a folder holds no finished run, a file of it is damaged, or none of them kept pictures.
    """
    read, panels = _read(runs, tasks)
    task = read[0].task
    mine = [panel for panel in panels if panel.task.name == task.name]
    compared = comparison.comparisons([*pooled(mine), *mine])
    return slide.draw(mine, headline(task, mine, compared), _title(read), out)


def _read(runs: Sequence[Path], tasks: Mapping[str, Task]) -> tuple[list[Run], list[Panel]]:
    read = _named([read_run(Path(path), tasks) for path in runs])
    panels: list[Panel] = []
    for run in read:
        with damage_told(run.path):
            panels += run.panels(f"{run.name}: " if len(read) > 1 else "")
    return read, panels


def _title(read: Sequence[Run]) -> str:
    return " and ".join(dict.fromkeys(run.name for run in read))


def _write_tables(out: Path, parts: Sequence[Mapping[str, Any]]) -> None:
    """The machine-readable tables beside the page; those without a row are not there."""
    judged = [one for part in parts for one in (part, *part["others"])]
    compared, matrices, pairs = (
        [one for found in judged for one in found[key]] for key in ("comparisons", "matrices", "paired")
    )
    averaged, corrupted, made, known, met, looked = (
        [one for part in parts for one in part[key]]
        for key in ("areas", "corruptions", "transfers", "possible", "attackers", "seen")
    )
    printed = [one for part in parts for one in part["published"]]
    for name, columns, rows in (
        ("flags", flags.COLUMNS, flags.flag_rows([pair for found in judged for pair in found["flags"]])),
        ("defences", comparison.COLUMNS, comparison.rows(compared)),
        ("paired", paired.COLUMNS, paired.rows(pairs)),
        ("attackers", attackers.COLUMNS, attackers.rows(met)),
        ("limits", possible.COLUMNS, possible.rows(known)),
        ("bracket", possible.BRACKET_COLUMNS, possible.bracket_rows(known)),
        ("areas", areas.columns(averaged), areas.rows(averaged)),
        ("corruptions", corruptions.columns(corrupted), corruptions.rows(corrupted)),
        ("annotations", annotated.COLUMNS, annotated.rows([one for part in parts for one in part["annotated"]])),
        ("matrix", matrix.matrix_columns(matrices), matrix.matrix_rows(matrices)),
        ("transfer", transfer.columns(made), transfer.rows(made)),
        ("detectors", seen.COLUMNS, seen.rows(looked)),
        ("published", published.COLUMNS, published.rows(printed)),
    ):
        path = out.with_suffix(f".{name}.csv")
        if rows:
            write_text(path, to_csv(columns, rows))
        else:
            path.unlink(missing_ok=True)


def _part(task: Task, panels: Sequence[Panel], place: int) -> dict[str, Any]:
    """Everything that the page says of the runs of one task; ``prefix`` keeps its ids apart from other parts'."""
    prefix = "" if place == 0 else f"{task.name}-"
    order = list(dict.fromkeys(panel.data for panel in panels))
    panels = sorted(panels, key=lambda panel: order.index(panel.data))
    studied = _studied(panels)
    judged = _judged(panels, prefix)
    shown, left_out = gallery.choose(studied)
    return {
        "task": task,
        "prefix": prefix,
        "headline": headline(task, panels, judged["comparisons"]),
        "notes": task.notes(panels),
        "unmade": comparison.unmade(panels),
        "column_name": matrix.column_name,
        **judged,
        "drop_plots": histogram.drop_plots(studied, f"{prefix}drops"),
        "others": list(_by_other_figures(panels, prefix)),
        "areas": areas.areas(panels),
        "possible": possible.limits_of(judged["comparisons"]),
        "attackers": attackers.attackers(judged["comparisons"]),
        "random_defence": any(panel.random for panel in panels),
        "corruptions": corruptions.tables(panels),
        "annotated": annotated.tables(judged["comparisons"]),
        "transfers": transfer.transfers(panels),
        "seen": seen.seen(panels),
        "spectrum_plots": spectrum_plots(panels, f"{prefix}spectrum"),
        "query_plots": query_plots(studied, f"{prefix}queries"),
        "studied": [panel_tables(panel) for panel in studied],
        "figures": [panel_tables(panel) for panel in panels],
        "gallery": _groups(gallery.cards(studied, shown)),
        "error_maps": [(made, error_map.told(made)) for made in error_map.error_maps(studied)],
        "left_out": left_out,
        "costs": [cost for panel in panels for cost in costs.costs(panel)],
        "footnotes": task.footnotes(panels),
    }


def _studied(panels: Sequence[Panel]) -> list[Panel]:
    """Controls have their place in the tables; pictures and paragraphs are for what is studied."""
    return [panel for panel in panels if not panel.is_control]


def _judged(panels: Sequence[Panel], prefix: str) -> dict[str, Any]:
    """What the page says of victims in the one figure that they are judged by."""
    compared = comparison.comparisons([*pooled(panels), *panels])
    grouped = [(data, [c for c in compared if c.data == data]) for data in dict.fromkeys(c.data for c in compared)]
    matrices = [made for _, found in grouped if found and (made := matrix.matrix(found)) is not None]
    return {
        "metric": panels[0].task.quality,
        "matrices": matrices,
        "paired": paired.of_runs(panels),
        "comparisons": compared,
        "tables": [_table(data, found) for data, found in grouped if found],
        "held_plots": [
            plot
            for i, (title, found) in enumerate(_plotted(grouped, matrices))
            for plot in (
                *curves.held_plots(title, found, f"{prefix}held{i}"),
                *tradeoff.tradeoff_plots(title, found, f"{prefix}tradeoff{i}"),
            )
        ],
        "attack_plots": curves.attack_plots(_studied(panels), f"{prefix}curves"),
        "flags": [(panel, flags.red_flags(panel)) for panel in panels if _aimed_at(panel)],
    }


def _aimed_at(panel: Panel) -> bool:
    """Whether flags tell anything: of the task's own quality always, of another figure where an attack climbs it."""
    return panel.task.quality.name not in {metric.name for metric in panel.metrics} or any(map(aims, panel.outcomes))


def _by_other_figures(panels: Sequence[Panel], prefix: str) -> Iterator[dict[str, Any]]:
    """The same in each other figure that is known of all images of some victims."""
    for metric in {metric.name: metric for panel in panels for metric in panel.metrics}.values():
        seen = [panel.judged_by(metric) for panel in panels if panel.has(metric)]
        if seen:
            yield _judged(seen, f"{prefix}{metric.name}-")


def _table(data: str, found: Sequence[Comparison]) -> dict[str, Any]:
    """The victims of a data block in one table: those of several families share its columns."""
    budgets = list(dict.fromkeys(b for c in found for b in c.budgets))
    budgets.sort(key=lambda b: (b.norm != "linf", b.norm, b.eps))
    rows = [
        (standing, [dict(zip(c.budgets, standing.held, strict=True)).get(budget) for budget in budgets])
        for c in found
        for standing in c.standings
    ]
    texts = [judged.text for judged in map(verdict, found) if judged.text]
    return {"data": data, "budgets": budgets, "rows": rows, "verdicts": texts, "metric": found[0].metric}


def _plotted(
    grouped: Sequence[tuple[str, Sequence[Comparison]]], matrices: Sequence[matrix.Matrix]
) -> list[tuple[str, Sequence[Comparison]]]:
    """What shares a plot: the victims of a data block; the many of a matrix, network by network."""
    large = {table.data: table for table in matrices}
    found: list[tuple[str, Sequence[Comparison]]] = []
    for data, compared in grouped:
        if data in large:
            for name, victims in large[data].rows:
                found.append((f"{name} on {data}", [replace(compared[0], standings=victims)]))
        elif compared:
            found.append((data, compared))
    return found


def template(name: str) -> Any:
    """A page, which escapes what users wrote."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "number": words.number, "percent": words.percent, "signed": words.signed, "span": words.span,
    }  # fmt: skip
    return environment.get_template(name)


def _named(runs: Sequence[Run]) -> list[Run]:
    """Give runs of one name their folders too, so that they can be told apart."""
    names = [run.name for run in runs]
    for name_of in (lambda run: f"{run.name} ({run.path.resolve().name})", lambda run: str(portable(str(run.path)))):
        if len(set(names)) < len(names):
            names = [name_of(run) for run in runs]
    return [replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def _groups(cards: Any) -> list[dict[str, Any]]:
    """Cards of one image together."""
    return [
        {"data": data, "image": image, "cards": list(found)}
        for (data, image), found in groupby(cards, lambda card: (card.data, card.image))
    ]


def _source(run: Run, out: Path) -> dict[str, Any]:
    """Where a run's numbers come from: its command, config, versions and, linked by relative name, its files."""
    folder = Path(os.path.relpath(run.path.resolve(), out.resolve().parent))
    names = [*reversed(FILES), *([CORRUPTIONS] if run.corruptions else [])]
    return {
        "name": run.name,
        "network": run.task.network,
        "facts": portable(run.facts),
        "weights": portable(run.fingerprint.get("weights", {})),
        "config": yaml.safe_dump(portable(run.settings), sort_keys=False, allow_unicode=True),
        "files": [(name, quote((folder / name).as_posix())) for name in names],
    }

"""The tables of a run: ``results.csv`` (a row an image and cell), ``summary.csv`` (a row a cell), ``timings.csv``.

Attacks that ask have ``queries.csv`` too: what was left of each image after so many queries.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from udc_robust.files import write_text
from udc_robust.grid.budget import NORM_SIGNS, change_column
from udc_robust.grid.task import Row, Task
from udc_robust.metrics import Metric

COSTS = ("linf", "l2", "forwards", "backwards", "queries")
BAD = "bad_gradients"
"""Columns that every task has, of attacked rows."""
SEEN = "seen_"
"""Begins the columns of detectors' scores of what a victim was shown: over 1 it is flagged at 5 % false alarms."""
CORRUPTION = "corruption"
"""The column by which rows of corruptions are known."""


def cell_names(network: str, of_objective: Sequence[str] = (), of_data: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns that name a cell; the first seven order the rows.

    Args:
        network: what is attacked.
        of_objective, of_data: what a task says beside, of what an attack climbs and of its images.
    """
    return (
        "data", network, "defence", "attack", "method", "norm", "eps", "objective", *of_objective, "access",
        "exactness", "eot", "draws", "known_seed", "nfe", *of_data,
    )  # fmt: skip


QUERIES = "queries.csv"
"""Of attacks that ask; a run without one does not have it."""


def write_tables(task: Task, metrics: Sequence[Metric], out: Path, units: Sequence[dict[str, Any]]) -> None:
    """Write the tables from a journal's units, in an order that no unit's finish changes.

    Args:
        metrics: those that a task's own columns lack are columns at the end, with the perceptual sizes of changes and
            the scores of detectors.
    """

    def order(row: Row) -> tuple[Any, ...]:
        return (*(row["eps"] if name == "eps" else str(row.get(name, "")) for name in task.names[:7]), row["image"])

    found = {column for unit in units for row in unit["rows"] for column in row}
    changes = [change_column(norm) for norm in NORM_SIGNS if change_column(norm) in found]
    columns = [*(metric.name for metric in metrics), *changes, *sorted(name for name in found if name.startswith(SEEN))]
    columns += [name for name in task.also if name in found]
    more = [column for column in columns if column not in task.results]
    units = sorted(units, key=lambda unit: unit["unit"])
    every = [row for unit in units for row in unit["rows"]]
    rows = sorted((row for row in every if CORRUPTION not in row), key=order)
    write_text(out / "results.csv", to_csv([*task.results, *more], rows))
    write_text(out / "summary.csv", to_csv([*task.summary, *more], _summary(task, more, rows)))
    asked = [
        {**{name: unit["rows"][0][name] for name in task.names[:7]}, **row}
        for unit in units for row in unit.get("queries", [])
    ]  # fmt: skip
    if asked:
        asked.sort(key=lambda row: (*order(row), row["queries"]))
        write_text(out / QUERIES, to_csv((*task.names[:7], "image", "queries", task.quality.name), asked))
    if corrupted := [row for row in every if CORRUPTION in row]:
        _write_corruptions(task, more, out / "corruptions.csv", corrupted)
    timings = [{"unit": unit["unit"], **unit["cost"]} for unit in units if "seconds" in unit["cost"]]
    write_text(out / "timings.csv", to_csv(("unit", "images", "seconds", "peak_bytes"), timings))


def _write_corruptions(task: Task, more: Sequence[str], path: Path, rows: Sequence[Row]) -> None:
    """A row an image, corruption, place and severity; corruptions are no attacks, so they have a table of their own."""
    names = ("data", task.network, "defence", CORRUPTION, "family", "place", "severity", "image")
    figures = [name for name in (*task.results, *more) if name not in names and any(name in row for row in rows)]
    write_text(path, to_csv([*names, *figures], sorted(rows, key=lambda row: [row[name] for name in names])))


def _summary(task: Task, more: Sequence[str], rows: Iterable[Row]) -> list[dict[str, Any]]:
    """One row a cell, in the order of its first image."""
    cells: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        cells.setdefault(tuple(row.get(name, "") for name in task.names), []).append(row)
    return [
        dict(zip(task.names, cell, strict=True))
        | {"images": len(members), "bad_gradients": sum(row.get("bad_gradients", 0) for row in members)}
        | {column: mean_of([row.get(column) for row in members]) for column in (*COSTS, *more)}
        | task.summarise(members)
        for cell, members in cells.items()
    ]


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean; None where a value is missing."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def to_csv(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """CSV text; missing figures are ``n/a``, floats have seven significant digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in columns])
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.7g}" if isinstance(value, float) else str(value)

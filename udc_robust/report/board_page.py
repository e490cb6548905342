"""Writing the leaderboard: a page whose tables can be sorted, a CSV of a row for each victim and budget, and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from udc_robust.errors import UserError
from udc_robust.files import write_text
from udc_robust.grid.budget import Budget, rising
from udc_robust.grid.tables import to_csv
from udc_robust.grid.task import Task
from udc_robust.metrics import Metric
from udc_robust.metrics.records import BESIDE
from udc_robust.report.board import Board, Entry, Held, of_run
from udc_robust.report.board_file import joined, read_board
from udc_robust.report.page import template
from udc_robust.report.run_folder import damage_told, read_run
from udc_robust.report.verdict import CUSTOMARY


@dataclass(frozen=True)
class Ranked:
    """All victims on the images of one data block, by what they hold at one budget.

    Attributes:
        at: that budget: Linf 4/255, or the middle one.
        rows: those who hold most first; who was not attacked there last.
    """

    data: str
    budgets: Sequence[Budget]
    at: Budget
    rows: Sequence[tuple[Entry, Mapping[Budget, Held]]]


def write_leaderboard(sources: Sequence[Path], tasks: Mapping[str, Task], out: Path) -> Path:
    """Write the leaderboard of finished runs and of JSON files of others: ``out``, and a CSV and a JSON beside it.

    Raises:
        UserError: a source that is no finished run or no such file, or sources that may not be compared.
    """
    boards: dict[str, Board] = {}
    for source in sources:
        if str(source) in boards:
            raise UserError(f"{source} is named twice: leave one out")
        if source.is_dir():
            run = read_run(source, tasks)
            with damage_told(source):
                boards[str(source)] = of_run(run, out)
        else:
            boards[str(source)] = read_board(source, tasks, out)
    board = joined(boards, tasks)
    task = tasks[board.task]
    page = template("leaderboard.html.j2").render(
        board=board,
        task=task,
        groups=ranked(board, task.quality),
        others=_measured(board),
        commands=list(dict.fromkeys((row.run, row.command, row.seed) for row in board.rows)),
    )
    write_text(out, page)
    write_text(out.with_suffix(".csv"), to_csv(columns(board), rows(board)))
    write_text(out.with_suffix(".json"), board.model_dump_json(indent=1) + "\n")
    return out


def ranked(board: Board, quality: Metric) -> list[Ranked]:
    """One ranking for each data block."""
    found = []
    for data in dict.fromkeys(row.data for row in board.rows):
        mine = [(row, {one.budget: one for one in row.held}) for row in board.rows if row.data == data]
        budgets = rising(budget for _, held in mine for budget in held)
        most = max(sum(budget in held for _, held in mine) for budget in budgets)
        shared = [budget for budget in budgets if sum(budget in held for _, held in mine) == most]
        customary = [budget for budget in shared if str(budget) == str(CUSTOMARY)]
        at = customary[0] if customary else shared[len(shared) // 2]

        def place(row: tuple[Entry, Mapping[Budget, Held]], at: Budget = at) -> tuple[bool, float]:
            held = row[1].get(at)
            return held is None, 0.0 if held is None else -held.held[quality.name]

        found.append(Ranked(data, budgets, at, sorted(mine, key=place)))
    return found


def _measured(board: Board) -> list[Metric]:
    """The other figures that some row has."""
    return [metric for name, metric in BESIDE.items() if any(name in row.clean for row in board.rows)]


NAMES = ("run", "data", "victim", "network", "defence", "role", "trained", "nfe")


def columns(board: Board) -> list[str]:
    """Of the CSV."""
    figures = dict.fromkeys(name for row in board.rows for name in row.clean)
    return [
        *NAMES, "norm", "eps", *(f"clean_{name}" for name in figures), *(f"held_{name}" for name in figures), "low",
        "high", "strongest", "cap", "closable", "why", "flags", "raised", "unmeasured", "task", "preset", "images",
        "domain", "version", "seed", "command", "report",
    ]  # fmt: skip


def rows(board: Board) -> list[dict[str, Any]]:
    """Of the CSV: each victim at each budget; ``flags`` is their number, ``raised`` their names."""
    domains = {data.name: data.domain for data in board.data}
    return [
        {
            **{name: getattr(row, name) for name in NAMES}, **one.model_dump(exclude={"held"}),
            **{f"clean_{name}": value for name, value in row.clean.items()},
            **{f"held_{name}": value for name, value in one.held.items()}, "flags": len(row.raised),
            "raised": "; ".join(row.raised), "unmeasured": row.unmeasured, "task": board.task, "preset": board.preset,
            "images": board.digest, "domain": domains[row.data], "version": row.version, "seed": row.seed,
            "command": row.command, "report": row.report,
        }
        for row in board.rows
        for one in row.held
    ]  # fmt: skip

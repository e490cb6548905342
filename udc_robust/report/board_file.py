"""Leaderboard files of others, checked as strictly as a config, and which boards may be shown as one.

Beyond their form they must keep the rule of "worst": nothing that is held rises with eps, or beats the clean figure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from udc_robust.config_file import check_config
from udc_robust.errors import UserError, unknown_name
from udc_robust.grid.budget import eps_text
from udc_robust.grid.presets import names
from udc_robust.grid.task import Task
from udc_robust.metrics import Metric
from udc_robust.metrics.records import BESIDE
from udc_robust.report.board import NO_PRESET, Board, Entry, way_to
from udc_robust.report.words import figure


def read_board(path: Path, tasks: Mapping[str, Task], page: Path) -> Board:
    """A leaderboard's JSON file, also somebody else's.

    Raises:
        UserError: no JSON, another form, or figures that no run can have.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON file ({' '.join(str(error).split())[:100]})") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold an object, as `udc-robust leaderboard RUN --out mine.html` writes mine.json")
    board = check_config(values, Board, str(path))
    if board.task not in tasks:
        raise UserError(f"{path}: {unknown_name('task', board.task, tasks)}")
    quality = tasks[board.task].quality
    figures = {quality.name, *BESIDE}
    for i, row in enumerate(board.rows):
        if problem := _problem(row, quality, figures, {data.name for data in board.data}):
            raise UserError(f"{path}: rows.{i} ({row.victim}): {problem}")
    moved = {row.report: _moved(path.parent / row.report, page) for row in board.rows}
    rows = [row.model_copy(update={"report": moved[row.report]}) for row in board.rows]
    return board.model_copy(update={"rows": rows})


def _moved(report: Path, page: Path) -> str:
    """A link of a file, as the page needs it."""
    text = str(report)
    return "https://" + text.partition("https:/")[2].lstrip("/") if "https:/" in text else way_to(report, page)


def _problem(row: Entry, quality: Metric, known: set[str], data: set[str]) -> str:
    """What no run can have written; empty where all is well."""
    if row.data not in data:
        return f"its data {row.data!r} is not among {', '.join(sorted(data))}"
    for figures in (row.clean, *(one.held for one in row.held)):
        if quality.name not in figures:
            return f"{quality.name} is missing"
        if wrong := next((name for name in figures if name not in known), None):
            return str(unknown_name("figure", wrong, sorted(known)))
    budgets = [one.budget for one in row.held]
    if len(set(budgets)) < len(budgets):
        return "a budget is there twice"
    for norm in {budget.norm for budget in budgets}:
        at = sorted((one for one in row.held if one.norm == norm), key=lambda one: one.eps)
        before, told = row.clean[quality.name], "clean"
        for one in at:
            now = one.held[quality.name]
            if now > before + 1e-6:
                return (
                    f"it holds {figure(quality, now)} at {one.budget} and {figure(quality, before)} {told}: what is "
                    "held never rises with eps"
                )
            before, told = now, f"at {one.budget}"
    return ""


def joined(boards: Mapping[str, Board], tasks: Mapping[str, Task]) -> Board:
    """All rows as one board.

    Args:
        boards: by the name of their source.

    Raises:
        UserError: they may not be compared, or quote a preset that they did not run; it names what differs and where.
    """
    (first_name, first), *others = boards.items()
    for name, board in others:
        for key, word in (("task", "task"), ("preset", "preset"), ("data", "data"), ("digest", "images")):
            mine, theirs = getattr(first, key), getattr(board, key)
            if mine != theirs:
                word, mine, theirs = _differing(word, mine, theirs)
                raise UserError(
                    f"{first_name} and {name} differ in their {word} ({mine} and {theirs}): a leaderboard ranks what "
                    "met the same attacks on the same images; leave one out"
                )
    for name, board in boards.items():
        _check_preset(board, tasks[board.task], name)
    return first.model_copy(update={"rows": [row for board in boards.values() for row in board.rows]})


def _check_preset(board: Board, task: Task, source: str) -> None:
    """Refuse a preset that there is not, and other budgets than the preset's, which are the task's usual ones."""
    if board.preset == NO_PRESET:
        return
    if board.preset not in names():
        raise UserError(f"{source}: {unknown_name('preset', board.preset, [*names(), NO_PRESET])}")
    usual = task.schema.model_fields["eps"].get_default(call_default_factory=True)
    wanted = [eps_text(eps) for eps in sorted(usual)]
    for row in board.rows:
        mine = [eps_text(one.eps) for one in sorted(row.held, key=lambda one: one.eps) if one.norm == "linf"]
        if mine != wanted:
            raise UserError(
                f"{source} ran {board.preset} at eps {', '.join(mine) or 'none'}, and the preset's are "
                f"{', '.join(wanted)}: attacks go on from smaller budgets, so run it with these (leave out `eps`)"
            )


def _differing(word: str, mine: Any, theirs: Any) -> tuple[str, str, str]:
    """What differs, in words, and the two values."""
    if word != "data":
        return word, str(mine), str(theirs)
    domains, names = (
        [", ".join(dict.fromkeys(told(block) for block in blocks)) for blocks in (mine, theirs)]
        for told in (lambda block: block.domain, lambda block: f"{block.name} of {block.images} images")
    )
    what, (here, there) = ("colour domain", domains) if domains[0] != domains[1] else (word, names)
    return what, here, there

"""The tasks of the suite, by name; and the verbs that need to know which there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from udc_robust.errors import unknown_name
from udc_robust.grid.schema import RunConfig
from udc_robust.grid.task import Task
from udc_robust.tasks.classification import CLASSIFICATION
from udc_robust.tasks.restoration import RESTORATION

TASKS: dict[str, Task] = {task.name: task for task in (RESTORATION, CLASSIFICATION)}


def task_of(values: Any) -> Task:
    """The task that plain values of a config are for: what `task` says, or the one whose networks they hold.

    Raises:
        UserError: an unknown task.
    """
    if not isinstance(values, dict):
        return RESTORATION
    if "task" in values:
        if not isinstance(values["task"], str) or values["task"] not in TASKS:
            raise unknown_name("task", str(values["task"]), TASKS)
        return TASKS[values["task"]]
    return next((task for task in TASKS.values() if task.schema.network_key in values), RESTORATION)


def evaluate(config: RunConfig, out: Path, command: str = "") -> dict[str, Any]:
    """Run or resume a grid, see `grid.run.run`."""
    from udc_robust.grid.run import run

    return run(TASKS[config.task], config, out, command)


def write_report(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write the report of finished runs, see `report.page.write_report`."""
    from udc_robust.report.page import write_report as write

    return write(runs, TASKS, out)


def write_slide(runs: Sequence[Path], out: Path) -> Path:
    """Write one slide of finished runs, see `report.page.write_slide`."""
    from udc_robust.report.page import write_slide as write

    return write(runs, TASKS, out)


def load_run_config(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """Read the config of a run of any task, see `config_file.load_config`."""
    from udc_robust.config_file import check_config, read_values

    values = read_values(path, overrides)
    return check_config(values, task_of(values).schema, str(path))

"""The tasks of the suite, by name; and the verbs that need to know which there are."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udc_robust.errors import unknown_name
from udc_robust.grid.schema import RunConfig
from udc_robust.tasks.classification_schema import ClassificationConfig
from udc_robust.tasks.detection_schema import DetectionConfig
from udc_robust.tasks.restoration_schema import RestorationConfig

if TYPE_CHECKING:
    from udc_robust.grid.task import Task

    TASKS: dict[str, Task]

SCHEMAS: dict[str, type[RunConfig]] = {
    "restoration": RestorationConfig, "classification": ClassificationConfig, "detection": DetectionConfig,
}  # fmt: skip
"""The schema of each task, known without torch, which `TASKS` loads; the first is that of a config without `task`."""


def __getattr__(name: str) -> Any:
    if name == "TASKS":
        return _tasks()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _tasks() -> dict[str, Task]:
    from udc_robust.tasks.classification import CLASSIFICATION
    from udc_robust.tasks.detection import DETECTION
    from udc_robust.tasks.restoration import RESTORATION

    return {task.name: task for task in (RESTORATION, CLASSIFICATION, DETECTION)}


def schema_of(values: Any) -> type[RunConfig]:
    """The schema of plain values of a config, see `task_of`."""
    return SCHEMAS[_name_of(values, SCHEMAS)]


def task_of(values: Any) -> Task:
    """The task that plain values of a config are for: what `task` says, or the one whose networks they hold.

    Raises:
        UserError: an unknown task.
    """
    return _tasks()[_name_of(values, {name: task.schema for name, task in _tasks().items()})]


def _name_of(values: Any, schemas: Mapping[str, type[RunConfig]]) -> str:
    first = next(iter(schemas))
    if not isinstance(values, dict):
        return first
    if "task" in values:
        if not isinstance(values["task"], str) or values["task"] not in schemas:
            raise unknown_name("task", str(values["task"]), schemas)
        return values["task"]
    return next((name for name, schema in schemas.items() if schema.network_key in values), first)


def evaluate(config: RunConfig, out: Path, command: str = "") -> dict[str, Any]:
    """Run or resume a grid, see `grid.run.run`."""
    from udc_robust.grid.run import run

    return run(_tasks()[config.task], config, out, command)


def write_report(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write the report of finished runs, see `report.page.write_report`."""
    from udc_robust.report.page import write_report as write

    return write(runs, _tasks(), out)


def write_slide(runs: Sequence[Path], out: Path) -> Path:
    """Write one slide of finished runs, see `report.page.write_slide`."""
    from udc_robust.report.page import write_slide as write

    return write(runs, _tasks(), out)


def write_leaderboard(sources: Sequence[Path], out: Path) -> Path:
    """Write the leaderboard of finished runs and of results of others, see `report.board_page.write_leaderboard`."""
    from udc_robust.report.board_page import write_leaderboard as write

    return write(sources, _tasks(), out)


def load_run_config(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """Read the config of a run of any task, see `config_file.load_config`."""
    from udc_robust.config_file import check_config, read_values

    values = read_values(path, overrides)
    return check_config(values, task_of(values).schema, str(path))

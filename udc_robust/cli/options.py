"""Arguments that several verbs share, and what they become."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from udc_robust.errors import UserError
from udc_robust.outputs import output_file, output_folder
from udc_robust.portable import portable
from udc_robust.processes import is_main
from udc_robust.terminal import say

if TYPE_CHECKING:
    from udc_robust.config_file import Config
    from udc_robust.grid.schema import RunConfig


def there(value: Path | list[Path] | None) -> Path | list[Path] | None:
    """Refuse a path to nothing before anything heavy is loaded; for the ``callback`` of an argument."""
    for path in value if isinstance(value, list) else [value]:
        if path is not None and not path.exists():
            raise UserError(f"{path} does not exist: check the path")
    return value


ConfigPath = Annotated[Path, typer.Argument(help="A YAML file; a name of `udc-robust configs` works too.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value overrides, e.g. seed=1 attacks.0.eps=4/255")]
OutFolder = Annotated[Path | None, typer.Option("--out", help="Folder to write to.")]
Images = Annotated[list[Path], typer.Argument(help="Image files or folders.", callback=there)]
RestorerName = Annotated[
    str, typer.Option("--restorer", help="A name of `udc-robust models`, or package.module:Class.")
]
Weights = Annotated[str | None, typer.Option("--weights", help="A .pth or .safetensors file.")]
Domain = Annotated[str | None, typer.Option("--domain", help="Colour domain: srgb, tonemapped or linear.")]


def config_path(given: Path, schema: str) -> Path:
    """A path, or the name of a shipped config of that schema; an old name is told the new one on stderr."""
    from udc_robust.cli.configs import find_config

    path, new_name = find_config(given, schema)
    if new_name is not None and is_main():
        say(f"udc-robust: the config {given} is now called {new_name}", err=True)
    return path


def read_config(
    name: Path, schema: str, model: type[Config], overrides: Sequence[str] | None, out: Path | None
) -> tuple[Config, Path]:
    """A config, and the folder to write to: ``out``, what the config says, or one of its name in ``runs/train``."""
    from udc_robust.config_file import load_config

    settings: Any = load_config(config_path(name, schema), model, overrides or [])
    folder = out or settings.out or Path("runs/train") / settings.name
    from udc_robust.grid.identity import input_paths

    return settings, output_folder(folder, input_paths(settings).values(), below=[settings.name], apart=True)


def read_run_config(name: Path, overrides: Sequence[str] | None, out: Path | None) -> tuple[RunConfig, Path]:
    """The config of a run of any task, and the folder to write to."""
    path = config_path(name, "evaluate")
    from udc_robust.tasks import load_run_config

    settings = load_run_config(path, overrides or [])
    return settings, run_folder(settings, out or settings.out or Path("runs") / settings.name)


def run_folder(settings: RunConfig, out: Path) -> Path:
    """The folder of a run, which can be written to and is none of what the run reads."""
    from udc_robust.grid.identity import input_paths

    return output_folder(out, input_paths(settings).values(), apart=True)


def output_page(out: Path, runs: Sequence[Path]) -> Path:
    """The HTML file of a report: a new one, or one that a report of ours may replace.

    Raises:
        UserError: it is no HTML file, one that something else wrote, or the page of one of several runs.
    """
    output_file(out, (".html", ".htm"), [run / "report.html" for run in runs] if len(runs) > 1 else [])
    if out.is_file() and b": robustness report</title>" not in out.read_bytes()[: 1 << 20]:
        raise UserError(f"--out {out} is there already, and is no report of ours: choose another name")
    return out


def restorer_block(restorer: str, weights: str | None) -> dict[str, str]:
    """``--restorer`` and ``--weights`` as a block of a config."""
    from udc_robust.restorers.zoo import shipped_checkpoints

    if restorer in shipped_checkpoints() and weights is None:
        return {"name": restorer}
    block = {"name": restorer.replace(":", "."), "network": restorer}
    return block | ({} if weights is None else {"weights": weights})


def this_command() -> str:
    """The command line that is running, as a run's folder keeps it: it says nothing of whose machine it ran on."""
    return shlex.join(["udc-robust", *portable(sys.argv[1:])])

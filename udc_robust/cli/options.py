"""Arguments that several verbs share, and what they become."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from udc_robust.errors import UserError
from udc_robust.files import shipped
from udc_robust.processes import is_main

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
        typer.echo(f"udc-robust: the config {given} is now called {new_name}", err=True)
    return path


def read_config(
    name: Path, schema: str, model: type[Config], overrides: Sequence[str] | None, out: Path | None
) -> tuple[Config, Path]:
    """A training's config, and the folder to write to: ``out``, what the config says, or one of its name in ``runs/train``."""
    from udc_robust.config_file import check_config, read_values
    from udc_robust.training.config import without_claims

    path, overrides = config_path(name, schema), overrides or []
    values = read_values(path, overrides)
    if shipped("configs") in path.parents:  # what it claims is ours, and of our data
        values = without_claims(values, overrides)
    settings = check_config(values, model, str(path))
    return settings, out or settings.out or Path("runs/train") / settings.name  # type: ignore[attr-defined]


def read_run_config(name: Path, overrides: Sequence[str] | None, out: Path | None) -> tuple[RunConfig, Path]:
    """The config of a run of any task, and the folder to write to."""
    path = config_path(name, "evaluate")
    from udc_robust.tasks import load_run_config

    settings = load_run_config(path, overrides or [])
    return settings, out or settings.out or Path("runs") / settings.name


def restorer_block(restorer: str, weights: str | None) -> dict[str, str]:
    """``--restorer`` and ``--weights`` as a block of a config."""
    from udc_robust.restorers.zoo import shipped_checkpoints

    if restorer in shipped_checkpoints() and weights is None:
        return {"name": restorer}
    block = {"name": restorer.replace(":", "."), "network": restorer}
    return block | ({} if weights is None else {"weights": weights})


def this_command() -> str:
    """The command line that is running, as a run's folder keeps it."""
    return shlex.join(["udc-robust", *sys.argv[1:]])

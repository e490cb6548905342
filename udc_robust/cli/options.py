"""Arguments that several verbs share, and what they become."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from udc_robust.config_file import Config

ConfigPath = Annotated[Path, typer.Argument(help="A YAML file; a name of `udc-robust configs` works too.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value overrides, e.g. seed=1 attacks.0.eps=4/255")]
OutFolder = Annotated[Path | None, typer.Option("--out", help="Folder to write to.")]
Images = Annotated[list[Path], typer.Argument(help="Image files or folders.")]
RestorerName = Annotated[
    str, typer.Option("--restorer", help="A name of `udc-robust models`, or package.module:Class.")
]
Weights = Annotated[str | None, typer.Option("--weights", help="A .pth or .safetensors file.")]
Domain = Annotated[str | None, typer.Option("--domain", help="Light of the images: srgb, tonemapped or linear.")]


def config_path(path: Path) -> Path:
    """A path, or the name of a config that ships with the package."""
    from udc_robust.files import shipped

    named = sorted(shipped("configs").rglob(path.with_suffix(".yaml").name))
    return named[0] if named and not path.is_file() else path


def read_config(
    name: Path, schema: type[Config], overrides: Sequence[str] | None, out: Path | None, parent: str
) -> tuple[Config, Path]:
    """A config of ``schema``, and the folder to write to: ``out``, what the config says, or ``PARENT/NAME``."""
    from udc_robust.config_file import load_config

    settings = load_config(config_path(name), schema, overrides or [])
    return settings, out or settings.out or Path(parent) / settings.name  # type: ignore[attr-defined]


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

"""Arguments that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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

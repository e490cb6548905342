"""The verbs that tell what there is: models, configs, doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from udc_robust.cli.next_step import next_step
from udc_robust.cli.options import one_of
from udc_robust.errors import UserError


def models() -> None:
    """List shipped checkpoints and networks with their size, colour domain and the source of official weights."""
    from udc_robust.cli.tables import print_models

    print_models()
    next_step("attack", "photo.png", "--restorer", "nafnet_mini")


def configs() -> None:
    """List the configs that ship with the package, by what they are for."""
    import itertools

    from udc_robust.cli.configs import SCHEMAS, list_configs

    for schema, group in itertools.groupby(list_configs(), key=lambda config: config.schema):
        folder, use = SCHEMAS[schema]
        typer.echo(f"\n{use} (configs/{folder}):")
        for config in group:
            typer.echo(f"  {config.name.rpartition('/')[2]:24} {config.purpose}")
    next_step("evaluate", "quickstart")


def doctor(
    fix_lpips: Annotated[
        str | None,
        typer.Option(
            "--fix-lpips",
            help="Fetch what an LPIPS column needs: squeeze (5 MB), alex (233 MB), vgg (528 MB) or all.",
            callback=one_of("backbone", ("alex", "vgg", "squeeze", "all")),
        ),
    ] = None,
) -> None:
    """Tell versions, devices and which weights are present, and what to do about the rest.

    `--fix-lpips squeeze` fetches the smallest backbone, or says what to copy where.

    Example: `udc-robust doctor`
    """
    if fix_lpips:
        from udc_robust.metrics.perceptual import BACKBONES, LpipsUnavailable, fetch_backbone

        for backbone in BACKBONES if fix_lpips == "all" else [fix_lpips]:
            try:
                typer.echo(fetch_backbone(backbone))
            except LpipsUnavailable as error:
                raise UserError(str(error)) from error
        next_step("evaluate", "quickstart", f"lpips={'squeeze' if fix_lpips == 'all' else fix_lpips}")
        return
    from udc_robust.doctor import print_findings

    print_findings()
    next_step("evaluate", "quickstart")

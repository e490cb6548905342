"""The verb that asks of a display's tolerances."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from udc_robust.cli.next_step import next_step
from udc_robust.cli.options import RESTORER, Device, OutFolder, Seed, restorer_block, this_command
from udc_robust.outputs import output_folder
from udc_robust.terminal import say


def tolerance(
    restorers: Annotated[list[str], typer.Argument(help=f"{RESTORER} Several are compared.")],
    psf: Annotated[str, typer.Option("--psf", help="Display: a name, or a measured PSF's file.")] = "phone",
    scenes: Annotated[
        Path | None, typer.Option("--scenes", help="Folder of scenes in linear light; default: photographs that ship.")
    ] = None,
    kind: Annotated[str, typer.Option("--kind", help="Of --scenes: panorama, hdr or photo.")] = "panorama",
    turn: Annotated[float | None, typer.Option("--turn", help="Tolerance of the display's turn, degrees.")] = None,
    scale: Annotated[float | None, typer.Option("--scale", help="Of all its lengths, percent.")] = None,
    shift: Annotated[float | None, typer.Option("--shift", help="Of the picture, across and down, px.")] = None,
    defocus: Annotated[
        float | None, typer.Option("--defocus", help="Of focus: path error at the pupil's rim, µm; measured PSF: px.")
    ] = None,
    opening: Annotated[float | None, typer.Option("--opening", help="Of every opaque edge, µm.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="Number of scenes.")] = 4,
    crop: Annotated[int, typer.Option("--crop", help="Side of what is restored and judged, px.")] = 128,
    steps: Annotated[int, typer.Option("--steps", help="Of the gradient's search; 0: none.")] = 8,
    restarts: Annotated[int, typer.Option("--restarts", help="Of it; every second mirrors the one before.")] = 2,
    corners: Annotated[bool, typer.Option(help="Whether to try every corner of the tolerances.")] = True,
    shot: Annotated[float, typer.Option("--shot", help="Shot noise: variance per unit of radiance.")] = 0.0,
    read: Annotated[float, typer.Option("--read", help="Read noise: standard deviation in radiance.")] = 0.0,
    draws: Annotated[int, typer.Option("--draws", help="Of noise, averaged for a gradient.")] = 1,
    device: Device = "cpu",
    seed: Seed = 0,
    out: OutFolder = None,
) -> None:
    """Tell how far restorers fall when the display is turned, stretched, moved, defocused or etched wrong; resumes.

    Each parameter by itself, and the worst display within all tolerances, by corners and by gradient. Name tolerances
    to vary these alone; without any, all vary by their usual ones.

    Example: `udc-robust tolerance nafnet_mini --turn 1 --limit 2 --crop 64 --out runs/tolerance`
    """
    from udc_robust.config_file import check_config
    from udc_robust.tasks.tolerance_page import sentence
    from udc_robust.tasks.tolerance_study import ToleranceConfig, study

    said = {"turn": turn, "scale": scale, "shift_x": shift, "shift_y": shift, "defocus": defocus, "opening": opening}
    values = {
        "restorers": [restorer_block(name, None, None, None, None) for name in restorers], "psf": psf, "scenes": scenes,
        "kind": kind, "tolerances": {name: value for name, value in said.items() if value is not None}, "limit": limit,
        "crop": crop, "steps": steps, "restarts": restarts, "corners": corners, "shot": shot, "read": read,
        "draws": draws, "device": device, "seed": seed,
    }  # fmt: skip
    config = check_config(values, ToleranceConfig, "options")
    reads = filter(None, [scenes, Path(psf), *(Path(name) for name in restorers)])
    folder = output_folder(out or Path("runs/tolerance"), reads, apart=True)
    results = study(config, folder, this_command())
    say(sentence(results))
    for parameter in results.tolerances:
        told = (f"{name} {results.told(parameter, name)}" for name in results.restorers)
        say(f"{parameter}: 3 dB cost {', '.join(told)}")
    say(f"page: {folder / 'tolerance.html'}; table, summary and curves beside it")
    next_step("finetune", "nafnet_mini_optics", f"parent={restorers[0]}", "train.sources=hdr",
              "validation=sets/validation")  # fmt: skip

"""The verbs that take pictures and write pictures: attack, restore, purify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from udc_robust.cli.next_step import next_step
from udc_robust.cli.options import (
    Budgets,
    DefenceBlocks,
    Device,
    Domain,
    Images,
    Lpips,
    MethodName,
    NetworkDomain,
    NetworkName,
    NetworkOptions,
    Norm,
    ObjectiveName,
    OutFolder,
    Overlap,
    RestorerName,
    Seed,
    Steps,
    Tile,
    Weights,
    attack_block,
    restorer_block,
    run_folder,
    there,
    this_command,
    yaml_of,
)
from udc_robust.errors import UserError
from udc_robust.outputs import output_folder
from udc_robust.terminal import say


def attack(
    images: Images,
    restorer: RestorerName = "nafnet_mini",
    network: NetworkName = None,
    options: NetworkOptions = None,
    weights: Weights = None,
    network_domain: NetworkDomain = None,
    gt: Annotated[
        Path | None, typer.Option("--gt", help="Folder of ground truths with the same file names.", callback=there)
    ] = None,
    domain: Domain = None,
    method: MethodName = "pgd",
    norm: Norm = "linf",
    eps: Budgets = None,
    steps: Steps = None,
    objective: ObjectiveName = None,
    defence: DefenceBlocks = None,
    scene: Annotated[
        str | None,
        typer.Option(
            "--scene", help="The images are HDR scenes to change before the optics: YAML of how, '{psf: phone}'."
        ),
    ] = None,
    eot: Annotated[
        int | None, typer.Option("--eot", help="Photographs, or random answers, averaged a gradient.")
    ] = None,
    lpips: Lpips = "squeeze",
    tile: Tile = 0,
    overlap: Overlap = None,
    device: Device = "cpu",
    seed: Seed = 0,
    out: OutFolder = None,
) -> None:
    """Attack images: writes them as PNG with restorations, a table and a report.

    Without `--gt` the damage is measured against the clean restoration. A budget is 4/255 unless `--eps` says others.
    Whole photographs want `--tile 512`: one change of the whole image, whose gradient needs the memory of one tile.

    With `--scene` the budget lives in the light before the display: '{psf: phone, shot: 1e-4, shift_px: 0.5}'.

    Example: `udc-robust attack photos/ --restorer nafnet_mini --eps 2/255 --out attacked`
    """
    said = {
        "name": "attack", "gallery": 1_000_000, "seed": seed, "device": device, "tile": tile, "overlap": overlap,
        "lpips": None if lpips == "none" else lpips,
        "data": pictures_block(images, gt, domain, scene),
        "defences": ["none", *(yaml_of("--defence", text) for text in defence or [])],
        "restorers": [restorer_block(restorer, network, options, weights, network_domain)],
        "attacks": [attack_block(method, norm, eps, steps, objective) | ({} if eot is None else {"eot": eot})],
    }  # fmt: skip
    _attack(said, out or Path("attacked"))


def _attack(values: dict[str, Any], out: Path) -> None:
    """Run a config of one attack, and say what came of it."""
    from udc_robust.cli.tables import print_held
    from udc_robust.config_file import check_config
    from udc_robust.report.run_folder import read_run
    from udc_robust.tasks import TASKS, write_report
    from udc_robust.tasks import evaluate as run
    from udc_robust.tasks.restoration import open_images
    from udc_robust.tasks.restoration_schema import RestorationConfig

    settings = check_config(values, RestorationConfig, "options")
    folder = run_folder(settings, out)
    if open_images(settings.data[0]).stated_in == "linear":  # which has no 8-bit levels
        settings = settings.model_copy(update={"round_8_bit": False})
    run(settings, folder, this_command())
    page = write_report([folder])
    print_held(list(read_run(folder, TASKS).panels()))
    say(f"attacked images: {folder / 'images'}")
    say(f"report: {page}")
    next_step("report", folder, "--out", f"{folder.name}.html")


def pictures_block(images: list[Path], gt: Path | None, domain: str | None, scene: str | None) -> dict[str, Any]:
    """The data block of captures, with or without truths, or of scenes.

    Raises:
        UserError: truths of scenes, or an option that is no block.
    """
    known = {"name": "images", **({} if domain is None else {"domain": domain})}
    if scene is None:
        return known | {"kind": "folder", "lq": images} | ({} if gt is None else {"kind": "pairs", "gt": gt})
    block = yaml_of("--scene", scene)
    if not isinstance(block, dict):
        raise UserError(f"--scene {scene!r} must say how scenes are photographed, such as '{{psf: phone, size: 160}}'")
    if gt is not None:
        raise UserError("--gt goes with captures: the truth of a --scene is the scene itself")
    return {**known, "kind": "scenes", "hdr": images, "space": "scene", **block}


def restore(
    images: Images,
    restorer: RestorerName = "nafnet_mini",
    network: NetworkName = None,
    options: NetworkOptions = None,
    weights: Weights = None,
    network_domain: NetworkDomain = None,
    domain: Domain = None,
    tile: Tile = 0,
    overlap: Overlap = None,
    bits: Annotated[int, typer.Option("--bits", help="Of a channel of the PNGs: 8, or 16.")] = 8,
    device: Device = "cpu",
    out: OutFolder = None,
) -> None:
    """Restore images of any size.

    Example: `udc-robust restore photo.png --restorer nafnet_mini --tile 512 --out restored`
    """
    if bits not in (8, 16):
        raise UserError(f"--bits {bits}: a PNG has 8 or 16")
    from udc_robust.restorers.files import restore_files
    from udc_robust.restorers.zoo import RestorerSpec

    spec = RestorerSpec(**restorer_block(restorer, network, options, weights, network_domain))
    folder = output_folder(out or Path("restored"), images)
    for path in restore_files(images, spec, folder, domain, tile, overlap, device, bits):
        say(path)
    said = {
        "--network": network, "--options": options, "--weights": weights, "--network-domain": network_domain,
        "--domain": domain,
    }  # fmt: skip
    which = [word for option, value in said.items() if value is not None for word in (option, value)]
    next_step("attack", *images, "--restorer", restorer, *which)


def purify(
    images: Images,
    model: Annotated[str, typer.Option("--model", help="A shipped purifier, or the folder of one.")] = "purifier_mini",
    noise_level: Annotated[int | None, typer.Option("--noise-level", help="Timestep up to which to add noise.")] = None,
    sigma: Annotated[str | None, typer.Option("--sigma", help="Noise in [0,1] units instead, e.g. 10/255.")] = None,
    strength: Annotated[float | None, typer.Option("--strength", help="Share of the whole chain instead.")] = None,
    sampler: Annotated[str, typer.Option("--sampler", help="one_step, ddim or ancestral.")] = "one_step",
    steps: Annotated[int | None, typer.Option("--steps", help="Model calls of a sample.")] = None,
    samples: Annotated[int, typer.Option("--samples", help="Purified draws to average.")] = 1,
    eta: Annotated[float, typer.Option("--eta", help="Fresh noise of ddim, 0 to 1.")] = 0.0,
    tile: Annotated[int, typer.Option("--tile", help="Side of the tiles in pixels; 0 takes whole images.")] = 0,
    overlap: Annotated[int, typer.Option("--overlap", help="Pixels at a tile's inner borders that are not used.")] = 16,
    device: Device = "cpu",
    seed: Seed = 0,
    out: OutFolder = None,
) -> None:
    """Purify images: add a little noise and let a diffusion model take it away, a perturbation with it.

    Example: `udc-robust purify attacked/ --noise-level 20 --samples 4 --out purified`
    """
    from udc_robust.config_file import number
    from udc_robust.defences.purifier.files import purify_files

    try:
        options = {"noise_level": noise_level, "sigma": number(sigma), "strength": strength}
    except ValueError as error:
        raise UserError(f"--sigma {error}") from None
    more = {"sampler": sampler, "steps": steps, "samples": samples, "eta": eta, "tile": tile, "overlap": overlap}
    folder = output_folder(out or Path("purified"), images)
    for path in purify_files(images, model, folder, options | more, seed=seed, device=device):
        say(path)
    next_step("restore", folder)

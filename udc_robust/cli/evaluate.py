"""The verbs that evaluate: attack networks in a grid, write its report, choose a noise level, tell what is possible."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from udc_robust.cli.next_step import after_evaluation, after_report, block, next_step
from udc_robust.cli.options import (
    RESTORER,
    Captures,
    ConfigPath,
    Crop,
    Device,
    Domain,
    Limit,
    NetworkDomain,
    NetworkName,
    NetworkOptions,
    Norm,
    ObjectiveName,
    OutFolder,
    Overlap,
    Overrides,
    Seed,
    Tile,
    Truths,
    Weights,
    attack_block,
    known_restorer,
    pairs_block,
    read_run_config,
    restorer_block,
    there,
    this_command,
)
from udc_robust.cli.pages import output_board, output_page, output_slide
from udc_robust.errors import UserError
from udc_robust.outputs import output_folder
from udc_robust.processes import is_main
from udc_robust.terminal import say


def evaluate(config: ConfigPath, overrides: Overrides = None, out: OutFolder = None) -> None:
    """Attack restorers or classifiers, bare and behind defences, and write a report; the same command resumes.

    The config says which `task` it is of. A network, attack, defence, objective or metric that it names as
    `file.py:name` or `package.module:name` is code, and is run.

    Example: `udc-robust evaluate quickstart`, or `udc-robust evaluate mine.yaml batch_size=2 --out runs/mine`
    """
    settings, folder = read_run_config(config, overrides, out)
    from udc_robust.cli.tables import print_held
    from udc_robust.report.run_folder import read_run
    from udc_robust.tasks import TASKS, write_report
    from udc_robust.tasks import evaluate as run

    run(settings, folder, this_command())
    if is_main():
        page = write_report([folder])
        print_held(list(read_run(folder, TASKS).panels()))
        say(f"report: {page}")
        after_evaluation(settings)


def classify(config: ConfigPath, overrides: Overrides = None, out: OutFolder = None) -> None:
    """Another name of `evaluate`, for configs of classifiers.

    Example: `udc-robust classify classifiers_quickstart`
    """
    evaluate(config, overrides, out)


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs, of any task.", callback=there)],
    out: Annotated[Path | None, typer.Option("--out", help="The HTML file to write.")] = None,
    slide: Annotated[
        Path | None,
        typer.Option(
            "--slide", help="A 16:9 picture to write too, .png or .svg: worst photograph, bars, one sentence."
        ),
    ] = None,
) -> None:
    """Write the HTML report of one run again, or of several side by side; and one slide, if asked.

    Example: `udc-robust report runs/before runs/after --out compare.html`, or `udc-robust report runs/after --slide
    after.png`
    """
    page = output_page(out or (runs[0] / "report.html" if len(runs) == 1 else Path("report.html")), runs)
    picture = output_slide(slide)
    from udc_robust.report.run_folder import read_run
    from udc_robust.tasks import TASKS, write_report, write_slide

    if picture is not None:
        say(f"slide: {write_slide(runs, picture)}")
    say(f"report: {write_report(runs, page)}")
    after_report(runs, read_run(runs[-1], TASKS).config, out, slide)


def leaderboard(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of finished runs, and leaderboards of others as .json files.", callback=there),
    ],
    out: Annotated[Path, typer.Option("--out", help="The HTML file; a .csv and a .json go beside it.")] = Path(
        "leaderboard.html"
    ),
) -> None:
    """Rank the victims of several runs by what they hold under attack; all must have met the same images and preset.

    The .json beside the page is what one hands in: it is checked as it is read.

    Example: `udc-robust leaderboard runs/before runs/after --out board.html`
    """
    page = output_board(out, runs)
    from udc_robust.tasks import write_leaderboard

    say(f"leaderboard: {write_leaderboard(runs, page)}")


def noise_level(
    restorer: Annotated[str, typer.Argument(help=RESTORER, callback=known_restorer)],
    purifier: Annotated[str, typer.Argument(help="A shipped purifier, or the folder of one.")] = "purifier_mini",
    network: NetworkName = None,
    options: NetworkOptions = None,
    weights: Weights = None,
    network_domain: NetworkDomain = None,
    images: Captures = None,
    gt: Truths = None,
    domain: Domain = None,
    crop: Crop = None,
    limit: Limit = None,
    levels: Annotated[str, typer.Option("--levels", help="Noise levels (timesteps) to measure.")] = "5,10,20,50",
    norm: Norm = "linf",
    eps: Annotated[str, typer.Option("--eps", help="Budget of the attacks, e.g. 4/255.")] = "4/255",
    steps: Annotated[int, typer.Option("--steps", help="Steps of PGD.")] = 10,
    objective: ObjectiveName = None,
    eot: Annotated[int, typer.Option("--eot", help="Purified draws averaged for each gradient.")] = 2,
    samples: Annotated[int, typer.Option("--samples", help="Purified draws that the purifier averages.")] = 1,
    max_cost: Annotated[float, typer.Option("--max-cost", help="Clean PSNR a level may cost, in dB.")] = 0.5,
    module: Annotated[str | None, typer.Option("--module", help="Part of the restorer to take features from.")] = None,
    device: Device = "cpu",
    seed: Seed = 0,
    out: OutFolder = None,
) -> None:
    """Choose a purifier's noise level: by PSNR under attack, and by UAD-RS's distance of features; resumes.

    Give images that are tested nowhere else, and keep the one level for every attack.

    Example: `udc-robust noise-level nafnet_mini purifier_mini --images tuning/lq --gt tuning/gt --out runs/levels`
    """
    from udc_robust.cli.tables import print_levels
    from udc_robust.defences.purifier.level import anls_level, restoration_level
    from udc_robust.tasks.level_study import parse_levels, study

    if not math.isfinite(max_cost):
        raise UserError(f"--max-cost {max_cost} must be a number of dB")
    data = pairs_block(images, gt, domain, crop, limit)
    victim = restorer_block(restorer, network, options, weights, network_domain)
    reads = [*filter(None, [images, gt]), *map(Path, filter(None, [victim.get("weights"), purifier]))]
    folder = output_folder(out or Path("runs/levels"), reads, apart=True)
    figures = study(
        victim, purifier, data, parse_levels(levels), folder, module=module, seed=seed, device=device,
        attack=attack_block("pgd", norm, [eps], steps, objective) | {"eot": eot}, samples=samples,
        command=this_command(),
    )  # fmt: skip
    print_levels(figures)
    say(f"table and plot: {folder / 'levels.csv'}, {folder / 'levels.png'}")
    kept, near = restoration_level(figures, max_cost), anls_level(figures)
    typer.echo(f"by restoration level {kept.level} ({kept.reason}); by features level {near.level} ({near.reason})")
    defence = block({"kind": "purifier", "purifier": purifier, "noise_level": kept.level, "samples": samples})
    next_step("evaluate", "quickstart", f"restorers={block(victim)}", f"defences=[none, {defence}]")


def limits(
    restorer: Annotated[str, typer.Argument(help=RESTORER, callback=known_restorer)],
    network: NetworkName = None,
    options: NetworkOptions = None,
    weights: Weights = None,
    network_domain: NetworkDomain = None,
    images: Captures = None,
    gt: Truths = None,
    domain: Domain = None,
    psf: Annotated[
        str | None, typer.Option("--psf", help="Display of the built-in images: a name, or a measured PSF's file.")
    ] = None,
    crop: Crop = None,
    limit: Limit = None,
    eps: Annotated[str, typer.Option("--eps", help="Linf budget, e.g. 4/255.")] = "4/255",
    steps: Annotated[int, typer.Option("--steps", help="Steps of PGD.")] = 20,
    search_steps: Annotated[
        int, typer.Option("--search-steps", help="Of the search for second scenes; 0: none.", min=0)
    ] = 400,
    scenes: Annotated[
        Path | None,
        typer.Option(
            "--scenes", help="Panoramas or pictures that `synth` made --images of: for the ceiling.", callback=there
        ),
    ] = None,
    l2: Annotated[
        float, typer.Option("--l2", help="Euclidean budget of an image for a certified floor; 0: none.", min=0)
    ] = 0.1,
    tile: Tile = 0,
    overlap: Overlap = None,
    device: Device = "cpu",
    seed: Seed = 0,
    out: OutFolder = None,
) -> None:
    """Tell what is possible: how much any restorer of this camera could keep under a budget; resumes.

    Caps by shifts of brightness, and pairs of scenes that an attacker makes look the same, proven and shown.

    Example: `udc-robust limits nafnet_mini --limit 4 --crop 96 --out runs/limits`
    """
    from udc_robust.tasks.limits_study import study
    from udc_robust.tasks.limits_words import sentence

    if scenes is not None and gt is None:
        raise UserError("--scenes goes with --images and --gt, the pairs that `udc-robust synth` made of them")
    if not math.isfinite(l2):
        raise UserError(f"--l2 {l2} must be a finite number, such as 0.1")
    data = _built_in_or_named(images, gt, domain, psf, crop, limit)
    victim = restorer_block(restorer, network, options, weights, network_domain)
    reads = filter(None, [images, gt, scenes, Path(victim.get("weights", restorer))])
    folder = output_folder(out or Path("runs/limits"), reads, apart=True)
    found = study(
        victim, data, eps, folder, steps=steps, search_steps=search_steps, scenes=scenes, l2=l2, tile=tile,
        overlap=overlap, seed=seed, device=device, command=this_command(),
    )  # fmt: skip
    say(sentence(found, eps, victim["name"]))
    say(f"page, table, plot, words and pairs of scenes: {folder / 'limits.html'}, limits.csv, .png, .md, pairs")
    next_step("finetune", "nafnet_mini_adversarial", f"parent={restorer}", "train=sets/train",
              "validation=sets/validation")  # fmt: skip


def _built_in_or_named(
    images: Path | None, gt: Path | None, domain: str | None, psf: str | None, crop: int | None, limit: int | None
) -> dict[str, Any]:  # fmt: skip
    """The data block of `limits`: the built-in images behind a display, or the user's as they were captured."""
    if images is None and (gt is not None or domain is not None):
        raise UserError("--gt and --domain go with --images: the built-in images have truths of their own")
    if images is not None and psf is not None:
        raise UserError("--psf goes with the built-in images: those of --images are captured already")
    where = {"lq": images, "gt": gt, "domain": domain, "psf": psf, "limit": limit}
    kind = "embedded" if images is None else "folder" if gt is None else "pairs"
    where |= {"size" if images is None else "crop": crop}
    return {"kind": kind, **{k: v for k, v in where.items() if v is not None}}

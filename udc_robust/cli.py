"""The command line: one verb per job. It parses, calls and prints; the work is done elsewhere.

Exit codes: 0 done, 2 the user's mistake (one line, no traceback), 1 ours.
"""

from __future__ import annotations

import shlex
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from udc_robust.cli_options import (
    ConfigPath,
    Domain,
    Images,
    OutFolder,
    Overrides,
    RestorerName,
    Weights,
    config_path,
)
from udc_robust.cli_training import finetune, train_app
from udc_robust.errors import UserError
from udc_robust.processes import is_main

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Measure and harden image restoration for under-display cameras against adversarial perturbations.",
)
app.add_typer(train_app, name="train")
app.command()(finetune)


@app.command()
def evaluate(config: ConfigPath, overrides: Overrides = None, out: OutFolder = None) -> None:
    """Attack restorers and write a report; the same command resumes a run that was stopped.

    Example: `udc-robust evaluate quickstart`, or `udc-robust evaluate mine.yaml batch_size=2 --out runs/mine`
    """
    from udc_robust.config import EvaluateConfig
    from udc_robust.config_file import load_config
    from udc_robust.evaluation.report import write_report
    from udc_robust.evaluation.run import evaluate as run
    from udc_robust.evaluation.show import print_summary

    settings = load_config(config_path(config), EvaluateConfig, overrides or [])
    folder = out or settings.out or Path("runs") / settings.name
    run(settings, folder, shlex.join(["udc-robust", *sys.argv[1:]]))
    if is_main():
        page = write_report([folder])
        print_summary(folder)
        typer.echo(f"report: {page}")


@app.command()
def classify(config: ConfigPath, overrides: Overrides = None, out: OutFolder = None) -> None:
    """Attack classifiers, bare and behind defences, and write a report; the same command resumes.

    Example: `udc-robust classify halftone_study data.source=cifar10_jpeg_test.npz`
    """
    from udc_robust.config_file import load_config
    from udc_robust.evaluation.classifying.config import ClassifyConfig
    from udc_robust.evaluation.classifying.report import print_robust, write_report
    from udc_robust.evaluation.classifying.run import classify as run

    settings = load_config(config_path(config), ClassifyConfig, overrides or [])
    folder = out or settings.out or Path("runs") / settings.name
    run(settings, folder, shlex.join(["udc-robust", *sys.argv[1:]]))
    if is_main():
        page = write_report([folder])
        print_robust(folder)
        typer.echo(f"report: {page}")


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.")],
    out: Annotated[Path | None, typer.Option("--out", help="The HTML file to write.")] = None,
) -> None:
    """Write the HTML report of one run again, or of several side by side.

    Example: `udc-robust report runs/before runs/after --out compare.html`
    """
    from udc_robust.evaluation.classifying.report import write_report as write_study
    from udc_robust.evaluation.classifying.run_folder import is_study
    from udc_robust.evaluation.report import write_report

    studies = [is_study(path) for path in runs]
    if any(studies) and not all(studies):
        raise UserError("runs of restorers and of classifiers have no report together: name either")
    typer.echo(f"report: {(write_study if all(studies) else write_report)(runs, out)}")


@app.command()
def attack(
    images: Images,
    restorer: RestorerName = "nafnet_mini",
    weights: Weights = None,
    gt: Annotated[Path | None, typer.Option("--gt", help="Folder of ground truths with the same file names.")] = None,
    method: Annotated[str, typer.Option("--method", help="noise, fgsm, ifgsm, pgd, cw, ddn, simba or square.")] = "pgd",
    norm: Annotated[str, typer.Option("--norm", help="linf or l2.")] = "linf",
    eps: Annotated[str, typer.Option("--eps", help="Budget, e.g. 4/255.")] = "4/255",
    steps: Annotated[int | None, typer.Option("--steps", help="Steps of the method.")] = None,
    domain: Domain = None,
    seed: int = 0,
    out: OutFolder = None,
) -> None:
    """Attack images: writes them as PNG with restorations, a table and a report.

    Without `--gt` the damage is measured against the clean restoration.

    Example: `udc-robust attack photos/ --restorer nafnet_mini --eps 2/255 --out attacked`
    """
    from udc_robust.config import EvaluateConfig
    from udc_robust.config_file import check_config
    from udc_robust.evaluation.report import write_report
    from udc_robust.evaluation.run import evaluate as run
    from udc_robust.evaluation.show import print_summary

    data = {"kind": "folder" if gt is None else "pairs", "name": "images", "lq": images, "gt": gt, "domain": domain}
    block = {"method": method, "norm": norm} | ({} if method in ("cw", "ddn") else {"eps": eps})
    settings = check_config(
        {
            "name": "attack",
            "seed": seed,
            "data": [{key: value for key, value in data.items() if value is not None}],
            "restorers": [_restorer_block(restorer, weights)],
            "attacks": [block | ({} if steps is None else {"steps": steps})],
            "gallery": 1_000_000,
        },
        EvaluateConfig,
        "options",
    )
    folder = out or Path("attacked")
    run(settings, folder, shlex.join(["udc-robust", *sys.argv[1:]]))
    page = write_report([folder])
    print_summary(folder)
    typer.echo(f"attacked images: {folder / 'images'}\nreport: {page}")


def _restorer_block(restorer: str, weights: str | None) -> dict[str, str]:
    from udc_robust.restorers.zoo import shipped_checkpoints

    if restorer in shipped_checkpoints() and weights is None:
        return {"name": restorer}
    block = {"name": restorer.replace(":", "."), "network": restorer}
    return block | ({} if weights is None else {"weights": weights})


@app.command()
def restore(
    images: Images,
    restorer: RestorerName = "nafnet_mini",
    weights: Weights = None,
    domain: Domain = None,
    tile: Annotated[int, typer.Option("--tile", help="Side of the tiles in pixels; 0 restores whole images.")] = 0,
    overlap: Annotated[int, typer.Option("--overlap", help="Pixels at a tile's inner borders that are not used.")] = 32,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    out: OutFolder = None,
) -> None:
    """Restore images of any size.

    Example: `udc-robust restore photo.png --restorer nafnet_mini --tile 512 --out restored`
    """
    from udc_robust.evaluation.restoring import restore_files
    from udc_robust.restorers.zoo import RestorerSpec

    spec = RestorerSpec(**_restorer_block(restorer, weights))  # type: ignore[arg-type]
    for path in restore_files(images, spec, out or Path("restored"), domain, tile, overlap, device):
        typer.echo(path)


@app.command()
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
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    seed: int = 0,
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
    for path in purify_files(images, model, out or Path("purified"), options | more, seed=seed, device=device):
        typer.echo(path)


@app.command("noise-level")
def noise_level(
    restorer: Annotated[str, typer.Argument(help="A name of `udc-robust models`, or package.module:Class.")],
    purifier: Annotated[str, typer.Argument(help="A shipped purifier, or the folder of one.")] = "purifier_mini",
    weights: Weights = None,
    images: Annotated[Path | None, typer.Option("--images", help="Folder of captures; none: those built in.")] = None,
    gt: Annotated[Path | None, typer.Option("--gt", "--truth", help="Folder of their ground truths.")] = None,
    domain: Domain = None,
    crop: Annotated[int | None, typer.Option("--crop", help="Centre crop in pixels.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Use the first so many images.")] = None,
    levels: Annotated[str, typer.Option("--levels", help="Noise levels (timesteps) to measure.")] = "5,10,20,50",
    eps: Annotated[str, typer.Option("--eps", help="Linf budget of the attacks, e.g. 4/255.")] = "4/255",
    steps: Annotated[int, typer.Option("--steps", help="Steps of PGD.")] = 10,
    eot: Annotated[int, typer.Option("--eot", help="Purified draws averaged for each gradient.")] = 2,
    samples: Annotated[int, typer.Option("--samples", help="Purified draws that the purifier averages.")] = 1,
    max_cost: Annotated[float, typer.Option("--max-cost", help="Clean PSNR a level may cost, in dB.")] = 0.5,
    module: Annotated[str | None, typer.Option("--module", help="Part of the restorer to take features from.")] = None,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    seed: int = 0,
    out: OutFolder = None,
) -> None:
    """Choose a purifier's noise level: by PSNR under attack, and by UAD-RS's distance of features; resumes.

    Give images that are tested nowhere else, and keep the one level for every attack.

    Example: `udc-robust noise-level nafnet_mini purifier_mini --images tuning/lq --gt tuning/gt --out runs/levels`
    """
    from udc_robust.defences.purifier.level import anls_level, restoration_level
    from udc_robust.evaluation.level_study import parse_levels, study
    from udc_robust.evaluation.show import print_levels

    if (images is None) != (gt is None):
        raise UserError("--images and --gt go together: levels are chosen by PSNR, which needs ground truths")
    where = {"lq": images, "gt": gt, "domain": domain, "crop": crop, "limit": limit}
    data = {"kind": "embedded" if images is None else "pairs", **{k: v for k, v in where.items() if v is not None}}
    folder = out or Path("runs/levels")
    figures = study(
        _restorer_block(restorer, weights), purifier, data, parse_levels(levels), folder,
        attack={"method": "pgd", "eps": eps, "steps": steps, "eot": eot}, samples=samples, module=module, seed=seed,
        device=device, command=shlex.join(["udc-robust", *sys.argv[1:]]),
    )  # fmt: skip
    print_levels(figures)
    typer.echo(f"table and plot: {folder / 'levels.csv'}, {folder / 'levels.png'}")
    kept, near = restoration_level(figures, max_cost), anls_level(figures)
    typer.echo(f"by restoration level {kept.level} ({kept.reason}); by features level {near.level} ({near.reason})")


@app.command()
def synth(
    sources: Annotated[Path, typer.Argument(help="Folder of HDR panoramas, HDR stills or photographs.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the paired set.")],
    kind: Annotated[str, typer.Option("--kind", help="panorama, hdr or photo.")] = "panorama",
    psf: Annotated[
        list[str] | None, typer.Option("--psf", help="Simulated display or PSF file; repeat for several.")
    ] = None,
    per_source: Annotated[int, typer.Option("--per-source", help="Crops of each source.")] = 4,
    size: Annotated[int, typer.Option("--size", help="Side of the crops in pixels.")] = 256,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="Sources to leave out, by name.")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Use these sources only.")] = None,
    licence: Annotated[
        str, typer.Option("--licence", help="Licence of the sources, noted for each image.")
    ] = "unknown",
    difficulty: Annotated[tuple[float, float], typer.Option(help="Range of the degraded PSNR in dB.")] = (19.0, 28.0),
    shot: Annotated[float, typer.Option(help="Shot noise: variance per unit of radiance.")] = 0.0,
    read: Annotated[float, typer.Option(help="Read noise: standard deviation in radiance.")] = 0.0,
    seed: int = 0,
) -> None:
    """Make a paired set (degraded, clean) of real scenes and a display's PSF, with a manifest; resumes.

    Example: `udc-robust synth hdr/ --psf phone --psf poled --out sets/train --exclude vestibule --licence CC0-1.0`
    """
    from udc_robust.data.synth import SynthSettings, synthesise

    settings = SynthSettings(
        kind=kind, psfs=tuple(psf or ["phone"]), per_source=per_source, size=size, seed=seed, licence=licence,
        difficulty=difficulty, shot=shot, read=read,
    )  # fmt: skip
    pairs = synthesise(sources, out, settings, only=only or [], exclude=exclude or [])
    mean = sum(pair["degraded_psnr"] for pair in pairs) / len(pairs)
    typer.echo(f"{len(pairs)} pairs in {out}, degraded PSNR {mean:.1f} dB on average")


@app.command()
def fetch(
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("hdr"),
    files: Annotated[Path | None, typer.Option("--list", help="A JSON list of file, url, size and sha256.")] = None,
) -> None:
    """Download CC0 HDR panoramas (Poly Haven) to make training sets of; resumes and checks.

    Example: `udc-robust fetch --out hdr`, then `udc-robust synth hdr --out sets/train`
    """
    from udc_robust.data.fetch import fetch as run
    from udc_robust.data.fetch import read_list

    typer.echo(f"{len(run(out, None if files is None else read_list(files)))} files in {out}")


@app.command("psf-code")
def psf_code(
    psfs: Annotated[list[str], typer.Argument(help="PSF files or names of simulated displays; the first is coded.")],
    basis: Annotated[Path | None, typer.Option("--basis", help="Use this basis instead of fitting one.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Where a fitted basis is written.")] = Path("psf_basis.npz"),
    turn: Annotated[float, typer.Option("--turn", help="With one PSF: fit copies turned so far, degrees.")] = 12.0,
) -> None:
    """Print the five-number code that tells DISCNet about a display, and save its basis.

    Example: `udc-robust psf-code measured.npy --out basis.npz`, then `options: {psf_code: [...]}` in a config.
    """
    from udc_robust.data.synth import load_psf
    from udc_robust.optics.psf_code import fit_basis, load_basis, turned

    loaded = [load_psf(name) for name in psfs]
    if basis is not None:
        found = load_basis(basis)
    else:
        family = loaded if len(loaded) > 1 else [turned(loaded[0], turn * step / 4) for step in range(-4, 5)]
        found = fit_basis(family)
        found.save(out)
        typer.echo(f"basis: {out}", err=True)
    typer.echo([float(f"{number:.7g}") for number in found.code(loaded[0])])


@app.command()
def models() -> None:
    """List shipped checkpoints and networks with their size, light and the source of official weights."""
    from udc_robust.evaluation.show import print_models

    print_models()


@app.command()
def configs() -> None:
    """List the configs that ship with the package."""
    from udc_robust.evaluation.show import print_configs

    print_configs()


@app.command()
def doctor() -> None:
    """Tell versions, devices and which weights are present, and what to do about the rest."""
    from udc_robust.doctor import print_findings

    print_findings()


def main() -> None:
    """Entry point of ``udc-robust`` and ``python -m udc_robust``."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except UserError as error:
        typer.secho(f"udc-robust: {error}", fg="red", err=True)
        sys.exit(2)
    except typer.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        typer.secho("udc-robust: stopped; the same command goes on where it was", err=True)
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # click's usage errors
            error.show()
            sys.exit(error.exit_code)
        traceback.print_exc()
        typer.secho("udc-robust: this is a fault of ours; please report the lines above", fg="red", err=True)
        sys.exit(1)

"""The verbs that make data: paired sets, panoramas, and the code of a PSF."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from udc_robust.cli.next_step import after_synthesis, next_step
from udc_robust.cli.options import there
from udc_robust.errors import UserError
from udc_robust.outputs import check_files, note_file, output_file, output_folder
from udc_robust.terminal import say


def synth(
    sources: Annotated[
        Path, typer.Argument(help="Folder of HDR panoramas, HDR stills or photographs.", callback=there)
    ],
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
    field_of_view: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Range of the angles of view of panoramas, in degrees [default: 90 90, their own resolution]."
        ),
    ] = None,
    shot: Annotated[float, typer.Option(help="Shot noise: variance per unit of radiance.")] = 0.0,
    read: Annotated[float, typer.Option(help="Read noise: standard deviation in radiance.")] = 0.0,
    seed: int = 0,
) -> None:
    """Make a paired set (degraded, clean) of real scenes and a display's PSF, with a manifest; resumes.

    Example: `udc-robust synth hdr/ --psf phone --psf poled --out sets/train --exclude vestibule --licence CC0-1.0`
    """
    from udc_robust.config_file import check_config
    from udc_robust.data.synth import SynthSettings, synthesise

    values = {
        "kind": kind, "psfs": psf or ["phone"], "per_source": per_source, "size": size, "seed": seed,
        "licence": licence, "difficulty": difficulty, "shot": shot, "read": read,
    }  # fmt: skip
    if field_of_view:
        values["field_of_view"] = field_of_view
    settings = check_config(values, SynthSettings, "options")
    output_folder(out, [sources, *(Path(name) for name in settings.psfs)], below=["lq", "gt"])
    pairs = synthesise(sources, out, settings, only=only or [], exclude=exclude or [])
    mean = sum(pair["degraded_psnr"] for pair in pairs) / len(pairs)
    say(f"{len(pairs)} pairs in {out}, degraded PSNR {mean:.1f} dB on average")
    others = {"--exclude": only or [], "--only": exclude or []}  # what this set has not seen is for validation
    after_synthesis(sources, out, {"--kind": [kind], "--psf": list(settings.psfs), "--size": [str(size)]}, others)


def fetch(
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("hdr"),
    files: Annotated[Path | None, typer.Option("--list", help="A JSON list of file, url, size and sha256.")] = None,
) -> None:
    """Download CC0 HDR panoramas (Poly Haven) to make training sets of; resumes and checks.

    Example: `udc-robust fetch --out hdr`, then `udc-robust synth hdr --out sets/train`
    """
    from udc_robust.data.fetch import fetch as run
    from udc_robust.data.fetch import read_list

    output_folder(out)
    say(f"{len(run(out, None if files is None else read_list(files)))} files in {out}")
    next_step("synth", out, "--out", "sets/train")


def psf(
    cell: Annotated[
        Path, typer.Argument(help="Picture of one period of the display, white where light passes.", callback=there)
    ],
    period: Annotated[float, typer.Option("--period", help="Length of its shorter side, in micrometres.", min=8)],
    out: Annotated[Path, typer.Option("--out", help="The .npy file to write.")] = Path("display.npy"),
    angle: Annotated[float, typer.Option("--angle", help="How far the display is turned, in degrees.")] = 0.0,
    field: Annotated[
        int, typer.Option("--field", help="Width of your images in pixels: the same field of view has so many.", min=32)
    ] = 256,
    size: Annotated[int, typer.Option("--size", help="Side of the PSF in pixels, odd.", min=3, max=1601)] = 129,
) -> None:
    """Compute a display's PSF from its layout, by wave optics through a pupil of 2 mm.

    Example: `udc-robust psf cell.png --period 131 --out display.npy`
    """
    import numpy as np

    from udc_robust.data.images import read_image
    from udc_robust.files import atomic_path
    from udc_robust.optics.layout import of_cell
    from udc_robust.optics.psf import Camera, encircled_energy, simulate_psf

    if not math.isfinite(period) or not math.isfinite(angle):
        raise UserError(f"--period {period} and --angle {angle} must be finite numbers")
    output_file(out, (".npy",), [cell])
    check_files(out.parent, [out.name])
    try:
        layout = of_cell(read_image(cell).pixels.mean(0).numpy(), period, angle=angle)
    except ValueError as error:
        raise UserError(f"{cell}: {error}") from None
    if not layout.open_ratio:
        raise UserError(f"{cell}: all that the pupil sees of it is opaque: is --period {period:g} in micrometres?")
    found = simulate_psf(layout, size, Camera.for_field(field))
    with atomic_path(note_file(out)) as temporary:
        np.save(temporary, found.permute(1, 2, 0).numpy())
    say(f"{layout.open_ratio:.0%} of the display lets light through", err=True)
    shares = ", ".join(f"{share:.0%}" for share in encircled_energy(found, [1.5, 5, 20])[1].tolist())
    say(f"light within 1.5, 5 and 20 px of a point: {shares}", err=True)
    say(f"PSF: {out}")
    next_step("synth", "photos", "--kind", "photo", "--psf", out, "--out", "sets/train")


def psf_code(
    psfs: Annotated[list[str], typer.Argument(help="PSF files or names of simulated displays; the first is coded.")],
    basis: Annotated[Path | None, typer.Option("--basis", help="Use this basis instead of fitting one.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Where a fitted basis is written.")] = Path("psf_basis.npz"),
    turn: Annotated[float, typer.Option("--turn", help="With one PSF: fit copies turned so far, degrees.")] = 12.0,
) -> None:
    """Print the five-number code that tells DISCNet about a display, and save its basis.

    Example: `udc-robust psf-code measured.npy --out basis.npz`, then `options: {psf_code: [...]}` in a config.
    """
    from udc_robust.data.psf_files import load_psf, psf_told
    from udc_robust.optics.psf_code import fit_basis, load_basis, turned

    if basis is None:
        output_file(out, (".npz",), map(Path, psfs))
        check_files(out.parent, [out.name])
    loaded = [load_psf(name) for name in psfs]
    for name, psf in zip(psfs, loaded, strict=True):
        for line in psf_told(name, psf, psf.shape[-1]):
            say(line, err=True)
    if basis is not None:
        found = load_basis(basis)
    else:
        family = loaded if len(loaded) > 1 else [turned(loaded[0], turn * step / 4) for step in range(-4, 5)]
        found = fit_basis(family)
        found.save(note_file(out))
        say(f"basis: {out}", err=True)
    typer.echo([float(f"{number:.7g}") for number in found.code(loaded[0])])
    next_step("synth", "hdr", "--psf", psfs[0], "--out", "sets/train")

"""The verb that proves: what no attack within a radius can change about a smoothed network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from udc_robust.cli.next_step import next_step
from udc_robust.cli.options import Captures, Crop, Device, Domain, Limit, OutFolder, Seed, Truths, pairs_block
from udc_robust.cli.options import restorer_block as block_of
from udc_robust.errors import UserError
from udc_robust.outputs import output_folder
from udc_robust.terminal import say


def certify(
    network: Annotated[str, typer.Argument(help="A classifier (with --data) or a restorer: a name, or a file.")],
    data: Annotated[
        str | None, typer.Option("--data", help="Labelled images of a classifier: digits:test, an .npz, a folder.")
    ] = None,
    side: Annotated[int | None, typer.Option("--side", help="Bring labelled images to this side.", min=1)] = None,
    images: Captures = None,
    gt: Truths = None,
    domain: Domain = None,
    crop: Crop = None,
    limit: Limit = None,
    sigma: Annotated[str, typer.Option("--sigma", help="Deviations of the noise, in [0,1]; the best is kept.")] = "0.1",
    noise: Annotated[str, typer.Option("--noise", help="gaussian, laplace, uniform; the best is kept.")] = "gaussian",
    norm: Annotated[str, typer.Option("--norm", help="Of the radius: l2, l1 or linf.")] = "l2",
    count: Annotated[int, typer.Option("--count", help="Noisy answers an image.", min=10)] = 1000,
    alpha: Annotated[float, typer.Option("--alpha", help="Chance that a certificate is wrong.")] = 0.001,
    device: Device = "cpu",
    seed: Seed = 0,
    out: OutFolder = None,
) -> None:
    """Prove what no attack can change: randomized smoothing of a classifier (resumes), or a restorer's median.

    A classifier's certificate is a radius for each image (Cohen et al. 2019); a restorer's a PSNR that the median of
    its noisy restorations keeps within an L2 radius (Chiang et al. 2020), or the word vacuous.

    Example: `udc-robust certify digits_mini --data digits:test --sigma 0.05,0.1,0.2 --limit 40`
    """
    try:
        sigmas = [float(part) for part in sigma.split(",")]
    except ValueError as error:
        raise UserError(f"--sigma {sigma} must be numbers such as 0.1 or 0.1,0.25") from error
    if data is not None and any(value is not None for value in (images, gt, domain, crop)):
        raise UserError("--images, --gt, --domain and --crop are of a restorer: leave them out, or leave out --data")
    if data is None and side is not None:
        raise UserError("--side goes with --data, the labelled images of a classifier")
    named = (images, gt, None if data is None else Path(data))
    reads = [path for path in named if path is not None and path.exists()]
    folder = output_folder(out or Path("runs/certified"), reads, apart=True)
    if data is not None:
        _classifier(network, data, side, noise, sigmas, norm, count, alpha, limit, seed, device, folder)
        return
    if norm != "l2" or noise != "gaussian" or len(sigmas) > 1:
        raise UserError(
            "a restorer's median is certified in --norm l2, by --noise gaussian of one --sigma; "
            "for a classifier name its images with --data"
        )
    from udc_robust.tasks.certificate_study import parse_smoothings
    from udc_robust.tasks.median_study import sentence, study

    parse_smoothings(noise, sigmas, norm=norm, alpha=alpha)
    block = pairs_block(images, gt, domain, crop, limit)
    block = {("size" if images is None and key == "crop" else key): value for key, value in block.items()}
    rows = study(block_of(network, None, None, None, None), block, sigmas[0], folder, count=count, alpha=alpha,
                 seed=seed, device=device)  # fmt: skip
    for row in rows:
        word = "vacuous" if row["vacuous"] else "certified"
        say(f"{row['image']}, L2 {row['radius']:.3g}: {row['psnr_certified']:.2f} dB {word} "
            f"(median {row['psnr_median']:.2f}, capture {row['psnr_capture']:.2f})")  # fmt: skip
    say(f"{sentence(rows, rows[0]['values'])}; table: {folder / 'certified.csv'}")


def _classifier(
    network: str, data: str, side: int | None, noise: str, sigmas: list[float], norm: str, count: int, alpha: float,
    limit: int | None, seed: int, device: str, folder: Path,
) -> None:  # fmt: skip
    from udc_robust.tasks.certificate_study import parse_smoothings, study

    smoothings = parse_smoothings(noise, sigmas, norm=norm, count=count, alpha=alpha)
    best, rows = study(network, data, smoothings, folder, side=side, limit=limit, seed=seed, device=device)
    first = rows[0]
    say(f"{best.label}: {first['accuracy']:.1%} right, {first['abstained']:.1%} abstained, mean {norm} radius "
        f"{first['mean_radius']:.4f} on {first['images']} images")  # fmt: skip
    for row in rows:
        say(f"{norm} radius {row['radius']:.4f}: {row['certified']:.1%} certified to be right")
    say(f"tables and plot: {folder / 'certificates.csv'}, certified.csv, certified.png")
    next_step("train", "classifier", "distilled", f"teacher={network}", f"sigma={best.sigma:g}")

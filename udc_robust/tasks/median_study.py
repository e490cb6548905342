"""What smoothing certifies of a restorer: bounds on every value of its median restoration, and whether they say much.

A restorer has no class that could win a vote. Its median under noise has bounds (Chiang et al. 2020): within an L2
radius each value stays between two quantiles. From them follows a PSNR that no attack within the radius goes below.
Where that is below the PSNR of the capture itself the certificate is vacuous, and the word is printed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from udc_robust.attacks import frozen, image_seed
from udc_robust.config_file import check_config
from udc_robust.errors import UserError
from udc_robust.files import disk_errors, write_text
from udc_robust.grid.tables import to_csv
from udc_robust.limits import require_memory, usable_device
from udc_robust.lock import sole_writer
from udc_robust.metrics.certificates import median_ranks
from udc_robust.progress import progress
from udc_robust.restorers.zoo import Restorer
from udc_robust.tasks.restoration import load_restorers, open_images
from udc_robust.tasks.restoration_schema import RestorationConfig

COLUMNS = (
    "image", "values", "sigma", "radius", "radii_of_sigma", "psnr_median", "psnr_certified", "psnr_capture", "width",
    "vacuous",
)  # fmt: skip
SHIFTS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Radii, in deviations of the noise."""
_BATCH = 25


def study(
    restorer: Mapping[str, Any], data: Mapping[str, Any], sigma: float, out: Path, *, count: int = 1000,
    alpha: float = 0.001, seed: int = 0, device: str = "cpu",
) -> list[dict[str, Any]]:  # fmt: skip
    """Bound the median restoration of each image, and write ``certified.csv``.

    Args:
        restorer, data: blocks of a `RestorationConfig`.
        sigma: deviation of the noise on the capture in [0,1] image units.
        count: noisy restorations; ``alpha``: chance that any bound of an image is wrong.

    Returns:
        A row an image and radius; ``width`` is the mean distance of the bounds.

    Raises:
        UserError: images without ground truth or in linear light, or too many values for the memory.
    """
    values = {"name": "certify", "data": [data], "restorers": [restorer], "attacks": ["noise"], "lpips": None}
    config = check_config({**values, "seed": seed, "device": device}, RestorationConfig, "options")
    usable_device(device)
    inputs = open_images(config.data[0])
    if not inputs.truth or inputs.domain == "linear":
        raise UserError(f"data {inputs.label!r} must be pairs in [0,1]: a certified PSNR is one against a truth (--gt)")
    loaded = load_restorers(config, inputs.domain)[config.restorers[0].name]
    rows: list[dict[str, Any]] = []
    with sole_writer(out, whole=False), disk_errors(out), progress("certifying", len(inputs.keys)) as tick:
        for i, key in enumerate(inputs.keys):
            x, truth = inputs.load(i)
            assert truth is not None
            require_memory(3 * count * x.numel(), f"{count} restorations of {key} (`--count`, `--crop`)")
            generator = torch.Generator().manual_seed(image_seed(seed, key, f"gaussian {sigma:g}"))
            answers = noisy_answers(loaded, x.to(device), sigma, count, generator).sort(0).values
            capture = _psnr((x - truth).square().mean())
            for shift in SHIFTS:
                found = bounded(answers, truth, shift, alpha)
                rows.append({
                    "image": key, "values": truth.numel(), "sigma": sigma, "radius": shift * sigma,
                    "radii_of_sigma": shift, **found, "psnr_capture": capture,
                    "vacuous": found["psnr_certified"] <= capture,
                })  # fmt: skip
            tick(key)
        write_text(out / "certified.csv", to_csv(COLUMNS, rows))
    return rows


@torch.no_grad()
def noisy_answers(restorer: Restorer, x: Tensor, sigma: float, count: int, generator: torch.Generator) -> Tensor:
    """``(count,3,H,W)`` restorations of a capture ``(3,H,W)`` under Gaussian noise, in [0,1], on the CPU."""
    found = []
    with frozen(restorer):
        for first in range(0, count, _BATCH):
            noise = torch.randn((min(_BATCH, count - first), *x.shape), generator=generator).to(x.device)
            found.append(restorer(x + sigma * noise).clamp(0, 1).cpu())
    return torch.cat(found)


def bounded(answers: Tensor, truth: Tensor, shift: float, alpha: float) -> dict[str, float]:
    """What is certain of the median within ``shift`` deviations of the noise.

    Every value has a bound on either side, and all of them hold together but for a chance of ``alpha``.

    Args:
        answers: ``(n,3,H,W)`` in rising order along n.
    """
    ranks = median_ranks(len(answers), alpha / (2 * truth.numel()), shift)
    middle = answers[(len(answers) - 1) // 2]
    low, high = (torch.zeros_like(truth), torch.ones_like(truth)) if ranks is None else (answers[r] for r in ranks)
    furthest = torch.maximum((high - truth).abs(), (truth - low).abs())
    return {
        "psnr_median": _psnr((middle - truth).square().mean()), "psnr_certified": _psnr(furthest.square().mean()),
        "width": float((high - low).mean()),
    }  # fmt: skip


def _psnr(error: Tensor) -> float:
    return -10 * math.log10(max(float(error), 1e-12))


def sentence(rows: Sequence[Mapping[str, Any]], values: int, eps: float = 4 / 255) -> str:
    """How far the certificates say anything, and what the usual Linf budget would ask of them.

    Args:
        values: numbers in an image.
    """
    useful = [row["radius"] for row in rows if not row["vacuous"]]
    sigma = rows[0]["sigma"]
    needed = eps * math.sqrt(values)
    reach = (
        f"certified above the capture's own PSNR up to an L2 radius of {max(useful):.3g} on some image"
        if useful else "vacuous at every radius, 0 included: the bounds allow less than the capture's own PSNR"
    )  # fmt: skip
    return (
        f"{reach}; Linf {eps * 255:g}/255 on such images is an L2 radius of {needed:.2f}, "
        f"{needed / sigma:.0f} deviations of the noise: vacuous"
    )

"""The worst display within joint tolerances: among the corners of the box, and by gradient ascent."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from udc_robust.attacks import Streams, frozen, image_seed
from udc_robust.optics.variation import Variation
from udc_robust.tasks.tolerance_scenes import Bench

_FIRST_STEP, _LAST_STEP = 0.5, 0.1  # of the tolerances


def corners(tolerances: Mapping[str, float]) -> list[dict[str, float]]:
    """Every parameter at either end of its tolerance: 2 to the power of their number."""
    signs = itertools.product((-1.0, 1.0), repeat=len(tolerances))
    return [{name: sign * tolerances[name] for name, sign in zip(tolerances, row, strict=True)} for row in signs]


def psf_at(variation: Variation, values: Mapping[str, float]) -> Tensor:
    """The PSF of a display that is off by so much."""
    with torch.no_grad():
        return variation.psf({name: torch.tensor(value) for name, value in values.items()})


def ascent(
    bench: Bench, name: str, variation: Variation, tolerances: Mapping[str, float], *, steps: int, draws: int,
    restart: int,
) -> dict[str, float]:  # fmt: skip
    """The worst point of a projected sign ascent on a restorer's error over all scenes, from a random point of the box.

    The step falls from half of a tolerance to a tenth; noise is drawn anew in each (EOT).

    Args:
        draws: of noise averaged for a gradient, 1 without noise.
        restart: number of the random point; every second is the mirror image of the one before, as what is off either
            way is worse than nothing off, and no ascent crosses the middle.
    """
    stream = Streams([image_seed(bench.seed, name, f"restart {restart // 2}")])
    place = (2 * stream.uniform(torch.empty(1, len(tolerances)))[0] - 1) * (-1) ** restart
    widths = torch.tensor(list(tolerances.values()))
    worst, best = -math.inf, place
    with frozen(bench.restorers[name]):
        for step in range(steps + 1):
            place.requires_grad_(True)
            psf = variation.psf(dict(zip(tolerances, place * widths, strict=True)))
            damage, by_psf = bench.damage(psf, name, 1 + step * draws, draws)
            if damage > worst:
                worst, best = damage, place.detach()
            if step == steps:
                break
            (slope,) = torch.autograd.grad(psf, place, by_psf)
            size = _FIRST_STEP + (_LAST_STEP - _FIRST_STEP) * step / max(steps - 1, 1)
            place = (place.detach() + size * slope.nan_to_num(0).sign()).clamp(-1, 1)
    return dict(zip(tolerances, (best * widths).tolist(), strict=True))

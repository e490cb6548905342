"""One perturbation for a whole set of images, and the method that puts a stored one before a victim."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from udc_robust.attacks.attack import frozen
from udc_robust.attacks.methods import method
from udc_robust.attacks.objectives import Objective
from udc_robust.attacks.oracle import Chance, GradientOracle, Oracle, Victim
from udc_robust.attacks.streams import Streams, image_seed
from udc_robust.attacks.threat import Threat


def universal(
    victim: Victim, batches: Sequence[tuple[Tensor, Tensor]], objective: Objective, threat: Threat, *,
    epochs: int = 10, step_size: float | None = None, multiplicative: bool = False, seed: int = 0,
) -> Tensor:  # fmt: skip
    """The perturbation that raises an objective over a set, by gradient steps over its batches (Shafahi et al. 2020).

    An image becomes ``x + v + w * x``, cut to the budget and the box around it. ``w`` stays 0 for a universal
    adversarial perturbation (Moosavi-Dezfooli et al. 2017); PUAP (ICPR 2020) learns both, with the objective
    ``correlation`` against clean restorations. Formulas of PUAP are rebuilt from its abstract. ``v`` begins as noise
    of a hundredth of the budget.

    Args:
        batches: images ``(B,C,H,W)`` of one size, each batch with its targets.
        step_size: of both parts; None: a tenth of eps.
        seed: of the beginning, and of a random victim.

    Returns:
        ``(2,C,H,W)``: ``v`` and ``w``.
    """
    first = batches[0][0]
    parts = torch.zeros(2, *first.shape[1:], dtype=first.dtype, device=first.device)
    # At 0 an objective that is least for the clean answer has no slope.
    small = type(threat)(threat.eps / 100, -torch.inf, torch.inf)
    parts[:1] = small.noise(parts[:1], Streams([image_seed(seed, "universal", "start")]))
    free = type(threat)(threat.eps, -torch.inf, torch.inf)
    size = threat.eps / 10 if step_size is None else step_size
    learnt = 2 if multiplicative else 1
    with frozen(victim):
        for epoch in range(epochs):
            for number, (x, target) in enumerate(batches):
                seeds = [image_seed(seed, f"{epoch} {number} {row}") for row in range(len(x))]
                oracle = GradientOracle(victim, objective, target, Streams(seeds), Chance(seeds))
                slope = oracle.gradient(perturbed(x, parts, threat))
                slopes = torch.stack([slope.sum(0), (slope * x).sum(0)])
                moved = free.project(torch.zeros_like(parts), free.step(parts, slopes, size))
                parts[:learnt] = moved[:learnt]
    return parts


def perturbed(x: Tensor, parts: Tensor, threat: Threat) -> Tensor:
    """Images with a universal perturbation ``(2,C,H,W)`` on them."""
    return threat.project(x, x + parts[0] + parts[1] * x)


def _stored(size: tuple[int, int], *, file: str) -> Tensor:
    """A perturbation ``(C,H,W)``, or ``(2,C,H,W)`` with its multiplicative part, for images of a size.

    Raises:
        ValueError: no such file, not an array of finite numbers, or one for images of another size.
    """
    if not Path(file).is_file():
        raise ValueError(f"no file {file or '(`file` is not given)'}: it must be a .npy of a universal perturbation")
    try:
        parts = torch.from_numpy(np.load(file, allow_pickle=False)).float()
    except (ValueError, OSError, EOFError, TypeError) as error:
        raise ValueError(f"{file} is no .npy array of numbers ({error})") from error
    parts = torch.stack([parts, torch.zeros_like(parts)]) if parts.ndim == 3 else parts
    if parts.ndim != 4 or len(parts) != 2 or not parts.isfinite().all():
        raise ValueError(f"{file} must hold finite (C,H,W) or (2,C,H,W), not {tuple(parts.shape)}")
    if parts.shape[-2:] != size:
        height, width = parts.shape[-2:]
        raise ValueError(f"{file} is for images of {height}x{width} px, not {size[0]}x{size[1]}")
    return parts


@method("query", keeps_best=False, check=_stored)
def fixed(oracle: Oracle, x: Tensor, threat: Threat, *, file: str = "") -> Tensor:
    """The same stored perturbation on every image: nothing is asked. What its maker knew, the file does not tell.

    Args:
        file: .npy of what `universal` makes; it is cut to the budget around each image.
    """
    parts = _stored((x.shape[-2], x.shape[-1]), file=file).to(x)
    if parts.shape[1] not in (1, x.shape[1]):
        raise ValueError(f"{file} has {parts.shape[1]} channels, and the images have {x.shape[1]}")
    return perturbed(x, parts, threat)

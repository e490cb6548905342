"""Attacks in a band of spatial frequencies, and what they say of a restorer: its gain spectrum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from udc_robust.attacks.attack import attack
from udc_robust.attacks.gradient import ascend, begin
from udc_robust.attacks.methods import method
from udc_robust.attacks.objectives import Objective
from udc_robust.attacks.oracle import Oracle, Victim
from udc_robust.attacks.threat import Threat
from udc_robust.attacks.within import Band


def _is_band(size: tuple[int, int], *, low: float, high: float) -> None:
    """Raise ValueError for a band without any frequency of images of this size."""
    if not 0 <= low < high <= 1:
        raise ValueError(f"band low {low:g} to high {high:g}: shares of the Nyquist frequency rise from 0 to 1")
    if not Band.inside(size, low, high).any():
        raise ValueError(f"images of {size[0]}x{size[1]} have no frequency from {low:g} to {high:g} of Nyquist's")


@method("gradient", check=_is_band)
def band_pgd(
    oracle: Oracle,
    x: Tensor,
    threat: Threat,
    *,
    low: float = 0.0,
    high: float = 0.25,
    steps: int = 20,
    step_size: float | None = None,
) -> Tensor:
    """PGD of which only a band of spatial frequencies is kept: low ones by default (Guo et al. 2019).

    What the box cuts off and what rounding to 8 bits adds lies in all bands: at 4/255 the rounding is 17 dB below.

    Args:
        low, high: of the band, as shares of the Nyquist frequency.
    """
    band = Band(threat, low, high)
    start = begin(oracle, x, band, random=True)
    oracle.values(ascend(oracle, x, start, band, steps=steps, step_size=step_size))
    return oracle.best_x


def gain_spectrum(
    victim: Victim, x: Tensor, objective: Objective, threat: Threat, *, target: Tensor | None = None,
    seeds: Sequence[int], bands: int = 8, steps: int = 20,
) -> Tensor:  # fmt: skip
    """How much each band of spatial frequencies can do: ``(bands,B)``, the rise of the objective, low bands first.

    Each band gets the whole budget, and nothing is rounded. Other arguments are those of `attack`.
    """
    found = []
    for k in range(bands):
        result = attack(
            victim, x, objective, threat, "band_pgd", target=target, seeds=seeds, low=k / bands, high=(k + 1) / bands,
            steps=steps, round_8_bit=False,
        )  # fmt: skip
        found.append(result.adv_values - result.clean_values)
    return torch.stack(found)

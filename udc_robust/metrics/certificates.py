"""What can be proven of a network under noise: the radius within which no attack changes its smoothed answer.

A smoothed classifier gives the class that its network gives most often under noise (Cohen, Rosenfeld & Kolter 2019); a
smoothed restorer gives, value by value, the median of its restorations under Gaussian noise (Chiang et al. 2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """Noise of unit deviation, and the radii that it certifies.

    Attributes:
        draw: from uniform numbers in [0,1).
        radii: by norm, the radius from the probability (above 1/2) of the class and the number of values of an image.
    """

    draw: Callable[[Tensor], Tensor]
    radii: Mapping[str, Callable[[float, int], float]]


def _normal_quantile(p: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(p))


def _laplace(uniform: Tensor) -> Tensor:
    centred = (uniform.double() - 0.5).clamp_min(1e-12 - 0.5)
    return (-centred.sign() * torch.log1p(-2 * centred.abs()) / math.sqrt(2)).to(uniform.dtype)


NOISES: Mapping[str, Noise] = {
    # Cohen et al. 2019, theorem 1; the others follow from |d|_2 <= |d|_1 and |d|_2 <= sqrt(n) |d|_inf.
    "gaussian": Noise(
        lambda uniform: torch.erfinv(2 * uniform.double().clamp_min(1e-12) - 1).to(uniform.dtype) * math.sqrt(2),
        {
            "l2": lambda p, values: _normal_quantile(p),
            "l1": lambda p, values: _normal_quantile(p),
            "linf": lambda p, values: _normal_quantile(p) / math.sqrt(values),
        },
    ),
    # Teng et al. 2020; Yang et al. 2020, table 1.
    "laplace": Noise(_laplace, {"l1": lambda p, values: -math.log(2 * (1 - p)) / math.sqrt(2)}),
    # Yang et al. 2020, table 1: of a uniform on [-a, a], 2 a (p - 1/2), with a deviation of a / sqrt(3).
    "uniform": Noise(
        lambda uniform: (2 * uniform - 1) * math.sqrt(3), {"l1": lambda p, values: 2 * math.sqrt(3) * (p - 0.5)}
    ),
}
"""Noises of smoothing, by name."""


def lower_bound(hits: int, trials: int, alpha: float) -> float:
    """Clopper and Pearson's lower bound of a probability: true but for a chance of ``alpha``."""
    from scipy.stats import beta

    return 0.0 if hits == 0 else float(beta.ppf(alpha, hits, trials - hits + 1))


def radius(noise: str, norm: str, probability: float, sigma: float, values: int) -> float:
    """The certified radius of a class of at least this probability; 0 where it has not the majority.

    Args:
        noise: a name of `NOISES`; ``sigma`` its standard deviation.
        values: numbers in an image, for a norm that is only implied.

    Raises:
        ValueError: this noise certifies no such norm.
    """
    known = NOISES[noise].radii
    if norm not in known:
        raise ValueError(f"{noise} noise certifies {', '.join(known)}, not {norm}")
    return sigma * known[norm](probability, values) if probability > 0.5 else 0.0


def median_ranks(trials: int, alpha: float, shift: float) -> tuple[int, int] | None:
    """Which order statistics bound the median of anything within ``shift`` deviations of Gaussian noise.

    Within an L2 distance of ``shift * sigma`` the median lies between the quantiles ``Phi(-shift)`` and ``Phi(shift)``
    of the outputs here (Chiang et al. 2020, theorem 1); each is bounded by an order statistic but for ``alpha``.

    Returns:
        Ranks from 0 of the lower and the upper one; None where so few trials tell nothing of such quantiles.
    """
    from scipy.stats import binom, norm

    count = int(binom.ppf(alpha, trials, norm.cdf(-shift)))
    return (count - 1, trials - count) if count > 0 else None

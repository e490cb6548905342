"""What is certain: floors under what a restorer holds, and where they say nothing.

``L``: the root mean squared error rises by at most ``L`` times that of the change. Median smoothing (Chiang et al.,
"Detection as Regression", NeurIPS 2020): the median answer to a capture with Gaussian noise moves, whatever a change of
Euclidean norm ``eps`` is, between the percentiles ``Phi(-eps / sigma)`` and ``Phi(eps / sigma)`` of those answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from udc_robust.attacks import Streams, image_seed
from udc_robust.metrics import psnr

CONFIDENCE = 0.999
"""With which each value of a smoothed answer is certified."""


@dataclass(frozen=True)
class Floor:
    """A mean over images, in dB.

    Attributes:
        eps: Euclidean budget of a whole image; ``sigma``: of the noise.
        clean: PSNR of the smoothed restorer, unattacked.
        certified: PSNR that no change within the budget takes it below.
        nothing: PSNR of a grey picture of each truth's mean colour: a floor below it is vacuous.
    """

    eps: float
    sigma: float
    clean: float
    certified: float
    nothing: float

    @property
    def vacuous(self) -> bool:
        """Whether it promises less than an answer that does not look at the picture."""
        return self.certified <= self.nothing


def places(ratio: float, samples: int) -> tuple[int, int] | None:
    """Which of so many sorted answers bound the percentiles of a budget of ``ratio`` deviations; None: none does."""
    from scipy.stats import binom, norm

    # The k-th smallest of n lies above the percentile p with probability P(Binomial(n, p) < k).
    high = int(binom.ppf(CONFIDENCE, samples, norm.cdf(ratio))) + 1
    return None if high > samples else (samples - high, high - 1)


def median_floor(
    restorer: Callable[[Tensor], Tensor], images: Sequence[tuple[Tensor, Tensor]], eps: float, *,
    samples: int = 100, seed: int = 0,
) -> Floor:  # fmt: skip
    """The floor of a restorer whose answers to ``samples`` noisy copies are made one by their median, value by value.

    The noise has the deviation of the budget, where percentiles and answers are best balanced.

    Args:
        images: captures and truths ``(3,H,W)``.
        eps: Euclidean norm of a change of a whole image.
    """
    found: list[tuple[float, float, float]] = []
    for number, (x, truth) in enumerate(images):
        streams = Streams([image_seed(seed, f"{number}/{i}", "floor") for i in range(samples)])
        with torch.no_grad():
            noisy = (x + eps * streams.normal(x.expand(samples, *x.shape))).split(10)
            answers = torch.cat([restorer(part).clamp(0, 1).cpu() for part in noisy]).sort(0).values
        known = places(1.0, samples)
        anything = torch.zeros_like(truth), torch.ones_like(truth)
        low, high = (answers[known[0]], answers[known[1]]) if known else anything
        furthest = torch.maximum((low - truth).abs(), (high - truth).abs()).double()
        grey = truth.mean((1, 2), keepdim=True).expand_as(truth)
        found.append((
            psnr(answers[samples // 2][None].double(), truth[None].double()).item(),
            -10 * math.log10(furthest.square().mean().item()), psnr(grey[None].double(), truth[None].double()).item(),
        ))  # fmt: skip
    clean, certified, nothing = (sum(column) / len(found) for column in zip(*found, strict=True))
    return Floor(eps, eps, clean, certified, nothing)


def lipschitz_floor(clean: float, bound: float, eps: float) -> float:
    """PSNR that a restorer cannot fall below under Linf ``eps``, or a change of that root mean square."""
    return -20 * math.log10(10 ** (-clean / 20) + bound * eps)


def smoothing_ratio(eps: float, numbers: int, sigma: float = 0.1) -> float:
    """Deviations that the Euclidean ball around an Linf ball of ``eps`` has, of an image of so many numbers."""
    return eps * math.sqrt(numbers) / sigma

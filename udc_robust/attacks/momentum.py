"""Momentum and input diversity: what makes an attack on one network work on others."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from udc_robust.attacks.classification import Divergence, Misclassify
from udc_robust.attacks.gradient import begin
from udc_robust.attacks.methods import method
from udc_robust.attacks.objectives import Mean
from udc_robust.attacks.oracle import Around, Oracle
from udc_robust.attacks.threat import Threat

_SMALLEST, _FURTHEST = 0.9, 8
"""Least share of the size that a classifier is shown, and furthest shift in px that a restorer is."""


@method("gradient")
def mifgsm(
    oracle: Oracle,
    x: Tensor,
    threat: Threat,
    *,
    steps: int = 10,
    step_size: float | None = None,
    momentum: float = 1.0,
    diversity: float = 0.0,
    random_start: bool = False,
) -> Tensor:
    """MI-FGSM (Dong et al. 2018): steps along a decaying sum of gradients, each of unit mean size; eps over the steps.

    Args:
        diversity: the share of images that are varied before each gradient (DI, Xie et al. 2019: 0.5); see `diverse`.
            The last iterate is then the answer, for the gradients are those of other images.
    """
    size = threat.eps / steps if step_size is None else step_size
    around = diverse(oracle, diversity) if diversity else None
    x_adv = begin(oracle, x, threat, random_start)
    total = torch.zeros_like(x)
    for _ in range(steps):
        gradient = oracle.answer(x_adv, around=around, keep=around is None).gradient
        total = momentum * total + gradient / gradient.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-12)
        x_adv = threat.project(x, threat.step(x_adv, total, size))
    oracle.values(x_adv)
    return oracle.best_x


def diverse(oracle: Oracle, share: float) -> Around:
    """Show the victim this share of the images, drawn anew each time, not as they are.

    A classifier sees them shrunk to 0.9 to 1 of their size at a random place on black. A restorer's answer must stay
    comparable with the truth, pixel by pixel: it sees them mirrored and moved by up to 8 px around the border, and its
    answer is moved and mirrored back. A network with strides or borders answers otherwise there, as another one would.
    """

    def around(ask: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> Tensor:
        streams = oracle.streams.repeat(len(x) // len(oracle.streams))
        drawn = streams.uniform(x.new_empty(len(x), 5)).tolist()
        chosen = [row[1:] if row[0] < share else None for row in drawn]
        climbed = oracle.objective.of if isinstance(oracle.objective, Mean) else oracle.objective
        if isinstance(climbed, Misclassify | Divergence):
            return ask(torch.stack([_shrunk(image, row) for image, row in zip(x, chosen, strict=True)]))
        answers = ask(torch.stack([_moved(image, row) for image, row in zip(x, chosen, strict=True)]))
        return torch.stack([_moved_back(answer, row) for answer, row in zip(answers, chosen, strict=True)])

    return around


def _shrunk(image: Tensor, draw: list[float] | None) -> Tensor:
    if draw is None:
        return image
    height, width = image.shape[-2:]
    scale = _SMALLEST + (1 - _SMALLEST) * draw[0]
    rows, columns = max(round(scale * height), 1), max(round(scale * width), 1)
    small = F.interpolate(image[None], (rows, columns), mode="bilinear", align_corners=False)[0]
    top, left = (int(u * (free + 1)) for u, free in zip(draw[1:], (height - rows, width - columns), strict=False))
    return F.pad(small, (left, width - columns - left, top, height - rows - top))


def _motion(draw: list[float]) -> tuple[list[int], tuple[int, int]]:
    """Which axes are mirrored, and how far the image is moved along both."""
    mirrored = [axis for axis, u in zip((-2, -1), draw, strict=False) if u < 0.5]
    down, right = (int(u * (2 * _FURTHEST + 1)) - _FURTHEST for u in draw[2:])
    return mirrored, (down, right)


def _moved(image: Tensor, draw: list[float] | None) -> Tensor:
    if draw is None:
        return image
    mirrored, shift = _motion(draw)
    return image.flip(mirrored).roll(shift, (-2, -1))


def _moved_back(answer: Tensor, draw: list[float] | None) -> Tensor:
    if draw is None:
        return answer
    mirrored, (down, right) = _motion(draw)
    return answer.roll((-down, -right), (-2, -1)).flip(mirrored)

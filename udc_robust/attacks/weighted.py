"""Attacks on dense predictions that weigh pixels: CosPGD and SegPGD.

The weight ``(B,1,H,W)`` of a pixel is the same for all its channels. It multiplies the gradient that reaches the pixel,
which for a mean over pixels is to weigh its loss, and serves every other objective as well.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from udc_robust.attacks.gradient import ascend, begin
from udc_robust.attacks.methods import method
from udc_robust.attacks.objectives import Damage
from udc_robust.attacks.oracle import Oracle
from udc_robust.attacks.threat import Threat

Weights = Callable[[int, Tensor, Tensor], Tensor]
"""``(step, answers, targets)`` to the weight of each pixel."""


class Weighted:
    """An oracle to whose gradients some pixels of the answer count more than others, by the step."""

    repeats = False

    def __init__(self, oracle: Oracle, weights: Weights) -> None:
        self._oracle, self._weights, self._step = oracle, weights, 0

    def gradient(self, x: Tensor) -> Tensor:
        """Gradient of each image's objective, weighed."""
        found = self._oracle.answer(x, around=self._weigh).gradient
        self._step += 1
        return found

    def _weigh(self, ask: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> Tensor:
        answer = ask(x)
        known = answer.detach()
        return known + self._weights(self._step, known, target) * (answer - known)


@method("gradient", images_only=True)
def cospgd(oracle: Oracle, x: Tensor, threat: Threat, *, steps: int = 20, step_size: float | None = None) -> Tensor:
    """CosPGD (Agnihotri et al. 2024): PGD that weighs pixels by how like the truth they are.

    The likeness is the cosine of the channels' softmax. For RGB near the truth it is .97 to 1: expect PGD.
    The authors' code multiplies ``(B,H,W)`` into ``(B,C,H,W)``: three images weigh each other's pixels, two fail.
    """
    weighted = Weighted(oracle, lambda step, answer, target: cosine(answer, target))
    return _climbed(oracle, weighted, x, threat, steps, step_size)


@method("gradient", images_only=True)
def segpgd(oracle: Oracle, x: Tensor, threat: Threat, *, steps: int = 20, step_size: float | None = None) -> Tensor:
    """SegPGD (Gu et al. 2022): PGD that first moves the pixels that are right still, later those that are wrong too.

    In step t = 1 to T a wrong pixel weighs t/2T, a right one 1 - t/2T. Segmentation knows which are wrong; of a
    restoration we take those whose squared error is 6 dB above the unattacked image's mean
    (ours, for want of a published rule).
    """
    limit = Damage("mse", _squared, 1e-4).goal(_squared(oracle.outputs(x), oracle.target))

    def weights(step: int, answer: Tensor, target: Tensor) -> Tensor:
        late = (step + 1) / (2 * steps)
        goal = limit.repeat_interleave(len(answer) // len(limit)).view(-1, 1, 1, 1)
        wrong = (answer - target).square().mean(1, keepdim=True) >= goal
        return late * wrong + (1 - late) * ~wrong

    return _climbed(oracle, Weighted(oracle, weights), x, threat, steps, step_size)


def cosine(answer: Tensor, target: Tensor) -> Tensor:
    """Cosine of the softmax over channels of two batches, ``(B,1,H,W)``."""
    return F.cosine_similarity(answer.softmax(1), target.softmax(1), dim=1).unsqueeze(1)


def _climbed(
    oracle: Oracle, weighted: Weighted, x: Tensor, threat: Threat, steps: int, step_size: float | None
) -> Tensor:
    start = begin(oracle, x, threat, random=True)
    oracle.values(ascend(weighted, x, start, threat, steps=steps, step_size=step_size))
    return oracle.best_x


def _squared(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square().flatten(1).mean(1)

"""What an attacker of a classifier maximises. Outputs are raw scores ``(B,K)``; targets are labels ``(B,)``.

Whatever is climbed, an image counts as broken by its answer alone: by the sign of the margin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def margin(scores: Tensor, labels: Tensor) -> Tensor:
    """Best other score minus the label's score: positive when the answer is another (Carlini & Wagner 2017)."""
    named = scores.gather(1, labels[:, None])[:, 0]
    others = scores.scatter(1, labels[:, None], -torch.inf)
    return others.amax(1) - named


def dlr(scores: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio (Croce & Hein 2020, eq. 6): the margin over the gap of the first and third score.

    It feels neither a shift nor a scaling of the scores.
    """
    top = scores.topk(3, 1).values
    return margin(scores, labels) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_dlr(scores: Tensor, wanted: Tensor) -> Tensor:
    """DLR towards a class (Croce & Hein 2020, eq. 7), positive when that class is the answer.

    Theirs takes the true class where this takes the best of the others, so that its sign tells success.
    """
    top = scores.topk(4, 1).values
    return -margin(scores, wanted) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


def _cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(scores, labels, reduction="none")


@dataclass(frozen=True)
class _Climbed:
    """A loss to climb, the fewest classes it is defined for, and whether it is positive exactly when broken."""

    loss: Callable[[Tensor, Tensor], Tensor]
    fewest_classes: int
    tells_success: bool


_CLIMBED = {
    "cross_entropy": _Climbed(_cross_entropy, 2, False),
    "margin": _Climbed(margin, 2, True),
    "dlr": _Climbed(dlr, 3, True),
    "targeted_cross_entropy": _Climbed(lambda scores, wanted: -_cross_entropy(scores, wanted), 2, False),
    "targeted_margin": _Climbed(lambda scores, wanted: -margin(scores, wanted), 2, True),
    "targeted_dlr": _Climbed(targeted_dlr, 4, True),
}
CLASSIFICATION = (*_CLIMBED, "divergence")


@dataclass(frozen=True)
class Misclassify:
    """A classification loss; broken means that the answer is wrong, or, targeted, that it is the wanted class.

    ``name`` is what gradient attacks climb: ``cross_entropy``, ``margin`` or ``dlr``, whose targets are the true
    labels, or a ``targeted_`` form, whose targets are the wanted ones.
    """

    name: str

    @property
    def targeted(self) -> bool:
        """Whether targets are the classes the attacker wants."""
        return self.name.startswith("targeted_")

    def check(self, output: Tensor, target: Tensor) -> None:
        """Raise ValueError for scores or labels that this objective is not defined for."""
        check_scores(output, _CLIMBED[self.name].fewest_classes, self.name)
        if target.shape != output.shape[:1] or target.is_floating_point():
            raise ValueError(f"{self.name} needs one whole-number label an image, not {target.dtype} {target.shape}")
        if len(target) and not (int(target.min()) >= 0 and int(target.max()) < output.shape[1]):
            raise ValueError(
                f"labels run from {int(target.min())} to {int(target.max())}, but the {output.shape[1]} classes are "
                f"numbered 0 to {output.shape[1] - 1}: check the order of the classes and the network"
            )

    def own_target(self, outputs: Tensor) -> Tensor:
        """Labels for images that came without: the victim's own answers, of ``(draws,B,K)`` scores."""
        if self.targeted:
            raise ValueError(f"{self.name} needs targets: the class that each image is to be taken for")
        return outputs.mean(0).argmax(1)

    def flat(self, outputs: Tensor, target: Tensor) -> Tensor:
        """No image's gradient is zero because of its target."""
        return torch.zeros_like(target, dtype=torch.bool)

    def values(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each image ``(B,)``; the attacker maximises it."""
        return _CLIMBED[self.name].loss(output, target)

    def broken(self, outputs: Tensor, target: Tensor, values: Tensor, goal: Tensor) -> Tensor:
        """Whether at least half of the answers ``(draws,B,K)`` are broken; a tie of two scores counts as broken."""
        sign = -1 if self.targeted else 1
        return torch.stack([sign * margin(output, target) >= 0 for output in outputs]).float().mean(0) >= 0.5

    def goal(self, clean_values: Tensor) -> Tensor:
        """Margins break at 0; for the cross-entropies no value tells (nan)."""
        return torch.full_like(clean_values, 0.0 if _CLIMBED[self.name].tells_success else math.nan)

    def beyond(self, goal: Tensor, confidence: float) -> Tensor:
        """A goal that lies ``confidence`` further (C&W's kappa)."""
        return goal + confidence

    def hinge(self, values: Tensor, goal: Tensor) -> Tensor:
        """How far an image is short of its goal: C&W's success term.

        Raises:
            ValueError: for a cross-entropy, which cannot tell.
        """
        if not _CLIMBED[self.name].tells_success:
            raise ValueError(f"C&W needs an objective that tells success: margin or dlr, not {self.name}")
        return (goal - values).clamp_min(0)


@dataclass(frozen=True)
class Divergence:
    """Kullback-Leibler divergence from the scores of the clean image, TRADES' inner objective (Zhang et al. 2019).

    Targets are the clean scores ``(B,K)``; broken means another answer than theirs. It is 0 at the clean image, and so
    is its gradient: attacks begin at a random point.
    """

    name: str = "divergence"

    def check(self, output: Tensor, target: Tensor) -> None:
        """Raise ValueError for scores that are none."""
        check_scores(output, 2, self.name)
        if target.shape != output.shape:
            raise ValueError(f"divergence needs the clean scores {tuple(output.shape)}, not {tuple(target.shape)}")

    def own_target(self, outputs: Tensor) -> Tensor:
        """The victim's own scores, the mean of ``(draws,B,K)``."""
        return outputs.mean(0)

    def flat(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Whether each image's target is its clean scores."""
        return same(outputs.mean(0), target)

    def values(self, output: Tensor, target: Tensor) -> Tensor:
        """Divergence of each image ``(B,)``."""
        return F.kl_div(output.log_softmax(1), target.log_softmax(1), reduction="none", log_target=True).sum(1)

    def broken(self, outputs: Tensor, target: Tensor, values: Tensor, goal: Tensor) -> Tensor:
        """Whether at least half of the answers ``(draws,B,K)`` are others than the clean ones."""
        answer = target.argmax(1)
        return torch.stack([margin(output, answer) >= 0 for output in outputs]).float().mean(0) >= 0.5

    def goal(self, clean_values: Tensor) -> Tensor:
        """No value tells (nan)."""
        return torch.full_like(clean_values, math.nan)

    def beyond(self, goal: Tensor, confidence: float) -> Tensor:
        """As it is: there is no goal."""
        return goal

    def hinge(self, values: Tensor, goal: Tensor) -> Tensor:
        """Raise ValueError: a divergence cannot tell success."""
        raise ValueError("C&W needs an objective that tells success: margin or dlr, not divergence")


def same(outputs: Tensor, targets: Tensor) -> Tensor:
    """Whether each output ``(B,...)`` is its target, but for what another batch size changes."""
    return torch.isclose(outputs, targets.to(outputs.dtype), rtol=1e-4, atol=1e-5).flatten(1).all(1)


def check_scores(output: Tensor, fewest_classes: int, what: str) -> None:
    """Raise ValueError unless ``output`` is ``(B,K)`` of raw scores with enough classes.

    Probabilities are refused: their gradients vanish where a classifier is sure, which passes for robustness.
    """
    if output.ndim != 2:
        raise ValueError(f"{what} needs scores (B, classes), not an output of shape {tuple(output.shape)}")
    if output.shape[1] < fewest_classes:
        raise ValueError(f"{what} needs at least {fewest_classes} classes, not {output.shape[1]}")
    sums = output.double().sum(1)
    if len(output) and (output >= 0).all() and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        raise ValueError(f"{what} needs raw scores, and these look like softmax's: take the softmax off the network")

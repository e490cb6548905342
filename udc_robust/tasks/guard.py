"""A network with a detector beside it, as one victim; and what attackers of the two climb.

Its answer is one row an image: the network's own, flat, and the score at the end. The score is told in a unit of its
own: 0 is the median of clean images, 1 the level above which a twentieth of them is flagged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from udc_robust.attacks import Damage, Misclassify, Objective
from udc_robust.detectors.config import DetectorBlock
from udc_robust.detectors.detector import Detector, in_parts
from udc_robust.detectors.registry import build_detector
from udc_robust.errors import UserError
from udc_robust.metrics.detection import FALSE_ALARMS, fewest_clean, threshold
from udc_robust.names import NONE

UNDETECTED = "undetected"
"""Written after an objective: the attacker also keeps the detector quiet."""
_RARE, _USUAL = FALSE_ALARMS


class Guard(nn.Module):
    """A network and what watches its inputs.

    Attributes:
        guarded: the network as deployed.
        detector: None: nothing watches, every score is 0.
        middle, unit: the score's own 0 and the length of its 1.
        rare: the level of 1 % false alarms in that unit; None: the clean images were too few to set it.
    """

    def __init__(self, name: str, guarded: Any, kind: str, detector: Detector | None = None) -> None:
        super().__init__()
        self.name, self.kind, self.guarded, self.detector = name, kind, guarded, detector
        self.domain, self.min_size = guarded.domain, guarded.min_size
        self.trained, self.origin = guarded.trained, guarded.origin
        self.middle, self.unit, self.held_out = 0.0, 1.0, 0
        self.rare: float | None = None

    @property
    def network(self) -> nn.Module:
        """The guarded network itself."""
        return self.guarded.network

    @property
    def bare(self) -> Guard:
        """The same network with nothing beside it: what an attacker thinks who knows of no detector."""
        return Guard(self.guarded.name, self.guarded, NONE)

    def calibrate(self, clean: Tensor) -> None:
        """Set the levels by held-out clean images ``(N,3,H,W)``.

        Raises:
            UserError: too few of them, or scores that are all alike.
        """
        assert self.detector is not None
        fewest = fewest_clean(_USUAL)
        if len(clean) < fewest:
            raise UserError(
                f"detector {self.name!r} has {len(clean)} held-out clean images; {100 * _USUAL:g} % of false alarms "
                f"takes {fewest}: give more `clean` images (those that it learns from do not count)"
            )
        scores = in_parts(self.detector, clean).double().tolist()
        usual, rare = threshold(scores, _USUAL), threshold(scores, _RARE)
        assert usual is not None
        middle = float(torch.tensor(scores).median())
        if not usual > middle:
            raise UserError(f"detector {self.name!r} scores clean images all alike: it cannot tell anything")
        self.middle, self.unit, self.held_out = middle, usual - middle, len(clean)
        self.rare = None if rare is None else (rare - middle) / self.unit

    def score(self, x: Tensor) -> Tensor:
        """How much images look attacked ``(B,)``: over 1 they are flagged at 5 % false alarms."""
        return x.new_zeros(len(x)) if self.detector is None else (self.detector(x) - self.middle) / self.unit

    def forward(self, x: Tensor) -> Tensor:
        """Answers and scores ``(B,N+1)``."""
        answer = self.guarded(x).flatten(1)
        return torch.cat([answer, self.score(x)[:, None].to(answer)], 1)


def guard(block: DetectorBlock, network: Any, clean: Tensor | None, seed: int) -> Guard:
    """A network with the detector of a config beside it, which learns and has its levels set.

    Args:
        clean: ``(N,3,H,W)``: of detectors that learn every second image is learnt from, the others set the levels.

    Raises:
        UserError: a detector that cannot be built, or too few clean images.
    """
    if block.kind == NONE:
        return Guard(block.name, network, NONE).eval()
    assert clean is not None
    detector = build_detector(block.kind, block.options, block.beside, network, clean[::2], seed)
    made = Guard(block.name, network, block.kind, detector).eval()
    made.calibrate(clean[1::2] if detector.learns else clean)
    return made


def apart(answer: Tensor, shape: tuple[int, ...] | None) -> tuple[Tensor, Tensor]:
    """Answers ``(...,N+1)`` as the network's own and the scores ``(...)``.

    Args:
        shape: of an image's answer; None: it is a row of class scores.
    """
    own, score = answer[..., :-1], answer[..., -1]
    return own if shape is None else own.unflatten(-1, shape), score


@dataclass(frozen=True)
class Watched:
    """An objective on a guarded network.

    With ``evade`` the attacker knows the detector: the objective less ``evade`` times the score. A logit margin counts
    in full up to 5 only and a score below that of the median clean image hardly at all, so that neither buys the other
    without end; a distance counts in dB. Then an image is broken when it also goes unflagged at 5 % false alarms.

    Attributes:
        of: the objective on the network's own answer; ``shape``: of that answer, see `apart`.
        evade: weight of the score; 0: the attacker does not look at it.
    """

    of: Damage | Misclassify
    shape: tuple[int, ...] | None
    evade: float = 0.0

    @property
    def name(self) -> str:
        """That of the objective, with what it evades."""
        return f"{self.of.name}+{UNDETECTED}" if self.evade else self.of.name

    def check(self, output: Tensor, target: Tensor) -> None:
        """Raise ValueError where the objective is not defined for the network's own answer."""
        self.of.check(apart(output, self.shape)[0], target)

    def own_target(self, outputs: Tensor) -> Tensor:
        """Of clean answers ``(draws,B,N+1)``: the network's own."""
        return self.of.own_target(apart(outputs, self.shape)[0])

    def flat(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Whether the objective's gradient at the clean image is zero."""
        return self.of.flat(apart(outputs, self.shape)[0], target)

    def values(self, output: Tensor, target: Tensor) -> Tensor:
        """What the attacker maximises ``(B,)``."""
        own, score = apart(output, self.shape)
        value = self.of.values(own, target)
        if not self.evade:
            return value
        of_image = isinstance(self.of, Damage)
        gain = 10 * value.clamp_min(1e-12).log10() if of_image else 5 - leaky_relu(5 - value, 0.01)
        return gain - self.evade * leaky_relu(score, 0.01)

    def goal(self, clean_values: Tensor) -> Tensor:
        """The value at which an image counts as broken."""
        return self.of.goal(clean_values)

    def broken(self, outputs: Tensor, target: Tensor, values: Tensor, goal: Tensor) -> Tensor:
        """Whether an image is broken; who evades has it unflagged, and a distance then has no goal but to grow."""
        own, score = apart(outputs, self.shape)
        if not self.evade:
            return self.of.broken(own, target, values, goal)
        unseen = score.mean(0) <= 1
        return unseen if isinstance(self.of, Damage) else unseen & self.of.broken(own, target, values, goal)

    def beyond(self, goal: Tensor, confidence: float) -> Tensor:
        """A goal that lies further."""
        return self.of.beyond(goal, confidence)

    def hinge(self, values: Tensor, goal: Tensor) -> Tensor:
        """How far an image is short of its goal; of one who does not look at the score."""
        return self.of.hinge(values, goal)


def as_objective(watched: Watched) -> Objective:
    """It has all that an objective has."""
    return watched  # type: ignore[return-value]

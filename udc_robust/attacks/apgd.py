"""Auto-PGD: projected gradient ascent that sets its own step sizes (Croce & Hein 2020, section 3, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from udc_robust.attacks.gradient import given
from udc_robust.attacks.methods import method
from udc_robust.attacks.oracle import Answer, Oracle
from udc_robust.attacks.threat import Threat

MOMENTUM = 0.75


@method("gradient", warm=True)
def apgd(
    oracle: Oracle,
    x: Tensor,
    threat: Threat,
    *,
    steps: int = 100,
    restarts: int = 1,
    rho: float = 0.75,
    settle: float = 0.0,
    until_broken: bool = False,
) -> Tensor:
    """Auto-PGD, with the published constants: nothing is left to tune but the steps. It takes one gradient more.

    Each restart begins at a random point on the surface of the ball, with steps of twice the budget. At fixed
    checkpoints an image whose steps raised the objective in at most the share ``rho`` of them, or that found nothing
    better since the last, goes back to its best point with half the step. Where the attack is given a start, the first
    run begins there, with steps of the budget.

    Args:
        settle: an image whose best value rose by at most this share since the last checkpoint is left alone for the
            rest of the run, once its steps were halved (those from a given start are so already). 0, as published:
            every image takes all steps.
        until_broken: an image that was broken by one checkpoint (or at its start) is left alone after the next: for
            figures that ask for no more, as accuracy does. The steps between are for what rounding may mend. Random
            victims, who may answer otherwise next time, are attacked to the end.
    """
    broken_rest = until_broken and oracle.repeats
    for restart in range(restarts):
        start = given(oracle, x, threat, restart)
        begun = surface(oracle, x, threat) if start is None else start
        climb(
            oracle, x, threat, begun, steps=steps, rho=rho, settle=settle, halved=start is not None,
            until_broken=broken_rest,
        )  # fmt: skip
    return oracle.best_x


def surface(oracle: Oracle, x: Tensor, threat: Threat) -> Tensor:
    """A random point on the surface of the ball, before the box cuts it."""
    if threat.norm == "l2":
        return threat.noise(x, oracle.streams)
    direction = 2 * oracle.streams.uniform(x) - 1
    return threat.project(x, x + threat.eps * direction / direction.abs().amax((1, 2, 3), keepdim=True))


def checkpoints(steps: int) -> list[int]:
    """After how many steps a run is looked at: intervals of 22 % of the steps, each 3 % shorter, none under 6 %."""
    interval, least, less = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    found, place = [], interval
    while place <= steps:
        found.append(place)
        interval = max(interval - less, least)
        place += interval
    return found


@dataclass
class _Run:
    """Where a run stands, image by image.

    Attributes:
        x: the images as they are; ``at``, ``before``: the run's last two points; ``gradient``, ``values``: at ``at``.
        size: of the next step; ``halved``: whether it ever was.
        best, best_gradient, best_values: the best point so far.
        rises: steps since the last look that raised the objective; ``best_then``, ``halved_then``: what it found.
        broken, broken_then: whether a point so far counts as broken, and whether one did at the last look.
    """

    x: Tensor
    at: Tensor
    before: Tensor
    gradient: Tensor
    values: Tensor
    size: Tensor
    halved: Tensor
    best: Tensor
    best_gradient: Tensor
    best_values: Tensor
    rises: Tensor
    best_then: Tensor
    halved_then: Tensor
    broken: Tensor
    broken_then: Tensor

    @classmethod
    def begun(cls, x: Tensor, start: Tensor, answer: Answer, size: float, halved: bool) -> _Run:
        """A run at its first point."""
        gradient, values, broken = answer
        sizes = torch.full((len(x), 1, 1, 1), size).to(x)
        yes = torch.ones_like(values, dtype=torch.bool)
        return cls(
            x, start, start, gradient, values, sizes, yes & halved, start, gradient, values, torch.zeros_like(values),
            values, yes, broken, broken,
        )  # fmt: skip

    def of(self, rows: Tensor) -> _Run:
        """The run of some of its images."""
        return _Run(*(getattr(self, field.name)[rows] for field in fields(self)))

    def move(self, threat: Threat, share: float) -> None:
        """Take a step; ``share`` of it is along the gradient, the rest along the last step."""
        ahead = threat.project(self.x, threat.step(self.at, self.gradient, self.size))
        ahead = threat.project(self.x, self.at + share * (ahead - self.at) + (1 - share) * (self.at - self.before))
        self.before, self.at = self.at, ahead

    def note(self, answer: Answer) -> None:
        """Take in what the victim said of the new point."""
        self.gradient, now, broken = answer
        self.rises, self.values = self.rises + (now > self.values), now
        better = now > self.best_values
        self.best, self.best_gradient = (
            _where(better, self.at, self.best),
            _where(better, self.gradient, self.best_gradient),
        )
        self.best_values = torch.where(better, now, self.best_values)
        self.broken = self.broken | broken

    def look(self, enough: float) -> None:
        """Halve the steps where at most ``enough`` of them rose, or nothing better was found."""
        halve = (self.rises <= enough) | (~self.halved_then & (self.best_then >= self.best_values))
        self.size, self.halved = _where(halve, self.size / 2, self.size), self.halved | halve
        self.at, self.gradient = _where(halve, self.best, self.at), _where(halve, self.best_gradient, self.gradient)
        self.best_then, self.halved_then, self.rises = self.best_values, halve, torch.zeros_like(self.rises)
        self.broken_then = self.broken

    def rests(self, settle: float, until_broken: bool) -> Tensor:
        """Which images need no more: broken ones, and those that won at most a share since the last look."""
        won = self.best_values - self.best_then
        settled = self.halved & (settle > 0) & (won <= settle * self.best_then.abs())
        return settled | (self.broken_then & until_broken)


def climb(
    oracle: Oracle, x: Tensor, threat: Threat, start: Tensor, *, steps: int, rho: float = 0.75, settle: float = 0.0,
    halved: bool = False, until_broken: bool = False,
) -> Tensor:  # fmt: skip
    """One run from ``start``, with steps of twice the budget, or ``halved``: the best point that the oracle was shown.

    Images that have settled, or are broken for good, leave the batch, so that they cost nothing more.
    """
    run = _Run.begun(x, start, oracle.answer(start), threat.eps * (1 if halved else 2), halved)
    rows, last, looks = None, 0, set(checkpoints(steps))
    for i in range(1, steps + 1):
        run.move(threat, MOMENTUM if i > 1 else 1.0)
        run.note(oracle.answer(run.at, rows))
        if i not in looks:
            continue
        going = ~run.rests(settle, until_broken) if settle or until_broken else None
        run.look(rho * (i - last))
        last = i
        if going is not None and not going.all():
            rows = going.nonzero()[:, 0] if rows is None else rows[going]
            run = run.of(going)
            if not len(rows):
                break
    return oracle.best_x


def _where(rows: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The images ``a`` in these rows, ``b`` in the others."""
    return torch.where(rows.view(-1, 1, 1, 1), a, b)

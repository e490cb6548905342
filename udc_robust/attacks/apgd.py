"""Auto-PGD: projected gradient ascent that sets its own step sizes (Croce & Hein 2020, section 3, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from udc_robust.attacks.methods import method
from udc_robust.attacks.oracle import Oracle
from udc_robust.attacks.threat import Threat

MOMENTUM = 0.75


@method("gradient")
def apgd(
    oracle: Oracle, x: Tensor, threat: Threat, *, steps: int = 100, restarts: int = 1, rho: float = 0.75
) -> Tensor:
    """Auto-PGD, with the published constants: nothing is left to tune but the steps. It takes one gradient more.

    Each restart begins at a random point on the surface of the ball, with steps of twice the budget. At fixed
    checkpoints an image whose steps raised the objective in at most the share ``rho`` of them, or that found nothing
    better since the last, goes back to its best point with half the step.
    """
    for _ in range(restarts):
        climb(oracle, x, threat, surface(oracle, x, threat), steps=steps, rho=rho)
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
class _Best:
    """The best point of a run, image by image."""

    x: Tensor
    gradient: Tensor
    values: Tensor

    def keep(self, x: Tensor, gradient: Tensor, values: Tensor) -> None:
        better = values > self.values
        self.x, self.gradient = _where(better, x, self.x), _where(better, gradient, self.gradient)
        self.values = torch.where(better, values, self.values)


def climb(oracle: Oracle, x: Tensor, threat: Threat, start: Tensor, *, steps: int, rho: float = 0.75) -> Tensor:
    """One run from ``start``: the best point that it met."""
    x_adv = before = start
    gradient, values, _ = oracle.answer(x_adv)
    best, size = _Best(x_adv, gradient, values), torch.full((len(x), 1, 1, 1), 2 * threat.eps).to(x)
    rises, seen = torch.zeros_like(values), 0
    best_then, halved_then = values, torch.ones_like(values, dtype=torch.bool)
    looks = set(checkpoints(steps))
    for i in range(steps):
        share = MOMENTUM if i else 1.0
        ahead = threat.project(x, threat.step(x_adv, gradient, size))
        ahead = threat.project(x, x_adv + share * (ahead - x_adv) + (1 - share) * (x_adv - before))
        before, x_adv = x_adv, ahead
        gradient, now, _ = oracle.answer(x_adv)
        rises, values, seen = rises + (now > values), now, seen + 1
        best.keep(x_adv, gradient, now)
        if i + 1 in looks:
            halve = (rises <= rho * seen) | (~halved_then & (best_then >= best.values))
            size = torch.where(halve.view(-1, 1, 1, 1), size / 2, size)
            x_adv, gradient = _where(halve, best.x, x_adv), _where(halve, best.gradient, gradient)
            best_then, halved_then, rises, seen = best.values, halve, torch.zeros_like(rises), 0
    return best.x


def _where(rows: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The images ``a`` in these rows, ``b`` in the others."""
    return torch.where(rows.view(-1, 1, 1, 1), a, b)

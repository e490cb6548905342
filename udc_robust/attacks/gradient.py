"""White-box methods, and the one projected gradient ascent that trainings share with them.

Each method is a short loop over ``oracle.gradient``; what never varies lives in ``attack()``. Where the target is the
victim's own clean output the gradient at the clean image is zero: every method then begins at a random point.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from udc_robust.attacks.methods import method
from udc_robust.attacks.objectives import Objective
from udc_robust.attacks.oracle import Chance, GradientOracle, Oracle, Victim
from udc_robust.attacks.sources import SourceOracle
from udc_robust.attacks.streams import Streams, image_seed
from udc_robust.attacks.threat import L2, Ball, Threat
from udc_robust.names import PERCEPTUAL


class Slope(Protocol):
    """What `ascend` needs: `GradientOracle` and what wraps one."""

    @property
    def repeats(self) -> bool:
        """Whether the same images get the same gradient again."""
        ...

    def gradient(self, x: Tensor) -> Tensor:
        """Gradient of each image's objective with respect to that image only."""
        ...


def ascend(oracle: Slope, x: Tensor, start: Tensor, threat: Ball, *, steps: int, step_size: float | None) -> Tensor:
    """Projected gradient ascent in the budget around ``x``, from ``start``: the last iterate.

    ``step_size`` is 2.5 eps over the steps unless given, and eps/4 where they are more than ten: from any point of the
    ball every other one can be reached (Madry et al. 2018). Images that are all where they were two steps ago go to and
    fro for ever: the steps that are left tell where they end, and nobody is asked. (Not on a GPU, where sums vary and
    to compare is to wait.)
    """
    size = threat.eps * max(2.5 / max(steps, 1), 0.25) if step_size is None else step_size
    x_adv, last, before = start, None, None
    watched = oracle.repeats and x.device.type == "cpu"
    for left in reversed(range(steps)):
        before, last, x_adv = last, x_adv, threat.project(x, threat.step(x_adv, oracle.gradient(x_adv), size))
        if watched and before is not None and torch.equal(x_adv, before):
            return last if left % 2 else x_adv
    return x_adv


def perturb(
    victim: Victim,
    x: Tensor,
    objective: Objective,
    threat: Threat,
    *,
    target: Tensor,
    streams: Streams,
    steps: int,
    step_size: float | None = None,
) -> Tensor:
    """The inner attack of trainings: PGD from a random start, neither scored nor rounded.

    The start, a random victim's answers and gradients that are not finite are those of `attack`; what is left out are
    the forwards that only tell how well it went. The caller freezes the weights: with frozen ones a step costs two
    thirds of a training step.

    Args:
        target: ground truth, labels, or the clean output.
        streams: one for each image; a random victim's are made of their seeds, as in `attack`.
    """
    chance = Chance([image_seed(seed, "victim") for seed in streams.seeds])
    oracle = GradientOracle(victim, objective, target, streams, chance)
    return ascend(oracle, x, threat.start(x, streams), threat, steps=steps, step_size=step_size)


def begin(oracle: Oracle | SourceOracle, x: Tensor, near: Ball, random: bool = False) -> Tensor:
    """Where an attack begins: at the images themselves, or at random points of ``near`` where wanted or needed."""
    if random:
        return near.start(x, oracle.streams)
    start, rows = x.clone(), oracle.flat.nonzero()[:, 0]
    if len(rows):
        start[rows] = near.start(x[rows], oracle.streams.of(rows))
    return start


def given(oracle: Oracle, x: Tensor, threat: Threat, restart: int = 0) -> Tensor | None:
    """The start that an attack was given, brought into the budget: for its first run; None: there is none."""
    return None if oracle.start is None or restart else threat.project(x, oracle.start)


def transferred(oracle: Oracle, x: Tensor, threat: Threat, steps: int = 20) -> Tensor | None:
    """Where a query method begins: at the start it was given, or where PGD on the sources ends; None without either.

    The victim is not asked.
    """
    if oracle.source is None or oracle.start is not None:
        return given(oracle, x, threat)
    return ascend(oracle.source, x, begin(oracle.source, x, threat), threat, steps=steps, step_size=None)


@method("none", keeps_best=False, norms=("linf", "l2", *PERCEPTUAL))
def noise(oracle: Oracle, x: Tensor, threat: Threat) -> Tensor:
    """Random noise of the same norm: the control every attack is shown next to."""
    return threat.noise(x, oracle.streams)


@method("gradient")
def fgsm(oracle: Oracle, x: Tensor, threat: Threat, *, random_start: bool = False) -> Tensor:
    """One step of the full budget (Goodfellow et al. 2015)."""
    return pgd(oracle, x, threat, steps=1, step_size=threat.eps, random_start=random_start)


@method("gradient")
def ifgsm(
    oracle: Oracle,
    x: Tensor,
    threat: Threat,
    *,
    steps: int = 20,
    step_size: float | None = None,
    random_start: bool = False,
) -> Tensor:
    """PGD from the clean image (Kurakin et al. 2017, "BIM")."""
    return pgd(oracle, x, threat, steps=steps, step_size=step_size, random_start=random_start)


@method("gradient", warm=True)
def pgd(
    oracle: Oracle,
    x: Tensor,
    threat: Threat,
    *,
    steps: int = 20,
    step_size: float | None = None,
    random_start: bool = True,
    restarts: int = 1,
) -> Tensor:
    """Projected gradient ascent (Madry et al. 2018); the step size is that of `ascend` unless given."""
    for restart in range(restarts):
        start = given(oracle, x, threat, restart)
        start = begin(oracle, x, threat, random_start) if start is None else start
        x_adv = ascend(oracle, x, start, threat, steps=steps, step_size=step_size)
        oracle.values(x_adv)  # the last iterate is a candidate too
    return oracle.best_x


@method("gradient", norms=("l2",), keeps_best=False, unbounded=True)
def cw(
    oracle: Oracle,
    x: Tensor,
    threat: Threat,
    *,
    steps: int = 100,
    search_steps: int = 9,
    lr: float = 0.01,
    initial_c: float = 1.0,
    confidence: float = 0.0,
) -> Tensor:
    """C&W-L2 (Carlini & Wagner 2017): the smallest change that reaches the objective's goal.

    Minimises ``||delta||^2 + c * hinge`` over ``w`` with ``x_adv = box(tanh(w))``; ``c`` is searched for each image:
    times ten until the goal is reached, then halving the interval. For a restorer the hinge is in dB
    (``max(0, goal - damage)``), and so is ``confidence``. Images that never reach the goal come back as the most
    damaging image seen.
    """
    half, middle = (threat.high - threat.low) / 2, (threat.high + threat.low) / 2
    grey_level = half / 127.5 * math.sqrt(x[0].numel())
    start = begin(oracle, x, L2(min(grey_level, threat.eps), threat.low, threat.high))
    origin = torch.atanh((start - middle) / half * 0.999999)
    lower, c = torch.zeros(len(x)).to(x), torch.full((len(x),), initial_c).to(x)
    upper, shortest = torch.full_like(c, torch.inf), torch.full_like(c, torch.inf)
    closest, goal = x.clone(), oracle.objective.beyond(oracle.goal, confidence)
    for _ in range(search_steps):
        w = origin.clone().requires_grad_(True)
        adam, reached = torch.optim.Adam([w], lr=lr), torch.zeros_like(c, dtype=torch.bool)
        for _ in range(steps):
            x_adv = torch.tanh(w) * half + middle
            gradient, values, _ = oracle.answer(x_adv.detach())
            short = oracle.objective.hinge(values.requires_grad_(True), goal)
            (slope,) = torch.autograd.grad(short.sum(), values)
            distance = (x_adv - x).square().flatten(1).sum(1)
            push = (c * slope).view(-1, 1, 1, 1) * gradient
            (w.grad,) = torch.autograd.grad((distance + (push * x_adv).flatten(1).sum(1)).sum(), w)
            hit = short.detach() <= 0
            reached |= hit
            nearer = hit & (distance.detach() < shortest)
            shortest = torch.where(nearer, distance.detach(), shortest)
            closest = torch.where(nearer.view(-1, 1, 1, 1), x_adv.detach(), closest)
            adam.step()
        upper, lower = torch.where(reached, c, upper), torch.where(reached, lower, c)
        c = torch.where(upper.isinf(), c * 10, (lower + upper) / 2)
    return torch.where(shortest.isinf().view(-1, 1, 1, 1), oracle.best_x, closest)

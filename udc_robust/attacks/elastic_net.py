"""The delayed elastic-net attack: break first, then shrink, in both norms at once."""

from __future__ import annotations

import torch
from torch import Tensor

from udc_robust.attacks.gradient import begin
from udc_robust.attacks.methods import method
from udc_robust.attacks.oracle import Oracle
from udc_robust.attacks.threat import L2, Threat


@method("gradient", norms=("l2",), keeps_best=False, unbounded=True)
def elastic_net(
    oracle: Oracle,
    x: Tensor,
    threat: Threat,
    *,
    steps: int = 100,
    step_size: float = 0.1,
    shrink: float = 0.05,
    beta: float = 0.01,
) -> Tensor:
    """Delayed elastic net (ICPR 2020, rebuilt from its abstract): the smallest ``|d|_2^2 + beta |d|_1`` that breaks.

    While an image is not broken its change ``d`` follows the gradient, by steps of L2 length ``step_size``; once it is,
    a proximal step on the elastic net shrinks it: every value loses ``shrink * beta`` towards 0, and the rest the share
    ``2 * shrink``. The smallest change that broke an image is returned, or the most damaging image where none did.
    """
    start = begin(oracle, x, L2(min(step_size, threat.eps), threat.low, threat.high))
    delta, closest = start - x, x.clone()
    shortest = torch.full((len(x),), torch.inf).to(x)
    for _ in range(steps):
        gradient, _, broken = oracle.answer(x + delta)
        size = elastic_distance(delta, beta)
        nearer = broken & (size < shortest)
        shortest = torch.where(nearer, size, shortest)
        closest = torch.where(nearer.view(-1, 1, 1, 1), x + delta, closest)
        ahead = threat.step(delta, gradient, step_size)
        smaller = delta.sign() * (delta.abs() - shrink * beta).clamp_min(0) * (1 - 2 * shrink)
        delta = threat.project(x, x + torch.where(broken.view(-1, 1, 1, 1), smaller, ahead)) - x
    return torch.where(shortest.isinf().view(-1, 1, 1, 1), oracle.best_x, closest)


def elastic_distance(delta: Tensor, beta: float) -> Tensor:
    """``|d|_2^2 + beta |d|_1`` of each change ``(B,)``."""
    return delta.square().flatten(1).sum(1) + beta * delta.abs().flatten(1).sum(1)


def robustness(delta: Tensor, low: float = 0.0, high: float = 1.0) -> dict[str, Tensor]:
    """How far changes ``(B,C,H,W)`` go, whatever the size and the range of images: what preprocessing does not change.

    Returns:
        ``l1``: mean absolute change, and ``l2``: root of the mean squared change, as shares of the range, ``(B,)``.
    """
    shares = delta.flatten(1) / (high - low)
    return {"l1": shares.abs().mean(1), "l2": shares.square().mean(1).sqrt()}

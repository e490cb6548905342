"""Sinkhorn divergence between two batches: how far one cloud of points must be carried to become the other."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinkhorn_divergence(x: Tensor, y: Tensor, eps: float = 1.0, steps: int = 50, tolerance: float = 0.1) -> Tensor:
    """``W(x,y) - (W(x,x) + W(y,y)) / 2`` of points ``(B,K)``: 0 for equal batches (Bouniot et al. 2021, "SAT").

    Args:
        eps: entropic regularisation, in the units of the squared distances.
        steps: of Sinkhorn's iteration, at most.
        tolerance: it stops when the potentials move less than this in sum.
    """
    return _transport(x, y, eps, steps, tolerance) - (
        (_transport(x, x, eps, steps, tolerance) + _transport(y, y, eps, steps, tolerance)) / 2
    )


def _transport(x: Tensor, y: Tensor, eps: float, steps: int, tolerance: float) -> Tensor:
    """Cost of the entropic plan between two batches of uniform weight, in the logarithmic domain; a scalar."""
    cost = (x[:, None] - y[None]).square().sum(2)
    log_x, log_y = (-math.log(len(points)) for points in (x, y))
    u, v = torch.zeros_like(cost[:, 0]), torch.zeros_like(cost[0])
    for _ in range(steps):
        before = u
        u = eps * (log_x - torch.logsumexp((v[None] - cost) / eps, 1))
        v = eps * (log_y - torch.logsumexp((u[:, None] - cost) / eps, 0))
        if float((u - before).detach().abs().sum()) < tolerance:
            break
    return (((u[:, None] + v[None] - cost) / eps).exp() * cost).sum()

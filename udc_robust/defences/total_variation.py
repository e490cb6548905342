"""Total variation minimisation as a fixed number of differentiable steps."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Equal steps with which the primal-dual method converges: the squared norm of the image gradient is below 8.
_FIRST_STEP = 1 / math.sqrt(8)
# Strong convexity that the acceleration assumes: the distance term's is 1, half of it was the fastest.
_CONVEXITY = 0.5
# Steps between kept activations: with 50 steps, five states are kept and ten steps' activations live at once.
_BLOCK = 10


def tv_minimum(x: Tensor, weight: float, steps: int, keep: Tensor | None = None, start: Tensor | None = None) -> Tensor:
    """Minimise ``sum keep (z - x)^2 / 2 + weight TV(z)`` over z, isotropic and of each channel alone.

    The primal-dual steps of Chambolle & Pock 2011: Algorithm 2 (accelerated) where all pixels count, else Algorithm 1.
    No step depends on how far it has come, so the gradient is exact and neighbours in a batch do not matter. Measured
    on a photograph, 50 steps come within an RMS of 1e-4, 8e-4 and 2e-3 of the minimum for weights 0.01, 0.05 and 0.1.

    Args:
        x: images ``(B,C,H,W)``.
        weight: lambda; 0 gives back ``x``, and ``start`` where it does not count.
        keep: 1 where ``x`` counts and 0 where it does not (inpainting), of its shape; None: all of it.
        start: first guess; None: ``x``.
    """
    counts = torch.ones_like(x) if keep is None else keep
    z = x if start is None else start
    if weight == 0:
        return counts * x + (1 - counts) * z
    convexity = _CONVEXITY if keep is None else 0.0
    state: tuple[Tensor, ...] = (z, z, torch.zeros_like(x), torch.zeros_like(x))
    tau = _FIRST_STEP
    for done in range(0, steps, _BLOCK):
        taus = []
        for _ in range(min(_BLOCK, steps - done)):
            taus.append(tau)
            tau /= math.sqrt(1 + 2 * convexity * tau)
        block: tuple[Any, ...] = (*state, x, counts, weight, [*taus, tau])
        if torch.is_grad_enabled() and x.requires_grad:
            state = checkpoint(_advance, *block, use_reentrant=False, preserve_rng_state=False)
        else:
            state = _advance(*block)
    return state[0]


def _advance(
    z: Tensor, leading: Tensor, rows: Tensor, columns: Tensor, x: Tensor, counts: Tensor, weight: float,
    taus: list[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """A step for each pair of ``taus``: the image, its extrapolation, and the dual field in units of ``weight``."""
    for tau, tau_next in itertools.pairwise(taus):
        sigma = _FIRST_STEP**2 / tau / weight
        rows = rows + sigma * F.pad(leading.diff(dim=-2), (0, 0, 0, 1))
        columns = columns + sigma * F.pad(leading.diff(dim=-1), (0, 1))
        # Below 1 nothing is divided, so the square root's slope at 0 is never asked for.
        length = (rows.square() + columns.square()).clamp_min(1).sqrt()
        rows, columns = rows / length, columns / length
        down = torch.cat([rows[..., :1, :], rows.diff(dim=-2)], -2)
        across = torch.cat([columns[..., :1], columns.diff(dim=-1)], -1)
        ahead = (z + tau * (weight * (down + across) + counts * x)) / (1 + tau * counts)
        z, leading = ahead, ahead + tau_next / tau * (ahead - z)
    return z, leading, rows, columns

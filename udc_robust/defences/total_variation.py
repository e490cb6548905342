"""Total variation minimisation as a fixed number of differentiable steps."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# The largest equal steps for which the primal-dual method converges: the gradient's squared norm is below 8.
_TAU = 1 / math.sqrt(8)
# Steps between kept activations: their product with the number of kept states is what memory holds.
_BLOCK = 10


def tv_minimum(x: Tensor, weight: float, steps: int, keep: Tensor | None = None, start: Tensor | None = None) -> Tensor:
    """Minimise ``sum keep (z - x)^2 / 2 + weight TV(z)`` over z, isotropic and of each channel alone.

    The primal-dual steps of Chambolle & Pock 2011 (Algorithm 1); no step depends on how far it has come, so that the
    gradient is exact and neighbours in a batch do not matter. Memory grows by one state each ten steps.

    Args:
        x: images ``(B,C,H,W)``.
        weight: lambda; 0 gives back ``x`` (up to rounding, where kept).
        steps: 50 come within 1e-3 of the minimum for weights up to 0.1.
        keep: 1 where ``x`` counts and 0 where it does not (inpainting), of its shape; None: all of it.
        start: first guess; None: ``x``.
    """
    kept = torch.ones_like(x) if keep is None else keep
    z = x if start is None else start
    state = (z, z, torch.zeros_like(x), torch.zeros_like(x))
    for done in range(0, steps, _BLOCK):
        block = (*state, x, kept, weight, min(_BLOCK, steps - done))
        if torch.is_grad_enabled() and x.requires_grad:
            state = checkpoint(_advance, *block, use_reentrant=False, preserve_rng_state=False)
        else:
            state = _advance(*block)
    return state[0]


def _advance(
    z: Tensor, leading: Tensor, rows: Tensor, columns: Tensor, x: Tensor, keep: Tensor, weight: float, steps: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Some steps: the image, its extrapolation, and the dual field in units of ``weight``."""
    if weight == 0:
        return x * keep + z * (1 - keep), leading, rows, columns
    for _ in range(steps):
        rows = rows + _TAU / weight * F.pad(leading.diff(dim=-2), (0, 0, 0, 1))
        columns = columns + _TAU / weight * F.pad(leading.diff(dim=-1), (0, 1))
        # Below 1 nothing is divided, so the square root's slope at 0 is never asked for.
        length = (rows.square() + columns.square()).clamp_min(1).sqrt()
        rows, columns = rows / length, columns / length
        divergence = torch.cat([rows[..., :1, :], rows.diff(dim=-2)], -2) + torch.cat(
            [columns[..., :1], columns.diff(dim=-1)], -1
        )
        ahead = (z + _TAU * (weight * divergence + keep * x)) / (1 + _TAU * keep)
        z, leading = ahead, 2 * ahead - z
    return z, leading, rows, columns

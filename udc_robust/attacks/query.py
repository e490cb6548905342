"""Black-box methods: they see values only, and every value they see is counted as a query."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from udc_robust.attacks.gradient import transferred
from udc_robust.attacks.methods import method
from udc_robust.attacks.oracle import Oracle
from udc_robust.attacks.threat import Threat


@method("query")
def brightness(oracle: Oracle, x: Tensor, threat: Threat) -> Tensor:
    """Every value by the same amount, up or down, whichever does more: two queries, no gradient, nothing to learn.

    What it leaves is a cap on what any restorer faithful to brightness can hold.
    """
    shift = threat.step(torch.zeros_like(x), torch.ones_like(x), threat.eps)
    for sign in (1, -1):
        oracle.values(threat.project(x, x + sign * shift))
    return oracle.best_x


def _is_basis(size: tuple[int, int], *, basis: str) -> None:
    if basis not in ("pixel", "dct"):
        raise ValueError(f"basis {basis!r} must be pixel or dct")


@method("query", sources="start", check=_is_basis)
def simba(
    oracle: Oracle,
    x: Tensor,
    threat: Threat,
    *,
    steps: int = 1000,
    step_size: float = 4 / 255,
    basis: str = "pixel",
    low_frequencies: int = 28,
) -> Tensor:
    """SimBA (Guo et al. 2019): walk along the vectors of an orthonormal basis, keep what does damage.

    Each image goes through its own random order; a step first tries ``-step_size`` and asks about ``+step_size`` only
    when that failed, so it costs one or two queries. ``basis`` is ``pixel`` or ``dct``; the latter uses the lowest
    ``low_frequencies`` squared frequencies of each channel. With sources the walk begins where PGD on them ends.
    """
    channels, height, width = x.shape[1:]
    rows_v, columns_v = (
        (height, width) if basis == "pixel" else (min(height, low_frequencies), min(width, low_frequencies))
    )
    orders = torch.stack([oracle.streams.permutation(i, channels * rows_v * columns_v) for i in range(len(x))])
    vectors = _pixel_vectors if basis == "pixel" else _dct_vectors
    start = transferred(oracle, x, threat)
    x_adv = threat.project(x, x) if start is None else start
    values = oracle.values(x_adv)
    for i in range(steps):
        index = orders[:, i % orders.shape[1]]
        move = step_size * vectors(index, (rows_v, columns_v), x)
        undecided = torch.arange(len(x), device=x.device)
        for sign in (-1, 1):
            trial = threat.project(x[undecided], x_adv[undecided] + sign * move[undecided])
            trial_values = oracle.values(trial, rows=undecided)
            better = trial_values > values[undecided]
            x_adv[undecided[better]], values[undecided[better]] = trial[better], trial_values[better]
            undecided = undecided[~better]
            if not len(undecided):
                break
    return x_adv


def _pixel_vectors(index: Tensor, grid: tuple[int, int], x: Tensor) -> Tensor:
    vectors = torch.zeros_like(x)
    vectors.view(len(x), -1)[torch.arange(len(x)), index.to(x.device)] = 1
    return vectors


def _dct_vectors(index: Tensor, grid: tuple[int, int], x: Tensor) -> Tensor:
    """Orthonormal DCT-II basis images: one channel, one pair of frequencies each."""
    channel, v, u = index // (grid[0] * grid[1]), index // grid[1] % grid[0], index % grid[1]
    vectors = torch.zeros_like(x)
    for row, (c, vertical, horizontal) in enumerate(zip(channel.tolist(), v.tolist(), u.tolist(), strict=True)):
        vectors[row, c] = torch.outer(_cosine(vertical, x.shape[2], x), _cosine(horizontal, x.shape[3], x))
    return vectors


def _cosine(frequency: int, n: int, like: Tensor) -> Tensor:
    positions = torch.arange(n, dtype=like.dtype, device=like.device)
    scale = math.sqrt((1 if frequency == 0 else 2) / n)
    return scale * torch.cos(math.pi * (2 * positions + 1) * frequency / (2 * n))


@method("query", sources="start")
def square(oracle: Oracle, x: Tensor, threat: Threat, *, steps: int = 1000, p_init: float = 0.05) -> Tensor:
    """Square attack (Andriushchenko et al. 2020): random search over square windows, one window per image and query.

    The share of the image that a window covers starts at ``p_init`` and falls by the published schedule, rescaled
    from 10,000 queries to ``steps``. Differs from the original in one detail: when a drawn sign pattern changes nothing
    it is inverted, not drawn again. With sources the search begins where PGD on them ends, not at stripes.
    """
    pattern, propose = (_stripes, _linf_window) if threat.norm == "linf" else (_tiles, _l2_windows)
    start = transferred(oracle, x, threat)
    x_adv = threat.project(x, pattern(oracle, x, threat.eps)) if start is None else start
    values = oracle.values(x_adv)
    for i in range(1, steps):
        side = _window_side(p_init, i, steps, x)
        trial = x_adv.clone()
        for row in range(len(x)):
            trial[row] = propose(oracle, row, x[row], x_adv[row], threat, side)
        trial = threat.project(x, trial)
        trial_values = oracle.values(trial)
        better = trial_values > values
        x_adv = torch.where(better.view(-1, 1, 1, 1), trial, x_adv)
        values = torch.where(better, trial_values, values)
    return x_adv


def _window_side(p_init: float, step: int, steps: int, x: Tensor) -> int:
    """Side of the window at a step: the share p halves at fixed points of the published 10,000-query schedule."""
    halvings = sum(step * 10_000 / steps > point for point in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000))
    height, width = x.shape[-2:]
    side = round(math.sqrt(p_init / 2**halvings * height * width))
    return min(max(side, 1), min(height, width) - 1)


def _place(oracle: Oracle, row: int, image: Tensor, side: int) -> tuple[slice, slice]:
    """A window at a uniformly random place, the last row and column included."""
    top = oracle.streams.integer(row, image.shape[-2] - side + 1)
    left = oracle.streams.integer(row, image.shape[-1] - side + 1)
    return slice(top, top + side), slice(left, left + side)


def _stripes(oracle: Oracle, x: Tensor, eps: float) -> Tensor:
    """Vertical stripes of +-eps, a sign for each channel and column."""
    shape = (x.shape[1], 1, x.shape[3])
    return x + eps * torch.stack([oracle.streams.row_signs(row, shape) for row in range(len(x))]).to(x)


def _linf_window(oracle: Oracle, row: int, x: Tensor, x_adv: Tensor, threat: Threat, side: int) -> Tensor:
    rows, columns = _place(oracle, row, x, side)
    signs = oracle.streams.row_signs(row, (x.shape[0], 1, 1)).to(x)
    trial = x_adv.clone()
    trial[:, rows, columns] = x[:, rows, columns] + threat.eps * signs
    if torch.equal(threat.project(x[None], trial[None])[0], x_adv):
        trial[:, rows, columns] = x[:, rows, columns] - threat.eps * signs
    return trial


def _bump(height: int, width: int) -> Tensor:
    """A pyramid that rises from the border to the middle, ``1/k^2`` summed over its rings."""
    bump = torch.zeros(height, width)
    for ring in range((min(height, width) + 1) // 2):
        inner = (min(height, width) + 1) // 2 - ring
        bump[ring : height - ring, ring : width - ring] += 1 / inner**2
    return bump


def _two_bumps(oracle: Oracle, row: int, side: int) -> Tensor:
    """One bump up and one down side by side, of unit norm, lying or standing by a coin."""
    half = side // 2
    eta = torch.cat([_bump(half, side), -_bump(side - half, side)]) if half else _bump(side, side)
    eta = eta / torch.linalg.vector_norm(eta)
    return eta.T if oracle.streams.integer(row, 2) else eta


def _tiles(oracle: Oracle, x: Tensor, eps: float) -> Tensor:
    """Bumps of random sign on a grid with five tiles along the shorter side."""
    delta = torch.zeros_like(x)
    side = max(min(x.shape[-2:]) // 5, 1)
    for row in range(len(x)):
        for top in range(0, x.shape[-2] - side + 1, side):
            for left in range(0, x.shape[-1] - side + 1, side):
                signs = oracle.streams.row_signs(row, (x.shape[1], 1, 1))
                delta[row, :, top : top + side, left : left + side] = (_two_bumps(oracle, row, side) * signs).to(x)
    norms = torch.linalg.vector_norm(delta.flatten(1), dim=1).view(-1, 1, 1, 1)
    return x + eps * delta / norms


def _l2_windows(oracle: Oracle, row: int, x: Tensor, x_adv: Tensor, threat: Threat, side: int) -> Tensor:
    """Move the budget of a second window into a new bump in the first one (their Algorithm 3)."""
    side = max(side + 1 - side % 2, 3)  # odd, at least 3
    side = min(side, min(x.shape[-2:]))
    first, second = _place(oracle, row, x, side), _place(oracle, row, x, side)
    delta = x_adv - x
    unused = (threat.eps**2 - delta.square().sum()).clamp_min(0) / x.shape[0]
    union = torch.zeros_like(x[0], dtype=torch.bool)
    union[first], union[second] = True, True
    available = (unused + (delta * union).square().sum((1, 2), keepdim=True)).sqrt()
    old = delta[:, *first]
    old = old / (torch.linalg.vector_norm(old, dim=(1, 2), keepdim=True) + 1e-10)
    signs = oracle.streams.row_signs(row, (x.shape[0], 1, 1))
    bump = (_two_bumps(oracle, row, side) * signs).to(x) + old
    bump = bump / (torch.linalg.vector_norm(bump, dim=(1, 2), keepdim=True) + 1e-10)
    delta[:, *second] = 0
    delta[:, *first] = bump * available
    return x + delta * (threat.eps / torch.linalg.vector_norm(delta).clamp_min(1e-12))

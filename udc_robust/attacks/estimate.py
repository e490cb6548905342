"""Gradients estimated from values: black-box methods that climb a slope which they have to ask for.

The victim is asked for values only, each a query. The gradient of other networks (`Oracle.source`), where the attacker
has any, is the start, and for P-RGF the prior.
"""

from __future__ import annotations

import torch
from torch import Tensor

from udc_robust.attacks.gradient import transferred
from udc_robust.attacks.methods import method
from udc_robust.attacks.oracle import Oracle
from udc_robust.attacks.threat import Threat, dot, unit

_TINY = 1e-12


@method("query", sources="start")
def nes(
    oracle: Oracle,
    x: Tensor,
    threat: Threat,
    *,
    queries: int = 1000,
    samples: int = 50,
    sigma: float = 1 / 255,
    step_size: float | None = None,
    momentum: float = 0.9,
) -> Tensor:
    """NES (Ilyas et al. 2018): ascent along differences of values at antithetic Gaussian points.

    Each step asks ``samples`` times (``x + sigma u`` and ``x - sigma u`` for half as many ``u``) and once about where
    it led; the estimates are averaged with ``momentum``. It begins at a random point, or where PGD on the sources ends.
    """
    size = threat.eps / 4 if step_size is None else step_size
    pairs = max(min(samples, queries - 2) // 2, 1)
    start = transferred(oracle, x, threat)
    x_adv = threat.start(x, oracle.streams) if start is None else start
    oracle.values(x_adv)
    mean = torch.zeros_like(x)
    for _ in range((queries - 1) // (2 * pairs + 1)):
        estimate = torch.zeros_like(x)
        for _ in range(pairs):
            way = oracle.streams.normal(x)
            ahead, behind = (oracle.values(_in_box(x_adv + sign * sigma * way, threat), probe=True) for sign in (1, -1))
            estimate += (ahead - behind).view(-1, 1, 1, 1) * way
        mean = momentum * mean + (1 - momentum) * estimate
        x_adv = threat.project(x, threat.step(x_adv, mean, size))
        oracle.values(x_adv)
    return x_adv


@method("query", sources="prior")
def prgf(
    oracle: Oracle,
    x: Tensor,
    threat: Threat,
    *,
    queries: int = 1000,
    samples: int = 50,
    sigma: float = 1 / 255,
    step_size: float | None = None,
) -> Tensor:
    """P-RGF (Cheng et al. 2019): random gradient-free ascent whose directions lean towards the sources' gradient.

    How far they lean is their optimum for the cosine between that prior and the victim's gradient (eq. 13), which each
    step estimates from one query along the prior and ten at random (section 3.3). Where the prior alone is best no
    sample is drawn. It begins where PGD on the sources ends; an image stops when a whole step may cost more than is
    left of its ``queries``.
    """
    assert oracle.source is not None  # `attack` refuses it without
    size = threat.eps / 4 if step_size is None else step_size
    samples = max(min(samples, queries - _FOR_NORM - 3), 1)
    start = transferred(oracle, x, threat)
    assert start is not None
    x_adv, values = start, oracle.values(start)
    spent = torch.ones(len(x), dtype=torch.long, device=x.device)
    while len(rows := (spent + _FOR_NORM + samples + 2 <= queries).nonzero()[:, 0]):
        slope, asked = _leaning(oracle, x_adv[rows], values[rows], threat, rows, samples, sigma)
        x_adv[rows] = threat.project(x[rows], threat.step(x_adv[rows], slope, size))
        values[rows] = oracle.values(x_adv[rows], rows)
        spent[rows] += asked + 1
    return x_adv


_FOR_NORM = 10
"""Random directions that tell the norm of the victim's gradient."""


def _leaning(
    oracle: Oracle, x: Tensor, values: Tensor, threat: Threat, rows: Tensor, samples: int, sigma: float
) -> tuple[Tensor, Tensor]:
    """The estimated gradient at ``x`` ``(R,C,H,W)`` and the queries that it took of each image ``(R,)``."""
    assert oracle.source is not None

    def slope(way: Tensor, of: Tensor) -> Tensor:
        """Of the victim along unit directions."""
        reach = sigma * x[0].numel() ** 0.5  # so that a value changes by sigma, in the root mean square
        moved = oracle.values(_in_box(x[of] + reach * way, threat), rows[of], probe=True)
        return (moved - values[of]) / reach

    everyone = torch.arange(len(rows), device=x.device)
    prior = unit(oracle.source.gradient(x, rows))
    size = x[0].numel()
    along = slope(prior, everyone)
    drawn = [slope(_directions(oracle, x, rows), everyone).square() for _ in range(_FOR_NORM)]
    norm = (size * torch.stack(drawn).mean(0)).sqrt()
    lean = leaning(along / norm.clamp_min(_TINY), size, samples)
    estimate = along.sign().view(-1, 1, 1, 1) * prior
    unsure = (lean < 1).nonzero()[:, 0]
    if len(unsure):
        estimate[unsure] = 0
        share = lean[unsure].view(-1, 1, 1, 1)
        for _ in range(samples):
            away = _directions(oracle, x[unsure], rows[unsure])
            away = unit(away - dot(away, prior[unsure]) * prior[unsure])
            way = share.sqrt() * prior[unsure] + (1 - share).sqrt() * away
            estimate[unsure] += slope(way, unsure).view(-1, 1, 1, 1) * way
    asked = torch.full_like(rows, 1 + _FOR_NORM)
    asked[unsure] += samples
    return estimate, asked


def leaning(cosine: Tensor, size: int, samples: int) -> Tensor:
    """The best share of the prior in each direction, 0 to 1 (Cheng et al. 2019, eq. 13).

    Args:
        cosine: between the prior and the victim's gradient.
        size: values of an image.
    """
    square = cosine.square().clamp_max(1).double()
    few = size + 2 * samples - 2
    top = (1 - square) * (square * few - 1)
    bottom = 2 * square * size * samples - square.square() * size * few - 1
    between = (top / bottom).nan_to_num(0).clamp(0, 1)
    share = torch.where(square <= 1 / few, 0.0, torch.where(square >= (2 * samples - 1) / few, 1.0, between))
    return share.to(cosine.dtype)


def _directions(oracle: Oracle, like: Tensor, rows: Tensor) -> Tensor:
    """Uniform unit directions, each from the stream of its own image."""
    return unit(oracle.streams.of(rows).normal(like))


def _in_box(x: Tensor, threat: Threat) -> Tensor:
    """What a camera can deliver: no value outside the range of an image."""
    return x.clamp(threat.low, threat.high)

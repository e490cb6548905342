"""Attacks on a part of the picture: a bounded change in a rectangle, and a patch that may hold anything."""

from __future__ import annotations

import math

from torch import Tensor

from udc_robust.attacks.gradient import ascend, begin
from udc_robust.attacks.methods import method
from udc_robust.attacks.oracle import Oracle
from udc_robust.attacks.threat import Linf, Threat
from udc_robust.attacks.within import Region, check_region


@method("gradient", check=check_region)
def region_pgd(
    oracle: Oracle,
    x: Tensor,
    threat: Threat,
    *,
    region: tuple[int, ...] = (),
    steps: int = 20,
    step_size: float | None = None,
) -> Tensor:
    """PGD that changes a rectangle only; damage counts wherever it is.

    Args:
        region: top, left, height and width in px.
    """
    part, oracle.place = Region(threat, region), region
    start = begin(oracle, x, part, random=True)
    oracle.values(ascend(oracle, x, start, part, steps=steps, step_size=step_size))
    return oracle.best_x


@method("gradient", norms=("l2",), unbounded=True, check=check_region)
def patch(
    oracle: Oracle,
    x: Tensor,
    threat: Threat,
    *,
    region: tuple[int, ...] = (),
    steps: int = 100,
    step_size: float = 0.05,
) -> Tensor:
    """A sticker (Brown et al. 2017): anything may stand in the rectangle; it is learnt for each image, by sign steps.

    It is stated in L2, with no eps, for that is what tells its size; noise of that norm stands beside it. With an eps
    it is `region_pgd`.

    Args:
        region: top, left, height and width in px.
        step_size: as a share of the range of the images.
    """
    if math.isfinite(threat.eps):
        return region_pgd(oracle, x, threat, region=region, steps=steps)
    span = threat.high - threat.low
    sticker, oracle.place = Region(Linf(span, threat.low, threat.high), region), region
    start = begin(oracle, x, sticker, random=True)
    oracle.values(ascend(oracle, x, start, sticker, steps=steps, step_size=step_size * span))
    return oracle.best_x

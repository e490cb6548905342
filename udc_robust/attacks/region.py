"""Attacks on a part of the picture, a rectangle or a mask: a bounded change, and a patch that may hold anything."""

from __future__ import annotations

import math

from torch import Tensor

from udc_robust.attacks.gradient import ascend, begin
from udc_robust.attacks.methods import method
from udc_robust.attacks.oracle import Oracle
from udc_robust.attacks.threat import Linf, Threat
from udc_robust.attacks.within import Region, area


@method("gradient", check=area)
def region_pgd(
    oracle: Oracle,
    x: Tensor,
    threat: Threat,
    *,
    region: tuple[int, ...] = (),
    mask: str = "",
    steps: int = 20,
    step_size: float | None = None,
) -> Tensor:
    """PGD that changes a part of the picture only; damage counts wherever it is.

    Args:
        region: top, left, height and width of a rectangle in px.
        mask: instead of it a picture file of the images' size, white where they may change.
    """
    part = Region(threat, _inside(x, region, mask))
    oracle.place = part.place
    start = begin(oracle, x, part, random=True)
    oracle.values(ascend(oracle, x, start, part, steps=steps, step_size=step_size))
    return oracle.best_x


@method("gradient", norms=("l2",), unbounded=True, check=area)
def patch(
    oracle: Oracle,
    x: Tensor,
    threat: Threat,
    *,
    region: tuple[int, ...] = (),
    mask: str = "",
    steps: int = 100,
    step_size: float = 0.05,
) -> Tensor:
    """A sticker (Brown et al. 2017): anything may stand in its place; it is learnt for each image, by sign steps.

    It is stated in L2, with no eps, for that is what tells its size; noise of that norm stands beside it. With an eps
    it is `region_pgd`.

    Args:
        region, mask: its place, see `region_pgd`.
        step_size: as a share of the range of the images.
    """
    if math.isfinite(threat.eps):
        return region_pgd(oracle, x, threat, region=region, mask=mask, steps=steps)
    span = threat.high - threat.low
    sticker = Region(Linf(span, threat.low, threat.high), _inside(x, region, mask))
    oracle.place = sticker.place
    start = begin(oracle, x, sticker, random=True)
    oracle.values(ascend(oracle, x, start, sticker, steps=steps, step_size=step_size * span))
    return oracle.best_x


def _inside(x: Tensor, region: tuple[int, ...], mask: str) -> Tensor:
    return area((x.shape[-2], x.shape[-1]), region=region, mask=mask).to(x.device)

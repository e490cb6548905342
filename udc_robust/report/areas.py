"""The area under quality over eps: one number for a victim over all budgets, as AUAC is for classifiers.

Bouniot et al. (2021) take the area under a classifier's accuracy; here it is PSNR and SSIM, each image under the worst
of all attacks up to a budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from udc_robust.evaluation.run_folder import NORM_SIGNS, Outcome, Panel
from udc_robust.metrics.accuracy_curve import area_under, envelope


@dataclass(frozen=True)
class Area:
    """Quality of one victim, averaged over eps from 0 to ``eps`` and over images.

    Attributes:
        norm: sign of the attacks' norm.
        eps: the largest of the budgets that all these victims met; ``budgets``: how many those are.
        psnr, ssim: under the worst attack on each image.
        noise_psnr: under noise alone; None where a budget has none.
    """

    data: str
    victim: str
    norm: str
    eps: float
    budgets: int
    psnr: float
    ssim: float
    noise_psnr: float | None


AREA_COLUMNS = tuple(field.name for field in fields(Area))


def areas(panels: Sequence[Panel]) -> list[Area]:
    """One for each victim and norm that met two budgets or more, over those that all such victims on the data met.

    Against ground truth only. Attacks that were told a random defence's seed do not count, nor do unlimited budgets.
    """
    found = []
    for data in dict.fromkeys(panel.data for panel in panels if panel.has_truth):
        same = [panel for panel in panels if panel.data == data and panel.has_truth]
        for norm in NORM_SIGNS:
            met = {panel.label: {o.cell.eps for o in _limited(panel, norm, noise=False)} for panel in same}
            several = [panel for panel in same if len(met[panel.label]) > 1]
            eps = sorted(set.intersection(*(met[panel.label] for panel in several))) if several else []
            if len(eps) > 1:
                found += [_of(panel, norm, eps) for panel in several]
    return found


def area_rows(found: Sequence[Area]) -> list[dict[str, Any]]:
    """Rows of ``report.areas.csv``."""
    return [asdict(area) for area in found]


def _of(panel: Panel, norm: str, eps: Sequence[float]) -> Area:
    attacks, noises = (_limited(panel, norm, noise=noise) for noise in (False, True))
    return Area(
        panel.data, panel.label, NORM_SIGNS[norm], eps[-1], len(eps),
        psnr=_area(panel, attacks, eps, "psnr"), ssim=_area(panel, attacks, eps, "ssim"),
        noise_psnr=_area(panel, noises, eps, "psnr") if {o.cell.eps for o in noises} >= set(eps) else None,
    )  # fmt: skip


def _limited(panel: Panel, norm: str, *, noise: bool) -> list[Outcome]:
    return [
        outcome
        for outcome in panel.outcomes
        if outcome.cell.attack.norm == norm and 0 < outcome.cell.eps < math.inf
        if outcome.is_noise == noise and not outcome.cell.attack.known_seed
    ]


def _area(panel: Panel, outcomes: Sequence[Outcome], eps: Sequence[float], figure: str) -> float:
    worst = [
        torch.stack([_values(outcome.rows, figure) for outcome in outcomes if outcome.cell.eps == size]).amin(0)
        for size in eps
    ]
    curve = envelope(torch.stack([_values(panel.clean_rows, figure), *worst])).mean(1)
    return area_under([0.0, *eps], curve.tolist())


def _values(rows: Sequence[Any], figure: str) -> Tensor:
    """The figure of each image, in the order of their names."""
    return torch.tensor([row[figure] for row in sorted(rows, key=lambda row: row["image"])], dtype=torch.float64)

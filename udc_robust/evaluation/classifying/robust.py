"""What a victim is worth: the share of images that no attack of a budget is known to break, and what that is against.

An attack counts at every budget that its measured change fits in, so accuracies never rise with eps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from udc_robust.evaluation.classifying.run_folder import Outcome, Panel
from udc_robust.evaluation.verdict import mean_interval
from udc_robust.metrics.accuracy_curve import accuracy_curve, area_under, breaking_distances, holds

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Held:
    """What a victim holds at one budget; shares of the images in [0,1].

    Attributes:
        accuracy: under the worst attack on each image; ``interval`` at 95 %.
        noise: under random noise of the budget; None where the run has none.
        blind: against those who do not know the defence; None for bare classifiers.
        by: accuracy against each kind of attacker (see `ways`), in the order of the run.
        gain: over the baseline under its own worst attacks, image by image; ``gain_interval`` at 95 %. None for the
            baseline itself.
        strongest: the attack that leaves the least.
    """

    accuracy: float
    interval: Interval
    noise: float | None
    blind: float | None
    by: Mapping[str, float]
    gain: float | None
    gain_interval: Interval
    strongest: str


@dataclass(frozen=True)
class Standing:
    """One victim: clean accuracy, what it holds at each budget (None: not attacked), and the areas under its curves.

    Attributes:
        auac: mean accuracy over the Linf budgets from 0, under all attacks; ``auac_blind`` under blind ones alone.
            None where the run has none.
    """

    panel: Panel
    clean: float
    clean_interval: Interval
    held: Sequence[Held | None]
    auac: float | None
    auac_blind: float | None


def budgets(panels: Sequence[Panel]) -> list[tuple[str, float]]:
    """Limited budgets ``(norm, eps)`` at which every victim was attacked, Linf first; all where they share none."""
    each = [{(o.cell.attack.norm, o.cell.eps) for o in panel.outcomes if _counts(o)} for panel in panels]
    for found in (set.intersection(*each), set.union(*each)):
        limited = [(norm, eps) for norm, eps in found if 0 < eps < math.inf]
        if limited:
            return sorted(limited, key=lambda budget: (budget[0] != "linf", *budget))
    return []


def ways(outcome: Outcome) -> str:
    """What kind of attacker it is: its access, or ``jitter`` for gradients at several places near by."""
    access = str(outcome.summary["access"])
    explores = getattr(outcome.cell.attack, "jitter", 0.0) > 0
    return "jitter" if explores and access in ("bpda", "surrogate", "adaptive") else access


def _counts(outcome: Outcome) -> bool:
    """Noise attacks nothing, and who was told the seed is an upper bound, not a threat."""
    return not outcome.is_noise and not outcome.cell.attack.known_seed


def is_blind(outcome: Outcome) -> bool:
    """Whether the attack was made without the defence."""
    return outcome.cell.access == "blind"


def breaking(panel: Panel, norm: str, wanted: Callable[[Outcome], bool] = lambda outcome: True) -> Tensor | None:
    """The smallest change in a norm that is known to break each image ``(B,)``; None without attacks.

    Args:
        wanted: which attacks count.
    """
    outcomes = [o for o in panel.outcomes if o.cell.attack.norm == norm and _counts(o) and wanted(o)]
    if not outcomes:
        return None
    distances = torch.tensor([[row[norm] for row in o.rows] for o in outcomes], dtype=torch.float64)
    broken = torch.tensor([[not row["top1"] for row in o.rows] for o in outcomes])
    return breaking_distances(distances, broken, torch.tensor([not row["top1"] for row in panel.clean_rows]))


def standings(panels: Sequence[Panel]) -> list[Standing]:
    """What the victims of one data block hold."""
    grid = budgets(panels)
    baseline = next((panel for panel in panels if panel.baseline), None)
    return [_standing(panel, baseline, grid) for panel in panels]


def _standing(panel: Panel, baseline: Panel | None, grid: Sequence[tuple[str, float]]) -> Standing:
    held = [_held(panel, baseline, norm, eps) for norm, eps in grid]
    linf = [0.0, *(eps for norm, eps in grid if norm == "linf")]
    right = [row["top1"] for row in panel.clean_rows]
    return Standing(
        panel, fmean(right), mean_interval(right), held, _area(breaking(panel, "linf"), linf),
        _area(breaking(panel, "linf", is_blind), linf),
    )  # fmt: skip


def _area(needed: Tensor | None, eps: Sequence[float]) -> float | None:
    return None if needed is None or len(eps) < 2 else area_under(eps, accuracy_curve(needed, eps))


def _held(panel: Panel, baseline: Panel | None, norm: str, eps: float) -> Held | None:
    here = [o for o in panel.outcomes if (o.cell.attack.norm, o.cell.eps) == (norm, eps)]
    rivals = [o for o in here if _counts(o)]
    needed = breaking(panel, norm)
    if not rivals or needed is None:
        return None
    kept = holds(needed, eps).double()
    by = {}
    for way in dict.fromkeys(map(ways, rivals)):
        found = breaking(panel, norm, lambda o, way=way: ways(o) == way)  # type: ignore[misc]
        by[way] = float(holds(found, eps).double().mean()) if found is not None else math.nan
    floor = None if baseline is None or baseline is panel else breaking(baseline, norm)
    gains = [] if floor is None else (kept - holds(floor, eps).double()).tolist()
    return Held(
        accuracy=float(kept.mean()),
        interval=mean_interval(kept.tolist()),
        noise=next((float(o.summary["top1"]) for o in here if o.is_noise), None),
        blind=by.get("blind"),
        by=by,
        gain=fmean(gains) if gains else None,
        gain_interval=mean_interval(gains) if gains else None,
        strongest=min(rivals, key=lambda o: o.left).cell.label,
    )


def standing_rows(found: Sequence[Standing], grid: Sequence[tuple[str, float]]) -> list[dict[str, object]]:
    """All victims at all budgets, for a table."""
    return [
        {
            "data": s.panel.data, "victim": s.panel.label, "kind": s.panel.kind, "clean": s.clean, "auac": s.auac,
            "auac_blind": s.auac_blind, "norm": norm, "eps": eps, "robust": held.accuracy, "noise": held.noise,
            "gain": held.gain, "strongest": held.strongest,
            **_ends("robust", held.interval), **_ends("gain", held.gain_interval),
            **{way: held.by.get(way) for way in WAYS},
        }
        for s in found
        for (norm, eps), held in zip(grid, s.held, strict=True)
        if held is not None
    ]  # fmt: skip


WAYS = ("gradient", "blind", "bpda", "surrogate", "adaptive", "jitter", "query")
STANDING_COLUMNS = (
    "data", "victim", "kind", "clean", "auac", "auac_blind", "norm", "eps", "noise", "robust", "robust_low",
    "robust_high", "gain", "gain_low", "gain_high", *WAYS, "strongest",
)  # fmt: skip


def _ends(name: str, interval: Interval) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}

"""What is possible: caps of each image, in-phase gains, and the bracket in which the value of the game lies.

The cap is what shifts of brightness alone leave of the baseline; the bracket has what the best victim holds under all
attacks below it, and above it what the best victim leaves of each channel, see `attacks.channels`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from udc_robust.grid.budget import Budget
from udc_robust.metrics import Metric
from udc_robust.names import channel_name
from udc_robust.report.comparison import CAPS, Comparison
from udc_robust.report.panel import Outcome, Panel
from udc_robust.report.words import figure
from udc_robust.report.worst import held, worst_by_image

CHANNEL = "channel"
"""The attack method that is a channel."""


@dataclass(frozen=True)
class ImageCap:
    """One image: what the baseline answers unattacked, after shifts of brightness, and under the worst attack.

    Attributes:
        shifts: by method what it leaves, None where the run has not tried it; ``cap``: the worst of them.
        best, holder: what the victim that holds most of the image leaves, and who that is.
    """

    image: str
    clean: float
    shifts: Mapping[str, float | None]
    cap: float
    undefended: float
    best: float
    holder: str


@dataclass(frozen=True)
class Jammed:
    """What the best of the victims leaves of one channel.

    Attributes:
        learnt: whether one of them learnt it. Else it bounds nothing: who knew it would make more of it.
    """

    channel: str
    best: float
    by: str
    learnt: bool


@dataclass(frozen=True)
class Bracket:
    """The value of the game for a network of one family, from both sides.

    Attributes:
        held, by: the most that a victim holds under all attacks of the run: no attack found takes more from it.
        channels: each channel; where a victim learnt it, the best estimates, from below, the ceiling of all.
    """

    held: float
    by: str
    channels: Sequence[Jammed]

    @property
    def ceiling(self) -> Jammed | None:
        """The channel that leaves its best victim least, of those that a victim learnt."""
        return min((one for one in self.channels if one.learnt), key=lambda one: one.best, default=None)


@dataclass(frozen=True)
class Possible:
    """What is known of the limits of one family on one data block at one budget.

    Attributes:
        cap: the mean over ``images``; both are None and empty where the run has no shift of brightness.
        kappas: by victim its in-phase gain, see `kappa`.
    """

    data: str
    family: str
    metric: Metric
    budget: Budget
    cap: float | None
    images: Sequence[ImageCap]
    kappas: Sequence[tuple[str, float]]
    bracket: Bracket | None

    @property
    def sentence(self) -> str:
        """The bracket in words."""
        if self.bracket is None:
            return ""
        top, metric = self.bracket.ceiling, self.metric
        if top is None:
            return "No victim of this run was told of one of its channels, so what they leave bounds nothing."
        return (
            f"At {self.budget} the value of the game lies between {figure(metric, self.bracket.held)}, which "
            f"{self.bracket.by} holds under all attacks of this run, and {figure(metric, top.best)}, which "
            f"{top.by} makes of channel {top.channel}: a gap of {figure(metric, top.best - self.bracket.held)}."
        )


def limits_of(found: Sequence[Comparison]) -> list[Possible]:
    """One for each comparison and budget of a limited norm at which there is a cap or a channel."""
    made = []
    for comparison in found:
        panels, baseline = comparison.panels, comparison.baseline
        for budget in comparison.shared_budgets:
            if budget.norm != "linf" or baseline is None:
                continue
            images = _images(baseline, panels, budget)
            bracket = _bracket([panel for panel in panels if panel.is_bare], budget)
            if images or bracket:
                cap = fmean(one.cap for one in images) if images else None
                kappas = [(panel.label, kappa(panel, budget)) for panel in panels if _has_kappa(panel)]
                made.append(
                    Possible(
                        comparison.data, comparison.family, comparison.metric, budget, cap, images, kappas, bracket
                    )
                )
    return made


def _images(baseline: Panel, panels: Sequence[Panel], budget: Budget) -> list[ImageCap]:
    """Image by image, where shifts were tried at this budget."""
    tried = {o.cell.attack.method for o in baseline.outcomes if o.counts and o.budget == budget} & {*CAPS}
    if not tried:
        return []
    left = {method: worst_by_image(baseline, budget, _by(method)) for method in CAPS if method in tried}
    worst = {panel.label: worst_by_image(panel, budget) for panel in panels}
    clean, better = baseline.figures(baseline.clean_rows), baseline.task.quality.better
    found = []
    for image, before in clean.items():
        shifts = {method: left[method][image].figure if method in left else None for method in CAPS}
        cap = min((one for one in shifts.values() if one is not None), key=lambda one: better(one, 0.0))
        here = {label: by_image[image].figure for label, by_image in worst.items() if image in by_image}
        holder = max(here, key=lambda label: better(here[label], 0.0))
        found.append(ImageCap(image, before, shifts, cap, here[baseline.label], here[holder], holder))
    return found


def _by(method: str) -> Any:
    def wanted(outcome: Outcome) -> bool:
        return outcome.cell.attack.method == method

    return wanted


def _bracket(panels: Sequence[Panel], budget: Budget) -> Bracket | None:
    """Of bare networks of one family; None where no channel was tried, or the figure is worse where it is higher."""
    if not panels or not panels[0].task.quality.higher_is_better:
        return None
    channels: dict[tuple[str, bool], list[tuple[float, str]]] = {}
    known = {panel.channel for panel in panels}
    for panel in panels:
        for outcome in panel.outcomes:
            if outcome.cell.attack.method == CHANNEL and outcome.budget == budget and outcome.counts:
                left = fmean(panel.figures(outcome.rows).values())
                which = outcome.cell.attack.label, channel_name(outcome.options["channel"]) in known
                channels.setdefault(which, []).append((left, panel.label))
    if not channels:
        return None
    best, by = max((held(worst_by_image(panel, budget)), panel.label) for panel in panels)
    jammed = [Jammed(name, *max(left), learnt) for (name, learnt), left in channels.items()]
    return Bracket(best, by, sorted(jammed, key=lambda one: one.best))


def _has_kappa(panel: Panel) -> bool:
    """A root of the mean squared error can be told from PSNR alone, and set against eps where both have one unit."""
    return panel.task.quality.name == "psnr" and panel.stated_in == panel.images["domain"] != "linear"


def kappa(panel: Panel, budget: Budget) -> float:
    """In-phase gain: what the worst attack adds to the root mean squared error of an image, in units of eps, mean."""
    worst, clean = worst_by_image(panel, budget), panel.figures(panel.clean_rows)
    return fmean((_rmse(worst[image].figure) - _rmse(psnr)) / budget.eps for image, psnr in clean.items())


def _rmse(psnr: float) -> float:
    return math.pow(10, -psnr / 20)


COLUMNS = ("data", "family", "metric", "budget", "image", "clean", *CAPS, "cap", "undefended", "best", "holder")


def rows(found: Sequence[Possible]) -> list[dict[str, Any]]:
    """A row an image and budget, for ``report.limits.csv``."""
    return [
        {
            "data": one.data, "family": one.family, "metric": one.metric.name, "budget": str(one.budget),
            "image": image.image, "clean": image.clean, **image.shifts, "cap": image.cap,
            "undefended": image.undefended, "best": image.best, "holder": image.holder,
        }
        for one in found
        for image in one.images
    ]  # fmt: skip


BRACKET_COLUMNS = (
    "data", "family", "metric", "budget", "channel", "best", "best_victim", "held", "held_by", "gap",
    "learnt",
)  # fmt: skip


def bracket_rows(found: Sequence[Possible]) -> list[dict[str, Any]]:
    """A row a channel and budget, for ``report.bracket.csv``."""
    return [
        {
            "data": one.data, "family": one.family, "metric": one.metric.name, "budget": str(one.budget),
            "channel": jammed.channel, "best": jammed.best, "best_victim": jammed.by, "held": one.bracket.held,
            "held_by": one.bracket.by, "gap": jammed.best - one.bracket.held, "learnt": jammed.learnt,
        }
        for one in found
        if one.bracket
        for jammed in one.bracket.channels
    ]  # fmt: skip

"""A comparison in words: whether the defence under study earns its cost, who holds most, and whom ignorance flatters.

A defence is under study unless its config calls it a control; none is singled out by its kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from udc_robust.grid.budget import Budget
from udc_robust.grid.task import Task
from udc_robust.report.comparison import Comparison, Standing, gains_over
from udc_robust.report.paired import of_runs
from udc_robust.report.panel import Panel
from udc_robust.report.words import NO_ATTACK, bracketed, difference, figure, span

CUSTOMARY = Budget("linf", 4 / 255)
"""The budget that the field states."""


@dataclass(frozen=True)
class Verdict:
    """What a comparison comes to.

    Attributes:
        headline: its first sentences, for the top of the page; empty where nothing is compared.
    """

    headline: str
    text: str


def headline(task: Task, panels: Sequence[Panel], compared: Sequence[Comparison]) -> str:
    """Of several runs whether the later ones hold more; of one what its defences earn, or how far its networks fall."""
    told = [found.verdict for found in of_runs(panels)] or [verdict(found).headline for found in compared]
    return next((text for text in told if text), "") or task.headline(panels, compared)


def verdict(found: Comparison) -> Verdict:
    """At Linf 4/255, or at the middle one of the budgets at which all victims were attacked."""
    if len(found.standings) < 2:
        return Verdict("", "")
    if not found.shared:
        return Verdict(
            "", "No budget was tried on every victim, so they cannot be ranked." if found.budgets else NO_ATTACK
        )
    at = _place(found)
    ranked = sorted(found.standings, key=lambda standing: found.metric.better(0.0, standing.at(at).quality))
    studied = [s for s in ranked if not s.panel.is_bare and not s.panel.is_control]
    earned = _earned(found, studied[0], ranked, at) if studied else ""
    flattered = _flattered(found, studied or [s for s in ranked if not s.panel.is_bare], at)
    headline = f"{earned} {flattered}".strip()
    return Verdict(headline, " ".join(part for part in (earned, *_ranking(found, ranked, at), flattered) if part))


def _place(found: Comparison) -> int:
    customary = [i for i in found.shared if str(found.budgets[i]) == str(CUSTOMARY)]
    return customary[0] if customary else found.shared[len(found.shared) // 2]


def _ranking(found: Comparison, ranked: Sequence[Standing], at: int) -> list[str]:
    """Who holds most, and the best of each kind of rival that does not."""
    best, baseline = ranked[0], found.standings[0]
    if best is baseline and baseline.panel.is_baseline:
        held = figure(found.metric, best.at(at).quality)
        parts = [f"At {found.budgets[at]} no defence helps: undefended it holds {held}."]
    else:
        parts = [f"At {found.budgets[at]} {_words(found, best, at)}."]
    for title, members in (
        ("defence", [s for s in ranked if not s.panel.is_bare and not s.panel.is_control]),
        ("control", [s for s in ranked if s.panel.is_control]),
        ("other network alone", [s for s in ranked if s.panel.is_bare and s is not baseline]),
    ):
        if members and members[0] is not best:
            parts.append(f"The best {title}: {_words(found, members[0], at)}.")
    return parts


def _words(found: Comparison, standing: Standing, at: int) -> str:
    held, metric = standing.at(at), found.metric
    gain = ""
    if held.gain is not None:
        interval = bracketed(held.gain_interval, metric.digits)
        gain = f", {difference(metric, held.gain)}{interval} {metric.more(held.gain)} than undefended"
    return f"{standing.panel.label} holds {figure(metric, held.quality)}{gain}, {_price(found, standing)}"


def _price(found: Comparison, standing: Standing) -> str:
    """What it costs of clean quality and in model calls."""
    calls, cost = standing.panel.nfe, difference(found.metric, standing.cost)
    gains = standing.cost < 0 and cost != difference(found.metric, 0)
    price = (
        f"with {cost} {found.metric.more(1)} of clean {found.metric.title}"
        if gains
        else f"for {cost} of clean {found.metric.title}"
    )
    return price + (f" and {calls} model call{'s' if calls > 1 else ''}" if calls else "")


def _earned(found: Comparison, best: Standing, ranked: Sequence[Standing], at: int) -> str:
    """Whether the best defence under study beats whatever costs no more and holds most, image by image."""
    limit = best.cost + found.metric.scale.same_cost
    rivals = [s for s in ranked if s.cost <= limit and (s.panel.is_bare or s.panel.is_control)]
    rival = rivals[0] if rivals else found.standings[0]
    no_dearer = ", which costs no more" if rivals else ""
    gains = gains_over(found.metric, best.at(at).worst, rival.at(at).worst)
    if not gains:
        return ""
    gain, interval, digits = fmean(gains.values()), best.panel.interval(gains), found.metric.digits
    earns = "earns its cost"
    if gain <= 0:
        earns = "does not earn its cost"
    elif interval is None or interval[0] <= 0:
        earns = "is not shown to earn its cost"
    spread = f" (95 % interval of the gain: {span(interval, digits)})" if interval else ""
    return (
        f"{best.panel.label} {earns}, {_price(found, best)}: at {found.budgets[at]} it holds "
        f"{difference(found.metric, gain)} {found.metric.more(gain)} than {rival.panel.label}"
        f"{no_dearer}{spread}."
    )


def _flattered(found: Comparison, defended: Sequence[Standing], at: int) -> str:
    """What an attacker who ignores a defence would make one believe."""
    seen = [standing for standing in defended if standing.at(at).blind is not None]
    if not seen:
        return ""
    held, metric = seen[0].at(at), found.metric
    assert held.blind is not None
    return (
        f"Against attackers who do not know it, {seen[0].panel.label} seems to hold {figure(metric, held.blind)} at "
        f"{found.budgets[at]}; under all attacks of this run it holds {figure(metric, held.quality)}"
        f"{bracketed(held.interval, metric.digits)}: ignorance flatters it by "
        f"{difference(metric, held.blind - held.quality)}."
    )

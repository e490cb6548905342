"""What each defence buys and what it costs: the worst attack on each image, paired with the undefended restorer.

A defence is whatever differs from that: something in front of the restorer, a fine-tuned restorer, or both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from udc_robust.evaluation.run_folder import NORM_SIGNS, Outcome, Panel
from udc_robust.evaluation.verdict import mean_interval, number
from udc_robust.evaluation.victims import NONE

# Clean costs within this many dB count as the same.
_SAME_COST = 0.1
CUSTOMARY = f"{NORM_SIGNS['linf']}\N{NO-BREAK SPACE}4/255"
Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Held:
    """What a victim holds at one budget: the mean over images of the worst over attacks, in dB.

    Attributes:
        blind: what it seems to hold against an attacker who does not know the defence; None for a bare restorer.
        gain: over the bare restorer, image by image; ``interval`` at 95 %. None for the bare restorer itself.
        strongest: the attack that is the worst on most images.
        worst: the PSNR under the worst attack on each image.
    """

    psnr: float
    blind: float | None
    gain: float | None
    interval: Interval
    strongest: str
    worst: Mapping[str, float]


@dataclass(frozen=True)
class Bargain:
    """One victim: its clean cost, and what it holds at each budget.

    Attributes:
        cost: dB of clean PSNR below the bare restorer; 0 for the bare one.
        held: by budget, in the order of the table's columns; None where the victim was not attacked.
    """

    panel: Panel
    clean: float
    cost: float
    held: Sequence[Held | None]

    @property
    def is_control(self) -> bool:
        """Whether it is a cheap rival rather than the defence under study."""
        return self.panel.kind not in ("purifier", NONE)


@dataclass(frozen=True)
class Market:
    """All victims of one family on one data block; the first bargain is the undefended restorer.

    Attributes:
        headline: the first sentence of the verdict.
    """

    data: str
    family: str
    budgets: Sequence[str]
    bargains: Sequence[Bargain]
    headline: str
    verdict: str


def markets(panels: Sequence[Panel]) -> list[Market]:
    """A market for each data block and family with more than one victim, where there is ground truth."""
    groups: dict[tuple[str, str, str], list[Panel]] = {}
    for panel in panels:
        groups.setdefault((str(panel.folder), panel.data, panel.family), []).append(panel)
    found = []
    for (_, _, family), group in groups.items():
        bare = [panel for panel in group if panel.restorer == family and panel.defence == NONE]
        if bare and len(group) > 1 and group[0].has_truth:
            found.append(_market(bare[0], [*bare, *(panel for panel in group if panel is not bare[0])]))
    return found


def worst_by_image(outcomes: Sequence[Outcome]) -> dict[str, tuple[float, str]]:
    """For each image the PSNR under the worst attack, and which it was."""
    worst: dict[str, tuple[float, str]] = {}
    for outcome in outcomes:
        for row in outcome.rows:
            found = (row["psnr"], outcome.cell.label)
            worst[row["image"]] = min(worst.get(row["image"], (math.inf, "")), found)
    return worst


def _rivals(panel: Panel, budget: str) -> list[Outcome]:
    """Attacks that count at a budget: no noise, and nobody who was told the seed."""
    return [o for o in panel.outcomes if o.budget == budget and not o.is_noise and not o.cell.attack.known_seed]


def _market(bare: Panel, panels: Sequence[Panel]) -> Market:
    limited = [o for panel in panels for o in panel.outcomes if 0 < o.cell.eps < math.inf and not o.is_noise]
    limited.sort(key=lambda o: (o.cell.attack.norm != "linf", o.cell.attack.norm, o.cell.eps))
    budgets = list(dict.fromkeys(o.budget for o in limited))
    floor = {budget: worst_by_image(_rivals(bare, budget)) for budget in budgets}
    bargains = [_bargain(panel, bare, budgets, floor) for panel in panels]
    sentences = _verdict(bargains, budgets)
    return Market(bare.data, bare.family, budgets, bargains, sentences[0], " ".join(sentences))


def _bargain(
    panel: Panel, bare: Panel, budgets: Sequence[str], floor: Mapping[str, Mapping[str, tuple[float, str]]]
) -> Bargain:
    cost = bare.clean["psnr"] - panel.clean["psnr"]
    return Bargain(panel, panel.clean["psnr"], cost, [_held(panel, budget, floor[budget]) for budget in budgets])


def _held(panel: Panel, budget: str, floor: Mapping[str, tuple[float, str]]) -> Held | None:
    outcomes = _rivals(panel, budget)
    if not outcomes:
        return None
    worst = worst_by_image(outcomes)
    blind = worst_by_image([o for o in outcomes if o.cell.access == "blind"])
    gains = [worst[image][0] - floor[image][0] for image in worst if image in floor]
    names = [name for _, name in worst.values()]
    bare = panel.restorer == panel.family and panel.defence == NONE
    return Held(
        psnr=fmean(psnr for psnr, _ in worst.values()),
        blind=fmean(psnr for psnr, _ in blind.values()) if blind else None,
        gain=None if bare or not gains else fmean(gains),
        interval=None if bare else mean_interval(gains),
        strongest=max(set(names), key=lambda name: (names.count(name), name)),
        worst={image: psnr for image, (psnr, _) in worst.items()},
    )


def _verdict(bargains: Sequence[Bargain], budgets: Sequence[str]) -> list[str]:
    """Whether purification earns its calls, then who holds most, and who else was in the race.

    At Linf 4/255, the budget that the field states, or the middle one of those that all victims met.
    """
    shared = [i for i in range(len(budgets)) if all(bargain.held[i] for bargain in bargains)]
    if not shared:
        return ["No budget was tried on every victim, so they cannot be ranked."]
    at = next((i for i in shared if budgets[i] == CUSTOMARY), shared[len(shared) // 2])
    ranked = sorted(bargains, key=lambda bargain: -_at(bargain, at).psnr)
    best = ranked[0]
    earned = _earned(ranked, at, budgets[at])
    if best is bargains[0]:
        parts = [f"At {budgets[at]} no defence helps: undefended it holds {number(_at(best, at).psnr)} dB."]
    else:
        parts = [f"At {budgets[at]} {_words(best, at)}."]
    for title, members in (
        ("purifier", [bargain for bargain in ranked if bargain.panel.kind == "purifier"]),
        ("control", [bargain for bargain in ranked if bargain.is_control]),
        ("fine-tuned restorer alone", [b for b in ranked if b.panel.defence == NONE and b is not bargains[0]]),
    ):
        if members and members[0] is not best:
            parts.append(f"The best {title}: {_words(members[0], at)}.")
    flattered = [b for b in ranked if _at(b, at).blind is not None and b.panel.kind == "purifier"]
    if flattered:
        held = _at(flattered[0], at)
        assert held.blind is not None
        parts.append(
            f"Against an attacker who ignores it, {flattered[0].panel.label} would seem to hold {number(held.blind)} "
            f"dB: that flatters it by {number(held.blind - held.psnr)} dB."
        )
    return [*earned, *parts]


def _earned(ranked: Sequence[Bargain], at: int, budget: str) -> list[str]:
    """Whether the best purifier beats whatever costs no more clean PSNR and holds most, image by image."""
    purified = [bargain for bargain in ranked if bargain.panel.kind == "purifier"]
    if not purified:
        return []
    best = purified[0]
    rivals = [b for b in ranked if b.panel.kind != "purifier" and b.cost <= best.cost + _SAME_COST]
    ours, rival = _at(best, at), rivals[0]  # the undefended restorer costs nothing, so there is one
    gains = [psnr - _at(rival, at).worst[image] for image, psnr in ours.worst.items() if image in _at(rival, at).worst]
    gain, interval = fmean(gains), mean_interval(gains)
    if gain <= 0:
        word = "does not earn its model calls"
    elif interval is None or interval[0] <= 0:
        word = "is not shown to earn its model calls"
    else:
        word = "earns its model calls"
    spread = f" (95 % interval of the gain {number(interval[0])} to {number(interval[1])})" if interval else ""
    more = "more" if gain > 0 else "less"
    return [
        f"Purification {word}: at {budget} {best.panel.label} holds {number(abs(gain))} dB {more} than "
        f"{rival.panel.label}, which costs no more clean PSNR{spread}."
    ]


def _at(bargain: Bargain, index: int) -> Held:
    held = bargain.held[index]
    assert held is not None
    return held


def _words(bargain: Bargain, index: int) -> str:
    held = _at(bargain, index)
    interval = f" ({number(held.interval[0])} to {number(held.interval[1])})" if held.interval else ""
    calls = bargain.panel.nfe
    price = f" and {calls} model call{'s' if calls > 1 else ''}" if calls else ""
    gain = "" if held.gain is None else f", {number(held.gain)} dB{interval} more than undefended"
    return (
        f"{bargain.panel.label} holds {number(held.psnr)} dB{gain}, for {number(bargain.cost)} dB of clean PSNR{price}"
    )


def market_rows(found: Sequence[Market]) -> list[dict[str, object]]:
    """All bargains at all budgets, for a table."""
    return [
        {
            "data": market.data, "family": market.family, "victim": bargain.panel.label, "kind": bargain.panel.kind,
            "nfe": bargain.panel.nfe, "clean": bargain.clean, "cost": bargain.cost, "budget": budget,
            "psnr": held.psnr, "blind": held.blind, "gain": held.gain, "strongest": held.strongest,
            "gain_low": held.interval[0] if held.interval else None,
            "gain_high": held.interval[1] if held.interval else None,
        }
        for market in found
        for bargain in market.bargains
        for budget, held in zip(market.budgets, bargain.held, strict=True)
        if held is not None
    ]  # fmt: skip

"""Signs that an attack was too weak to believe the defence, each with its rule and its value.

After Athalye et al. 2018 and Carlini et al. 2019, in dB of PSNR for restoration. A flag that is not raised proves
nothing; one that is raised says which figures not to trust.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from udc_robust.evaluation.run_folder import Outcome, Panel

Settings = tuple[object, ...]


@dataclass(frozen=True)
class Flag:
    """One check of one victim.

    Attributes:
        name: short name; ``rule``: what raises it.
        value: the worst figure found, in words; empty when it was not measured.
        state: ``raised``, ``clear`` or ``not measured``.
    """

    name: str
    rule: str
    value: str
    state: str


def red_flags(panel: Panel) -> list[Flag]:
    """All flags of a victim, from the attacks that its run holds."""
    return [
        _gap("single step beats many", "FGSM 0.1 dB below PGD", panel, _single_step, 0.1),
        _gap("queries beat the gradient", "a query attack 0.1 dB below the best gradient attack", panel, _queries, 0.1),
        _gap("transfer beats white box", "the blind attack 0.1 dB below the best other", panel, _transfer, 0.1),
        _gap("noise beats white box", "random noise below the best gradient attack", panel, _noise, 0.0),
        _gap("not monotone in eps", "a larger eps leaves 0.1 dB more", panel, _monotone, 0.1),
        _unbounded(panel),
        _gradients(panel),
        _gap("still falling with more steps", "twice the steps take 0.2 dB more", panel, _steps, 0.2),
        _gap("still falling with more EOT", "more answers a gradient take 0.2 dB more", panel, _eot, 0.2),
        _gap("known seed weaker than EOT", "knowing the seed leaves 0.1 dB more than EOT", panel, _seed, 0.1),
    ]


Gap = tuple[float, str]
"""How far a rule is broken, in dB (positive: broken), and the two figures in words."""


def _gap(name: str, rule: str, panel: Panel, find: Callable[[Panel], Iterable[Gap]], limit: float) -> Flag:
    gaps = list(find(panel))
    if not gaps:
        return Flag(name, rule, "", "not measured")
    gap, words = max(gaps)
    return Flag(name, rule, words, "raised" if gap > limit else "clear")


def psnr_left(outcome: Outcome) -> float:
    """Mean PSNR that an attack leaves, to the ground truth or else to the clean restoration."""
    return float(outcome.summary["psnr"])


def _words(a: Outcome, b: Outcome) -> str:
    return f"{a.cell.label} {psnr_left(a):.2f} dB, {b.cell.label} {psnr_left(b):.2f} dB at {a.budget}"


def _attacks(panel: Panel) -> list[Outcome]:
    """Attacks of a limited budget on the mean squared error; only those compare."""
    return [
        o for o in panel.outcomes
        if not o.is_noise and 0 < o.cell.eps < math.inf and o.cell.attack.objective in ("mse", "psnr")
    ]  # fmt: skip


def _by_budget(outcomes: Iterable[Outcome]) -> list[list[Outcome]]:
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.budget, []).append(outcome)
    return list(groups.values())


def _is_gradient(outcome: Outcome) -> bool:
    """Whether the attack follows a gradient of the victim itself."""
    return outcome.cell.access not in ("none", "query", "blind") and not outcome.cell.attack.known_seed


def _against_best(panel: Panel, weaker: Callable[[Outcome], bool]) -> Iterable[Gap]:
    """Attacks that ought to be weaker than the best gradient attack of their budget."""
    for group in _by_budget(_attacks(panel)):
        best = min((o for o in group if _is_gradient(o) and not weaker(o)), key=psnr_left, default=None)
        for other in group:
            if best is not None and weaker(other):
                yield psnr_left(best) - psnr_left(other), _words(other, best)


def _single_step(panel: Panel) -> Iterable[Gap]:
    return _against_best(panel, lambda o: o.cell.attack.method == "fgsm")


def _queries(panel: Panel) -> Iterable[Gap]:
    return _against_best(panel, lambda o: o.cell.access == "query")


def _transfer(panel: Panel) -> Iterable[Gap]:
    return _against_best(panel, lambda o: o.cell.access == "blind")


def _noise(panel: Panel) -> Iterable[Gap]:
    for group in _by_budget(o for o in panel.outcomes if 0 < o.cell.eps < math.inf):
        best = min((o for o in group if _is_gradient(o)), key=psnr_left, default=None)
        for other in group:
            if best is not None and other.is_noise:
                yield psnr_left(best) - psnr_left(other), _words(other, best)


def _monotone(panel: Panel) -> Iterable[Gap]:
    for curve in _series(panel, lambda o: o.cell.label):
        rising = sorted(curve, key=lambda o: o.cell.eps)
        for small, large in pairwise(rising):
            here, there = (f"{psnr_left(o):.2f} dB at {o.budget}" for o in (small, large))
            yield psnr_left(large) - psnr_left(small), f"{small.cell.label}: {here}, {there}"


def _series(panel: Panel, key: Callable[[Outcome], str]) -> list[list[Outcome]]:
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in _attacks(panel):
        groups.setdefault((key(outcome), outcome.cell.attack.norm), []).append(outcome)
    return [group for group in groups.values() if len(group) > 1]


def _unbounded(panel: Panel) -> Flag:
    """With the whole range as a budget nothing of an image is left: about 10 dB, a constant image."""
    name, rule = "an unbounded attack fails", "over 12 dB are left at Linf 64/255 or more"
    huge = [o for o in _attacks(panel) if o.cell.attack.norm == "linf" and o.cell.eps >= 64 / 255 and _is_gradient(o)]
    if not huge:
        return Flag(name, rule, "", "not measured")
    best = min(huge, key=psnr_left)
    return Flag(name, rule, f"{psnr_left(best):.2f} dB", "raised" if psnr_left(best) > 12 else "clear")


def _gradients(panel: Panel) -> Flag:
    name, rule = "dead or broken gradients", "over 1 % of an attack's gradients all zero or not finite"
    found = [o for o in panel.outcomes if o.summary["backwards"]]
    if not found:
        return Flag(name, rule, "", "not measured")
    shares = [
        (o.summary["bad_gradients"] / (o.summary["backwards"] / o.summary["eot"] * o.summary["images"]), o)
        for o in found
    ]
    share, worst = max(shares, key=lambda pair: pair[0])
    return Flag(name, rule, f"{100 * share:.1f} % ({worst.title})", "raised" if share > 0.01 else "clear")


def _settings(outcome: Outcome, *but: str) -> Settings:
    """What an attack is, but for some of its settings and its name."""
    attack = outcome.cell.attack
    options = {**(attack.model_extra or {}), "eot": attack.eot, "known_seed": attack.known_seed}
    kept = sorted((key, str(value)) for key, value in options.items() if key not in but)
    return (attack.method, attack.objective, outcome.budget, outcome.cell.access, *kept)


def _twins(panel: Panel, *but: str) -> list[Sequence[Outcome]]:
    """Groups of attacks that differ in these settings only."""
    groups: dict[Settings, list[Outcome]] = {}
    for outcome in _attacks(panel):
        groups.setdefault(_settings(outcome, *but), []).append(outcome)
    return [group for group in groups.values() if len(group) > 1]


def _steps(panel: Panel) -> Iterable[Gap]:
    """Step sizes may fall as steps grow, so they may differ too."""
    for group in _twins(panel, "steps", "step_size"):
        if group[0].cell.attack.method in ("pgd", "ifgsm"):
            rising = sorted(group, key=lambda o: o.summary["backwards"])
            yield psnr_left(rising[-2]) - psnr_left(rising[-1]), _words(rising[-2], rising[-1])


def _eot(panel: Panel) -> Iterable[Gap]:
    for group in _twins(panel, "eot"):
        rising = sorted(group, key=lambda o: o.cell.attack.eot)
        if rising[0].summary["draws"] > 1:
            yield psnr_left(rising[-2]) - psnr_left(rising[-1]), _words(rising[-2], rising[-1])


def _seed(panel: Panel) -> Iterable[Gap]:
    for group in _twins(panel, "known_seed", "eot"):
        known = [o for o in group if o.cell.attack.known_seed]
        others = [o for o in group if not o.cell.attack.known_seed]
        if known and others:
            best = min(others, key=psnr_left)
            yield psnr_left(known[0]) - psnr_left(best), _words(known[0], best)


def flag_rows(panels: Sequence[Panel]) -> list[dict[str, object]]:
    """All flags of all victims, for a table."""
    return [
        {"data": p.data, "victim": p.label, "flag": f.name, "rule": f.rule, "state": f.state, "value": f.value}
        for p in panels
        for f in red_flags(p)
    ]

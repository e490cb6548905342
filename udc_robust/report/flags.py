"""Signs that an attack was too weak to believe the defence, each with its rule and its value.

After Athalye et al. 2018 and Carlini et al. 2019, in the unit of the task's quality. A flag that is not raised proves
nothing; one that is raised says which figures not to trust.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from udc_robust.grid.budget import Budget
from udc_robust.report.run_folder import Outcome, Panel

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
    scale, unit = panel.task.scale, {"%": "points"}.get(panel.task.quality.unit, panel.task.quality.unit)
    small, large = (f"{size:g} {unit}" for size in (scale.small, scale.large))
    found: list[tuple[str, str, Callable[[Panel], Iterable[Gap]], float]] = [
        ("single step beats many", f"FGSM {small} below PGD", _single_step, scale.small),
        ("queries beat the gradient", f"a query attack {small} below the best gradient attack", _queries, scale.small),
        ("transfer beats white box", f"the blind attack {small} below the best other", _transfer, scale.small),
        ("noise beats white box", "random noise below the best gradient attack", _noise, 0.0),
        ("not monotone in eps", f"a larger eps leaves {small} more", _monotone, scale.small),
        ("still falling with more steps", f"twice the steps take {large} more", _steps, scale.large),
        ("still falling with more EOT", f"more answers a gradient take {large} more", _eot, scale.large),
        ("known seed weaker than EOT", f"knowing the seed leaves {small} more than EOT", _seed, scale.small),
    ]
    gaps = [_gap(name, rule, panel, find, limit) for name, rule, find, limit in found]
    return [*gaps[:5], _unbounded(panel), _gradients(panel), *gaps[5:]]


Gap = tuple[float, str]
"""How far a rule is broken (positive: broken), and the two figures in words."""


def _gap(name: str, rule: str, panel: Panel, find: Callable[[Panel], Iterable[Gap]], limit: float) -> Flag:
    gaps = list(find(panel))
    if not gaps:
        return Flag(name, rule, "", "not measured")
    gap, words = max(gaps)
    return Flag(name, rule, words, "raised" if gap > limit else "clear")


def _left(outcome: Outcome) -> float:
    return outcome.left


def _words(a: Outcome, b: Outcome) -> str:
    return f"{a.cell.label} {_text(a)}, {b.cell.label} {_text(b)} at {a.budget}"


def _text(outcome: Outcome) -> str:
    """What an attack leaves, to one digit more than tables have of shares: a flag is a matter of points."""
    metric = outcome.quality
    return f"{outcome.left:.{max(metric.digits, 1)}f} {metric.unit}"


def _attacks(panel: Panel) -> list[Outcome]:
    """Attacks of a limited budget on the figure that all are judged by."""
    return [o for o in panel.outcomes if not o.is_noise and o.budget.limited and o.cell.attack.aims_at_quality]


def _by_budget(outcomes: Iterable[Outcome]) -> list[list[Outcome]]:
    groups: dict[Budget, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.budget, []).append(outcome)
    return list(groups.values())


def _is_gradient(outcome: Outcome) -> bool:
    """Whether the attack follows a gradient of the victim itself."""
    return outcome.cell.access not in ("none", "query", "blind") and not outcome.cell.attack.known_seed


def _against_best(panel: Panel, weaker: Callable[[Outcome], bool]) -> Iterable[Gap]:
    """Attacks that ought to be weaker than the best gradient attack of their budget."""
    for group in _by_budget(_attacks(panel)):
        best = min((o for o in group if _is_gradient(o) and not weaker(o)), key=_left, default=None)
        for other in group:
            if best is not None and weaker(other):
                yield best.left - other.left, _words(other, best)


def _single_step(panel: Panel) -> Iterable[Gap]:
    return _against_best(panel, lambda o: o.cell.attack.method == "fgsm")


def _queries(panel: Panel) -> Iterable[Gap]:
    return _against_best(panel, lambda o: o.cell.access == "query")


def _transfer(panel: Panel) -> Iterable[Gap]:
    return _against_best(panel, lambda o: o.cell.access == "blind")


def _noise(panel: Panel) -> Iterable[Gap]:
    for group in _by_budget(o for o in panel.outcomes if o.budget.limited):
        best = min((o for o in group if _is_gradient(o)), key=_left, default=None)
        for other in group:
            if best is not None and other.is_noise:
                yield best.left - other.left, _words(other, best)


def _monotone(panel: Panel) -> Iterable[Gap]:
    for curve in _series(panel, lambda o: o.cell.label):
        rising = sorted(curve, key=lambda o: o.cell.eps)
        for small, large in pairwise(rising):
            here, there = (f"{_text(o)} at {o.budget}" for o in (small, large))
            yield large.left - small.left, f"{small.cell.label}: {here}, {there}"


def _series(panel: Panel, key: Callable[[Outcome], str]) -> list[list[Outcome]]:
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in _attacks(panel):
        groups.setdefault((key(outcome), outcome.cell.attack.norm), []).append(outcome)
    return [group for group in groups.values() if len(group) > 1]


def _unbounded(panel: Panel) -> Flag:
    """With the whole range as a budget nothing of an image is left."""
    nothing = panel.task.scale.nothing
    name = "an unbounded attack fails"
    rule = f"over {nothing:g} {panel.task.quality.unit} are left at Linf 64/255 or more"
    huge = [o for o in _attacks(panel) if o.cell.attack.norm == "linf" and o.cell.eps >= 64 / 255 and _is_gradient(o)]
    if not huge:
        return Flag(name, rule, "", "not measured")
    best = min(huge, key=_left)
    return Flag(name, rule, _text(best), "raised" if best.left > nothing else "clear")


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
    options = {
        **(attack.model_extra or {}),
        "eot": attack.eot,
        "known_seed": attack.known_seed,
        "jitter": attack.jitter,
    }
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
            yield rising[-2].left - rising[-1].left, _words(rising[-2], rising[-1])


def _eot(panel: Panel) -> Iterable[Gap]:
    for group in _twins(panel, "eot"):
        rising = sorted(group, key=lambda o: o.cell.attack.eot)
        if rising[0].summary["draws"] > 1:
            yield rising[-2].left - rising[-1].left, _words(rising[-2], rising[-1])


def _seed(panel: Panel) -> Iterable[Gap]:
    for group in _twins(panel, "known_seed", "eot"):
        known = [o for o in group if o.cell.attack.known_seed]
        others = [o for o in group if not o.cell.attack.known_seed]
        if known and others:
            best = min(others, key=_left)
            yield known[0].left - best.left, _words(known[0], best)


COLUMNS = ("data", "victim", "flag", "rule", "state", "value")


def flag_rows(panels: Sequence[Panel]) -> list[dict[str, object]]:
    """All flags of all victims, for a table."""
    return [
        {"data": p.data, "victim": p.label, "flag": f.name, "rule": f.rule, "state": f.state, "value": f.value}
        for p in panels
        for f in red_flags(p)
    ]

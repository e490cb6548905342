"""How far each rule of the red flags is broken by the attacks of a victim."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from udc_robust.config_file import number
from udc_robust.grid.budget import Budget
from udc_robust.metrics import Metric
from udc_robust.report.panel import Outcome, Panel

Settings = tuple[object, ...]
Gap = tuple[float, str]
"""How far a rule is broken (positive: broken), and the figures in words."""


def _left(outcome: Outcome) -> float:
    """What is left, such that more of it is better."""
    return outcome.quality.better(outcome.left, 0.0)


def _words(a: Outcome, b: Outcome) -> str:
    return f"{a.cell.label} {_text(a)}, {b.cell.label} {_text(b)} at {a.budget}"


def _text(outcome: Outcome) -> str:
    """What an attack leaves, to one digit more than tables have of shares: a flag is a matter of points."""
    metric = outcome.quality
    return f"{outcome.left:.{max(metric.digits, 1)}f} {metric.unit}"


def _attacks(panel: Panel) -> list[Outcome]:
    """Attacks of a limited budget on the figure that all are judged by, which can judge them."""
    return [o for o in panel.outcomes if not o.is_noise and o.budget.limited and aims(o)]


def aims(outcome: Outcome) -> bool:
    """Whether it climbs the figure that it is judged by, and that figure can judge it."""
    return outcome.cell.attack.aims_at(outcome.quality) and not outcome.fools


def _by_budget(outcomes: Iterable[Outcome]) -> list[list[Outcome]]:
    groups: dict[Budget, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.budget, []).append(outcome)
    return list(groups.values())


def _is_gradient(outcome: Outcome) -> bool:
    """Whether the attack follows a gradient of the victim itself."""
    return outcome.sees_victim and not outcome.cell.attack.known_seed


def _against_best(panel: Panel, weaker: Callable[[Outcome], bool]) -> Iterable[Gap]:
    """Attacks that ought to be weaker than the best gradient attack of their budget."""
    for group in _by_budget(_attacks(panel)):
        best = min((o for o in group if _is_gradient(o) and not weaker(o)), key=_left, default=None)
        for other in group:
            if best is not None and weaker(other):
                yield _left(best) - _left(other), _words(other, best)


def single_step(panel: Panel) -> Iterable[Gap]:
    """One step against many."""
    return _against_best(panel, lambda o: o.cell.attack.method == "fgsm")


def queries(panel: Panel) -> Iterable[Gap]:
    """Attacks that only ask against those that follow gradients."""
    return _against_best(panel, lambda o: o.cell.access == "query" and o.cell.attack.method != "brightness")


def transfer(panel: Panel) -> Iterable[Gap]:
    """Attacks made without the defence, or on other networks, against those made on the whole victim."""
    return _against_best(panel, lambda o: o.cell.access in ("blind", "transfer"))


def idle_queries(panel: Panel) -> Iterable[Gap]:
    """What a query attack leaves more than noise of the very norm that it used."""
    for o in _attacks(panel):
        if o.cell.access == "query" and o.cell.attack.method != "brightness" and o.noise_left is not None:
            yield (
                _left(o) - o.quality.better(o.noise_left, 0.0),
                f"{o.cell.label} {_text(o)}, {_noise_text(o)} at {o.budget}",
            )


def noise(panel: Panel) -> Iterable[Gap]:
    """Noise of the run, or what stands beside each attack anyway: noise of the very norm that it used."""
    for group in _by_budget(o for o in panel.outcomes if o.budget.limited):
        best = min((o for o in group if _is_gradient(o) and aims(o)), key=_left, default=None)
        if best is None:
            continue
        for other in group:
            if other.is_noise:
                yield _left(best) - _left(other), _words(other, best)
        beside = best.noise_left
        if beside is not None:
            yield (
                _left(best) - best.quality.better(beside, 0.0),
                f"{_noise_text(best)}, {best.cell.label} {_text(best)} at {best.budget}",
            )


def _noise_text(outcome: Outcome) -> str:
    """What noise leaves, beside an attack."""
    metric = outcome.quality
    return f"noise of its norm {outcome.noise_left:.{max(metric.digits, 1)}f} {metric.unit}"


def brightness(panel: Panel) -> Iterable[Gap]:
    """A constant shift, or a smooth field, against the best gradient attack."""
    return _against_best(panel, lambda o: o.cell.attack.method in ("brightness", "smooth_field"))


def reach(panel: Panel) -> Iterable[Gap]:
    """How much of eps all steps together leave out, of attacks that were told their step size."""
    for outcome in _attacks(panel):
        told = outcome.cell.attack.model_extra or {}
        if "step_size" in told and outcome.cell.attack.method in ("pgd", "ifgsm"):
            eps = outcome.cell.eps
            way = float(told.get("steps", 20)) * float(number(told["step_size"], eps=eps))
            yield 1 - way / eps - 1e-6, f"{outcome.title}: {way / eps:.2f} of eps"


def monotone(panel: Panel) -> Iterable[Gap]:
    """The same attack at a smaller budget against a larger one."""
    for curve in _series(panel, lambda o: o.cell.label):
        rising = sorted(curve, key=lambda o: o.cell.eps)
        for small, large in pairwise(rising):
            here, there = (f"{_text(o)} at {o.budget}" for o in (small, large))
            yield _left(large) - _left(small), f"{small.cell.label}: {here}, {there}"


def _series(panel: Panel, key: Callable[[Outcome], str]) -> list[list[Outcome]]:
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in _attacks(panel):
        groups.setdefault((key(outcome), outcome.cell.attack.norm), []).append(outcome)
    return [group for group in groups.values() if len(group) > 1]


def unbounded(panel: Panel) -> Iterable[Gap]:
    """With the whole range as a budget nothing of an image is left."""
    huge = [o for o in _attacks(panel) if o.cell.attack.norm == "linf" and o.cell.eps >= 64 / 255 and _is_gradient(o)]
    if huge:
        best = min(huge, key=_left)
        yield _left(best), _text(best)


def gradients(panel: Panel) -> Iterable[Gap]:
    """The share of gradients that lead nowhere; a random victim's are counted by answer, EOT to a gradient."""
    for o in panel.outcomes:
        if o.summary["backwards"] and not o.cell.attack.sources:
            gradients = o.summary["backwards"] / o.summary["eot"] * o.summary["images"]
            share = o.summary["bad_gradients"] / gradients
            yield share, f"{100 * share:.1f} % ({o.title})"


def _settings(outcome: Outcome, *but: str) -> Settings:
    """What an attack is, but for some of its settings and its name."""
    block = outcome.cell.attack.model_dump(exclude={"name", "eps", "access", "defences", *but})
    return (outcome.budget, outcome.cell.access, *sorted((key, str(value)) for key, value in block.items()))


def _twins(panel: Panel, *but: str) -> list[Sequence[Outcome]]:
    """Groups of attacks that differ in these settings only."""
    groups: dict[Settings, list[Outcome]] = {}
    for outcome in _attacks(panel):
        groups.setdefault(_settings(outcome, *but), []).append(outcome)
    return [group for group in groups.values() if len(group) > 1]


def steps(panel: Panel) -> Iterable[Gap]:
    """Step sizes may fall as steps grow, so they may differ too."""
    for group in _twins(panel, "steps", "step_size"):
        if group[0].cell.attack.method in ("pgd", "ifgsm"):
            rising = sorted(group, key=lambda o: o.summary["backwards"])
            yield _left(rising[-2]) - _left(rising[-1]), _words(rising[-2], rising[-1])


def eot(panel: Panel) -> Iterable[Gap]:
    """Attacks that differ in the answers a gradient only."""
    for group in _twins(panel, "eot"):
        rising = sorted(group, key=lambda o: o.cell.attack.eot)
        if rising[0].summary["draws"] > 1:
            yield _left(rising[-2]) - _left(rising[-1]), _words(rising[-2], rising[-1])


def seed(panel: Panel) -> Iterable[Gap]:
    """Who was told a random defence's seed against who averages over it."""
    for group in _twins(panel, "known_seed", "eot"):
        known = [o for o in group if o.cell.attack.known_seed]
        others = [o for o in group if not o.cell.attack.known_seed]
        if known and others:
            best = min(others, key=_left)
            yield _left(known[0]) - _left(best), _words(known[0], best)


def fooled(panel: Panel) -> Iterable[Gap]:
    """How much further a backbone that was climbed puts the pictures than one that was not, each by what it rose."""
    learned = [metric for metric in panel.metrics if metric.learned and panel.has(metric)]
    for outcome in panel.outcomes:
        used = [metric for metric in learned if metric.name in outcome.cell.attack.climbs]
        judges = [metric for metric in learned if metric not in used]
        if used and judges:
            rises = {metric.name: _rise(panel, outcome, metric) for metric in learned}
            climbed = max(used, key=lambda metric: rises[metric.name])
            judge = max(judges, key=lambda metric: rises[metric.name])
            told = ", ".join(
                f"{m.title} {m.shown(panel.clean)} to {m.shown(outcome.summary)}" for m in (climbed, judge)
            )
            gap = rises[climbed.name] - 2 * rises[judge.name] - climbed.scale.large
            yield gap, f"{outcome.title}: {told}"


def _rise(panel: Panel, outcome: Outcome, metric: Metric) -> float:
    """By how much an attack makes a figure worse."""
    return metric.better(panel.clean[metric.name], outcome.summary[metric.name])

"""Signs that an attack was too weak to believe the defence, each with its rule and its value.

After Athalye et al. 2018 and Carlini et al. 2019, in the unit of the task's quality. A flag that is not raised proves
nothing; one that is raised says which figures not to trust.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from udc_robust.report import flag_rules as rules
from udc_robust.report.panel import Panel


@dataclass(frozen=True)
class Flag:
    """One check of one victim.

    Attributes:
        name: short name; ``rule``: what raises it.
        value: the worst figure found, in words; empty when it was not measured.
        state: ``raised``, ``clear`` or ``not measured``.
        remedy: a line for ``attacks:`` in the config that mends it, or that measures it.
    """

    name: str
    rule: str
    value: str
    state: str
    remedy: str


@dataclass(frozen=True)
class Check:
    """A rule: what finds its gaps in a panel, and the gap over which the flag is raised."""

    name: str
    rule: str
    find: Callable[[Panel], Iterable[rules.Gap]]
    limit: float
    remedy: str

    def flag(self, panel: Panel) -> Flag:
        """What it says of a victim."""
        gaps = list(self.find(panel))
        if not gaps:
            return Flag(self.name, self.rule, "", "not measured", self.remedy)
        gap, words = max(gaps)
        return Flag(self.name, self.rule, words, "raised" if gap > self.limit else "clear", self.remedy)


def red_flags(panel: Panel) -> list[Flag]:
    """All flags of a victim, from the attacks that its run holds."""
    return [check.flag(panel) for check in _checks(panel)]


def _checks(panel: Panel) -> list[Check]:
    return [
        *_weaker_beats_stronger(panel), *_attack_at_fault(panel), _idle_queries(panel), *_not_converged(panel),
        *_fooled(panel),
    ]  # fmt: skip


def _amount(panel: Panel, size: float) -> str:
    """An amount of quality in words."""
    unit = panel.task.quality.unit
    return f"{size:g} {'points' if unit == '%' else unit}"


def _pgd(panel: Panel, name: str, more: str) -> str:
    """A line of PGD for this victim that climbs what its attacks climb."""
    eot = ", eot: 8" if panel.random else ""
    climbed = next((o.cell.attack for o in panel.outcomes if rules.aims(o)), None)
    if climbed is not None and climbed.objective not in climbed.plain_objectives:
        more += f", objective: {climbed.objective}"
    access = "" if panel.is_bare else ", access: [blind, bpda, surrogate, adaptive]"
    return f"{{method: pgd, name: {name}, steps: 40, {more}{eot}{access}}}"


def _weaker_beats_stronger(panel: Panel) -> list[Check]:
    """Attacks that know or do less and yet do more: the gradient misleads, or was not followed far enough."""
    limit, small = panel.task.quality.scale.small, _amount(panel, panel.task.quality.scale.small)
    longer = _pgd(panel, "pgd longer", "step_size: eps/10")

    def line(method: str, written: str = "") -> str:
        return longer if _has(panel, method) else written or method

    below = f"{small} below the best gradient attack"
    return [
        Check("single step beats many", f"FGSM {small} below PGD", rules.single_step, limit, line("fgsm")),
        Check(
            "queries beat the gradient", f"a query attack {below}", rules.queries, limit,
            line("square", "{method: square, steps: 1000}"),
        ),
        Check(
            "transfer beats white box", f"an attack made without the victim {below}", rules.transfer, limit, longer
        ),
        Check("noise beats white box", "noise of its norm below the best gradient", rules.noise, 0.0, longer),
        Check(
            "brightness beats the gradient", f"a constant shift or smooth field {below}", rules.brightness, limit,
            line("brightness"),
        ),
    ]  # fmt: skip


def _attack_at_fault(panel: Panel) -> list[Check]:
    """Signs that lie in the attack itself."""
    scale = panel.task.quality.scale
    longer = _pgd(panel, "pgd longer", "step_size: eps/10")
    return [
        Check("steps too short", "steps x step_size under eps: the border is out of reach", rules.reach, 0.0, longer),
        Check(
            "not monotone in eps", f"a larger eps leaves {_amount(panel, scale.small)} more", rules.monotone,
            scale.small, longer,
        ),
        *_unbounded(panel),
        Check(
            "dead or broken gradients", "over 1 % of an attack's gradients all zero or not finite", rules.gradients,
            0.01, "{method: square, steps: 1000}",
        ),
    ]  # fmt: skip


def _unbounded(panel: Panel) -> list[Check]:
    metric = panel.task.quality
    nothing = metric.scale.nothing
    if nothing is None:
        return []
    rule = f"{'over' if metric.higher_is_better else 'under'} {nothing:g} {metric.unit} are left at Linf 64/255 or more"
    limit, line = metric.better(nothing, 0.0), _pgd(panel, "pgd 64/255", "eps: 64/255")
    return [Check("an unbounded attack fails", rule, rules.unbounded, limit, line)]


def _idle_queries(panel: Panel) -> Check:
    """A query attack that says nothing: noise does as much. It needs more queries, or other networks to begin with."""
    scale = panel.task.quality.scale
    sources = f", sources: {json.dumps(list(panel.others))}" if panel.others else ""
    return Check(
        "queries do no more than noise", f"a query attack not {_amount(panel, scale.small)} below noise of its norm",
        rules.idle_queries, -scale.small, f"{{method: square, name: square longer, steps: 5000{sources}}}",
    )  # fmt: skip


def _not_converged(panel: Panel) -> list[Check]:
    """More of the same does more."""
    scale = panel.task.quality.scale
    large = _amount(panel, scale.large)
    return [
        Check(
            "still falling with more steps", f"twice the steps take {large} more", rules.steps, scale.large,
            _pgd(panel, "pgd longer", "step_size: eps/10"),
        ),
        Check(
            "still falling with more EOT", f"more answers a gradient take {large} more", rules.eot, scale.large,
            "{method: pgd, name: pgd EOT 16, steps: 20, eot: 16}",
        ),
        Check(
            "known seed weaker than EOT", f"knowing the seed leaves {_amount(panel, scale.small)} more than EOT",
            rules.seed, scale.small, "{method: pgd, name: pgd known seed, steps: 20, known_seed: true}",
        ),
    ]  # fmt: skip


def _fooled(panel: Panel) -> list[Check]:
    """Once for each victim, where a network's opinion is asked."""
    if panel.task.quality in panel.metrics or not any(metric.learned for metric in panel.metrics):
        return []
    rule = "LPIPS rises over twice as far by the backbone that an attack climbed as by one that it did not use"
    both = "{method: pgd, steps: 20, objective: lpips_alex+lpips_squeeze}"
    return [Check("the metric was fooled, not the picture", rule, rules.fooled, 0.0, both)]


def _has(panel: Panel, method: str) -> bool:
    return any(outcome.cell.attack.method == method for outcome in panel.outcomes)


COLUMNS = ("data", "victim", "metric", "flag", "rule", "state", "value", "remedy")


def flag_rows(found: Sequence[tuple[Panel, Sequence[Flag]]]) -> list[dict[str, object]]:
    """All flags of all victims, for a table."""
    return [
        {
            "data": panel.data, "victim": panel.label, "metric": panel.task.quality.name, "flag": flag.name,
            "rule": flag.rule, "state": flag.state, "value": flag.value,
            "remedy": flag.remedy if flag.state != "clear" else "",
        }
        for panel, flags in found
        for flag in flags
    ]  # fmt: skip

"""Signs that an attack was too weak to believe the defence, each with its rule and its value.

After Athalye et al. 2018 and Carlini et al. 2019, in the unit of the task's quality. A flag that is not raised proves
nothing; one that is raised says which figures not to trust.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from udc_robust.report import flag_rules as rules
from udc_robust.report.run_folder import Panel


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
    scale, unit = panel.task.scale, {"%": "points"}.get(panel.task.quality.unit, panel.task.quality.unit)
    small, large = (f"{size:g} {unit}" for size in (scale.small, scale.large))
    behind = "" if panel.is_bare else ", access: [blind, bpda, surrogate, adaptive]"
    eot = ", eot: 8" if panel.random else ""
    longer = f"{{method: pgd, name: pgd longer, steps: 40, step_size: eps/10{eot}{behind}}}"
    queries = "{method: square, steps: 1000}"
    return [
        Check(
            "single step beats many",
            f"FGSM {small} below PGD",
            rules.single_step,
            scale.small,
            longer if _has(panel, "fgsm") else "fgsm",
        ),
        Check(
            "queries beat the gradient",
            f"a query attack {small} below the best gradient attack",
            rules.queries,
            scale.small,
            longer if _has(panel, "square") else queries,
        ),
        Check(
            "transfer beats white box",
            f"the blind attack {small} below the best other",
            rules.transfer,
            scale.small,
            longer,
        ),
        Check(
            "noise beats white box", "noise of its own norm below the best gradient attack", rules.noise, 0.0, longer
        ),
        Check(
            "brightness beats the gradient",
            f"a constant shift {small} below the best gradient attack",
            rules.brightness,
            scale.small,
            longer if _has(panel, "brightness") else "brightness",
        ),
        Check(
            "steps too short",
            "steps x step_size under eps: the ball's border is out of reach",
            rules.reach,
            0.0,
            longer,
        ),
        Check("not monotone in eps", f"a larger eps leaves {small} more", rules.monotone, scale.small, longer),
        Check(
            "an unbounded attack fails",
            f"over {scale.nothing:g} {panel.task.quality.unit} are left at Linf 64/255 or more",
            rules.unbounded,
            scale.nothing,
            f"{{method: pgd, name: pgd 64/255, steps: 40, eps: 64/255{eot}{behind}}}",
        ),
        Check(
            "dead or broken gradients",
            "over 1 % of an attack's gradients all zero or not finite",
            rules.gradients,
            0.01,
            queries,
        ),
        Check("still falling with more steps", f"twice the steps take {large} more", rules.steps, scale.large, longer),
        Check(
            "still falling with more EOT",
            f"more answers a gradient take {large} more",
            rules.eot,
            scale.large,
            "{method: pgd, name: pgd EOT 16, steps: 20, eot: 16}",
        ),
        Check(
            "known seed weaker than EOT",
            f"knowing the seed leaves {small} more than EOT",
            rules.seed,
            scale.small,
            "{method: pgd, name: pgd known seed, steps: 20, known_seed: true}",
        ),
    ]


def _has(panel: Panel, method: str) -> bool:
    return any(outcome.cell.attack.method == method for outcome in panel.outcomes)


COLUMNS = ("data", "victim", "flag", "rule", "state", "value", "remedy")


def flag_rows(panels: Sequence[Panel]) -> list[dict[str, object]]:
    """All flags of all victims, for a table."""
    return [
        {
            "data": p.data,
            "victim": p.label,
            "flag": f.name,
            "rule": f.rule,
            "state": f.state,
            "value": f.value,
            "remedy": f.remedy if f.state != "clear" else "",
        }
        for p in panels
        for f in red_flags(p)
    ]

"""Made on what, judged on what: what attacks on sources leave of each victim, beside its white box and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from udc_robust.grid.attack_schema import AttackConfig
from udc_robust.grid.budget import Budget, rising
from udc_robust.grid.sources import made_on
from udc_robust.report.flag_rules import aims
from udc_robust.report.panel import Outcome, Panel


@dataclass(frozen=True)
class Left:
    """What is left of a victim.

    Attributes:
        white_box: whether its own gradient was followed: of a network that is the source, no transfer is made.
        without: whether its own network was left out of the sources.
    """

    quality: float
    white_box: bool = False
    without: bool = False


@dataclass(frozen=True)
class Transfer:
    """The matrix of one data block at one budget.

    Attributes:
        victims: the columns.
        rows: each attack on sources, with a place for every victim; None where it met none.
        white_box, noise: what each victim's strongest gradient attack leaves of it, and noise of the budget.
    """

    data: str
    budget: Budget
    victims: Sequence[Panel]
    rows: Sequence[tuple[str, list[Left | None]]]
    white_box: list[Left | None]
    noise: list[Left | None]


def transfers(panels: Sequence[Panel]) -> list[Transfer]:
    """A matrix for each data block and budget at which attacks were made on sources."""
    made = []
    for data in dict.fromkeys(panel.data for panel in panels):
        victims = [panel for panel in panels if panel.data == data]
        for budget in rising(o.budget for panel in victims for o in panel.outcomes if _is_transfer(o)):
            attacks = _in_order([[o.cell.attack for o in _of(p, budget) if _is_transfer(o)] for p in victims])
            rows = [(attack.label, [_left(panel, budget, attack) for panel in victims]) for attack in attacks]
            white, noise = ([find(panel, budget) for panel in victims] for find in (_white_box, _noise))
            made.append(Transfer(data, budget, victims, rows, white, noise))
    return made


def _in_order(lists: Sequence[Sequence[AttackConfig]]) -> list[AttackConfig]:
    """All attacks in the order of the config, which each victim's own follow; every one may lack some."""
    found: list[AttackConfig] = []
    for attacks in lists:
        place = 0
        for attack in attacks:
            if attack not in found:
                found.insert(place, attack)
            place = found.index(attack) + 1
    return found


def _is_transfer(outcome: Outcome) -> bool:
    return outcome.cell.access == "transfer"


def _of(panel: Panel, budget: Budget) -> list[Outcome]:
    return [outcome for outcome in panel.outcomes if outcome.budget == budget]


def _left(panel: Panel, budget: Budget, attack: AttackConfig) -> Left | None:
    """Of a victim by an attack on sources; by its white box where its network is the only source."""
    for outcome in _of(panel, budget):
        if outcome.cell.attack == attack:
            named = [source.name for source in attack.sources or []]
            return Left(outcome.left, without=outcome.rows[0]["exactness"] != made_on(named))
    meant = attack.defences is None or panel.defence in attack.defences
    return _white_box(panel, budget) if meant else None


def _white_box(panel: Panel, budget: Budget) -> Left | None:
    seen = [o for o in _of(panel, budget) if o.sees_victim and o.counts and aims(o)]
    worst = min(seen, key=lambda o: o.quality.better(o.left, 0.0), default=None)
    return None if worst is None else Left(worst.left, white_box=True)


def _noise(panel: Panel, budget: Budget) -> Left | None:
    """Noise of the run, or of the norm of what stands in the matrix."""
    here = _of(panel, budget)
    told = [o.left for o in here if o.is_noise] + [o.noise_left for o in here if _is_transfer(o)]
    return next((Left(left) for left in told if left is not None), None)


def columns(found: Sequence[Transfer]) -> list[str]:
    """The columns of `rows`."""
    victims = dict.fromkeys(panel.label for table in found for panel in table.victims)
    return ["data", "norm", "eps", "made_on", *victims]


def rows(found: Sequence[Transfer]) -> list[dict[str, object]]:
    """A row for each attack on sources, and for white box and noise, a column for each victim."""
    return [
        {
            "data": table.data, "norm": table.budget.norm, "eps": table.budget.eps, "made_on": name,
            **{p.label: left and left.quality for p, left in zip(table.victims, places, strict=True)},
        }
        for table in found
        for name, places in [*table.rows, ("white box", table.white_box), ("noise", table.noise)]
    ]  # fmt: skip

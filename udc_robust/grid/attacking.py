"""Attacking one batch in one cell, and judging the attack on the victim as it is deployed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from udc_robust.attacks import Objective, Result, Sources, Streams, answers, attack, frozen, rejudged
from udc_robust.attacks import Victim as Answering
from udc_robust.grid.cells import Cell
from udc_robust.grid.images import Batch
from udc_robust.grid.task import Task
from udc_robust.grid.victims import Victim


class Asked(NamedTuple):
    """What is left of an image of a batch after so many queries."""

    row: int
    queries: int
    quality: float


@dataclass(frozen=True)
class Judged:
    """A batch before a victim, unattacked or attacked.

    Attributes:
        cell: the attack; None: unattacked.
        inputs: ``(B,3,H,W)`` what the victim was shown.
        outputs: ``(draws,B,...)`` its answers. ``clean``: those to the unattacked images.
        noise: its answers to random noise of each image's own attack norm; None: unattacked.
        result: what the attack cost and reached; None: unattacked.
        curve: quality on the way of an attack that asks, see `quality_by_queries`.
    """

    batch: Batch
    victim: Victim
    cell: Cell | None
    inputs: Tensor
    outputs: Tensor
    clean: Tensor
    noise: Tensor | None
    result: Result | None
    curve: Sequence[Asked] = ()


def unattacked(batch: Batch, victim: Victim) -> Judged:
    """A batch as it is."""
    clean = batch.clean_answers(victim)
    return Judged(batch, victim, None, batch.x, clean, clean, None, None)


def attacked(task: Task, batch: Batch, victim: Victim, cell: Cell, round_8_bit: bool) -> Judged:
    """A batch after the attack of a cell."""
    result = _judged(task, batch, victim, cell, round_8_bit)
    outputs = result.adv_outputs
    noise = outputs if cell.access == "none" else _noise(batch, victim, cell, result)
    clean = batch.clean_answers(victim)[: len(outputs)]
    curve = quality_by_queries(task, batch, victim, result)
    return Judged(batch, victim, cell, result.x_adv, outputs, clean, noise, result, curve)


@torch.no_grad()
def quality_by_queries(task: Task, batch: Batch, victim: Victim, result: Result) -> list[Asked]:
    """The task's quality after some numbers of queries and after the last, judged as the final images are.

    Nothing for an attack that asks too little for a curve, or follows gradients.
    """
    if not result.milestones:
        return []
    deployed = batch.met_by(victim.deployed)
    clean, draws, seeds = batch.clean_answers(victim), len(result.adv_outputs), batch.seeds("judge")
    found = []
    with frozen(deployed):
        for queries, x, reached in result.milestones:
            quality = task.score(answers(deployed, x, seeds, draws), batch, clean[:draws]).mean(0)
            on_the_way = (reached & (result.meter.queries > queries)).nonzero()[:, 0].tolist()
            found += [Asked(row, queries, float(quality[row])) for row in on_the_way]
    last = task.score(result.adv_outputs, batch, clean[:draws]).mean(0)
    asked = enumerate(result.meter.queries.tolist())
    return found + [Asked(row, queries, float(last[row])) for row, queries in asked]


def _judged(task: Task, batch: Batch, victim: Victim, cell: Cell, round_8_bit: bool) -> Result:
    """The attack of a cell, judged; its images are kept where other cells may begin at them."""
    result = _made_and_judged(task, batch, victim, cell, round_8_bit)
    if cell.attack.warm or cell.access == "transfer":
        batch.starts[victim.label, cell.key] = result.x_adv
    return result


def _start(task: Task, batch: Batch, victim: Victim, cell: Cell, round_8_bit: bool) -> Tensor | None:
    """Where an attack begins that begins at another's change, scaled to its budget; None: by itself.

    A run that goes on after a kill has the other's rows and not its images: it is made again, the same.
    """
    start = cell.start
    if start is None:
        return None
    if (victim.label, start.key) not in batch.starts:
        _judged(task, batch, victim, start, round_8_bit)
    return batch.x + (batch.starts[victim.label, start.key] - batch.x) * (cell.eps / start.eps if start.eps else 1)


def _made_and_judged(task: Task, batch: Batch, victim: Victim, cell: Cell, round_8_bit: bool) -> Result:
    """Make the attack that the cell's access allows, and judge it on the victim as deployed."""
    threat, deployed = batch.threat(cell.attack.norm, cell.eps), batch.met_by(victim.deployed)
    clean, judge = batch.clean_answers(victim), batch.seeds("judge")
    objective, target = task.goal(cell.attack, batch, clean)

    behind = [batch.met_by(source, plainly=True) for source in cell.sources]
    sources = Sources.of(behind, objective, target) if behind else None

    def made(seen: Answering, goal: Objective = objective, target: Tensor | None = target, **judging: Any) -> Result:
        return attack(
            seen, batch.x, goal, threat, cell.attack.chosen, target=target, seeds=batch.seeds(cell.seed_key),
            judge_seeds=judge, eot=cell.attack.eot, known_seed=cell.attack.known_seed, round_8_bit=round_8_bit,
            start=_start(task, batch, victim, cell, round_8_bit), **judging, **cell.attack.options_at(cell.eps),
        )  # fmt: skip

    seen = task.known(cell.attack, victim.network)
    # What is climbed towards may be made of this victim's own answer: then another victim's images are not its own.
    own = "" if target is None or target is batch.target else hashlib.sha256(target.cpu().numpy().tobytes()).hexdigest()
    known = ("+".join(source.name for source in cell.sources) or seen.name, cell.seed_key + own)
    if cell.access == "blind" or (seen is not victim.network and cell.access != "transfer"):
        if known not in batch.bare:
            batch.bare[known] = made(batch.met_by(seen), sources=None if cell.access == "blind" else sources)
        result = batch.bare[known]
    elif cell.access == "transfer":
        assert sources is not None
        if known not in batch.bare:
            batch.bare[known] = made(sources.ensemble, sources.objective, sources.target)
            batch.bare[known].meter.queries.zero_()  # nobody asked the victim
        result = batch.bare[known]
    elif cell.jitter:
        result = made(batch.met_by(victim.seen(cell)))  # as the attacker saw it, in noise
    else:
        met = batch.met_by(victim.seen(cell))
        result = made(met, draws=batch.draws, clean_outputs=clean, sources=sources)
        if victim.defence is None:
            batch.bare[known] = result
        return result
    return rejudged(result, deployed, objective, target=target, judge_seeds=judge, clean_outputs=clean)


@torch.no_grad()
def _noise(batch: Batch, victim: Victim, cell: Cell, result: Result) -> Tensor:
    """Answers to noise of each image's own attack norm: what is not adversarial about its damage."""
    norm = cell.attack.norm
    distances = batch.threat(norm, cell.eps).distance(batch.x, result.x_adv)
    seeds = [seed + 1 for seed in batch.seeds(cell.seed_key)]
    noisy = [
        batch.threat(norm, float(distance)).noise(batch.x[i : i + 1], Streams([seeds[i]]))
        for i, distance in enumerate(distances)
    ]
    deployed = batch.met_by(victim.deployed)
    with frozen(deployed):
        return answers(deployed, torch.cat(noisy), batch.seeds("judge"), len(result.adv_outputs))

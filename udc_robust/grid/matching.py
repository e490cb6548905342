"""Fair rivals: the strength of a control is tuned to the clean quality that a defence leaves, on validation images.

A control that costs as much as the defence and holds as well makes the defence worthless, whatever its figures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from udc_robust.attacks import answers, frozen, image_seed
from udc_robust.defences.config import DefenceConfig
from udc_robust.defences.defence import Defended
from udc_robust.defences.registry import build_defence, find_kind
from udc_robust.errors import UserError
from udc_robust.files import read_text, write_text
from udc_robust.grid.images import Batch, Images
from udc_robust.grid.network import Network
from udc_robust.grid.plan import Networks
from udc_robust.grid.schema import RunConfig
from udc_robust.grid.task import Task
from udc_robust.grid.victims import victim_label
from udc_robust.progress import progress

MATCHED = "matched.json"
_DRAWS, _HALVINGS = 2, 10


def tune(task: Task, config: RunConfig, networks: Networks, out: Path) -> dict[str, dict[str, Any]]:
    """Find the strengths of all defences with ``match``; what was found is kept in ``matched.json``.

    Returns:
        By victim label: the tuned option, and under ``facts`` the clean quality found and the one wanted.

    Raises:
        UserError: the validation images are of another colour domain, or have no targets.
    """
    wanted = [block for block in config.defences if block.match is not None]
    if not wanted:
        return {}
    pairs = [(block, n.name) for n in config.networks for block in wanted if n.name in (block.networks or [n.name])]
    path = out / MATCHED
    if (kept := _kept(path, [victim_label(name, block.label) for block, name in pairs])) is not None:
        return kept
    images = task.open(config.validation)
    if images.domain not in networks:
        raise UserError(f"validation images are {images.domain}, the data is not: use images of one domain")
    by_label = {block.label: block for block in config.defences}
    found: dict[str, dict[str, Any]] = {}
    goals: dict[tuple[str, str], float] = {}
    with progress("tuning controls", len(pairs)) as tick:
        for block, name in pairs:
            network = networks[images.domain][name]
            if (name, block.match) not in goals:
                goals[name, block.match] = clean_quality(task, config, network, by_label[block.match], {}, images)
            found[victim_label(name, block.label)] = _tuned(
                task, config, network, block, images, goals[name, block.match]
            )
            tick(f"{block.label} + {name}")
    write_text(path, json.dumps(found, indent=1))
    return found


def _kept(path: Path, labels: list[str]) -> dict[str, dict[str, Any]] | None:
    """What was found before, if it is whole."""
    try:
        kept = json.loads(read_text(path))
        whole = set(kept) == set(labels) and all(len(kept[label]) == 2 and kept[label]["facts"] for label in labels)
        return kept if whole else None
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None


def _tuned(
    task: Task, config: RunConfig, network: Network, block: DefenceConfig, images: Images, goal: float
) -> dict[str, Any]:
    strength = find_kind(block.kind).strength
    if strength is None:
        raise UserError(f"defence {block.label!r}: a {block.kind} has no strength to tune; leave out `match`")

    def measured(value: float) -> float:
        return clean_quality(task, config, network, block, {strength.option: value}, images)

    value, reached = bisect(measured, goal, strength.weakest, strength.strongest, whole=strength.whole)
    return {strength.option: value, "facts": {"clean": reached, "wanted": goal}}


def bisect(
    measured: Callable[[float], float], goal: float, weakest: float, strongest: float, *, whole: bool
) -> tuple[float, float]:
    """The strength whose clean quality is nearest to the goal, and that quality.

    Quality falls from ``weakest`` to ``strongest``. Where even the weakest falls below the goal, or the strongest stays
    above it, the end is the answer: the table then says how far its clean quality is off.
    """
    cast: Callable[[float], float] = round if whole else float
    known = {end: measured(end) for end in (cast(weakest), cast(strongest))}
    near, far = cast(weakest), cast(strongest)
    if known[near] > goal > known[far]:
        for _ in range(_HALVINGS):
            middle = cast((near + far) / 2)
            if middle in (near, far):
                break
            known[middle] = measured(middle)
            near, far = (middle, far) if known[middle] > goal else (near, middle)
    best = min(known, key=lambda value: abs(known[value] - goal))
    return best, known[best]


@torch.no_grad()
def clean_quality(
    task: Task, config: RunConfig, network: Network, block: DefenceConfig, options: Mapping[str, Any], images: Images
) -> float:
    """Mean quality of unattacked images behind a defence; the same draws for every defence.

    Raises:
        UserError: an image has no target.
    """
    victim = Defended(build_defence(block.kind, {**block.options, **options}), network).to(config.device)
    found: list[Tensor] = []
    with frozen(victim):
        for index, key in enumerate(images.keys):
            batch = Batch.load(images, [index], config.device, config.seed, _DRAWS)
            if batch.target is None:
                raise UserError(f"validation image {key} has no ground truth: tuning needs pairs")
            outputs = answers(victim, batch.x, [image_seed(config.seed, key, "tuning")], _DRAWS)
            found += list(task.score(outputs, batch, outputs))
    return float(torch.cat(found).mean())

"""Fair rivals: the strength of a control is tuned to the clean PSNR that a defence leaves, on validation images.

A control that costs as much as the defence and holds as well makes the defence worthless, whatever its figures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from udc_robust.attacks import answers, frozen, image_seed
from udc_robust.config import DefenceConfig, EvaluateConfig
from udc_robust.defences.defence import Defended
from udc_robust.defences.registry import KINDS, build_defence
from udc_robust.errors import UserError
from udc_robust.evaluation.inputs import Inputs, open_inputs
from udc_robust.evaluation.scores import for_metrics
from udc_robust.evaluation.victims import victim_label
from udc_robust.files import write_text
from udc_robust.metrics import psnr
from udc_robust.progress import progress
from udc_robust.restorers.zoo import Restorer

_DRAWS, _HALVINGS = 2, 10


def tune(config: EvaluateConfig, restorers: Mapping[tuple[str, str], Restorer], out: Path) -> dict[str, dict[str, Any]]:
    """Find the strengths of all defences with ``match``; what was found is kept in ``matched.json``.

    Returns:
        By victim label: the tuned option, and under ``facts`` the clean PSNR found and the one wanted, in dB.

    Raises:
        UserError: the validation images have no ground truth.
    """
    wanted = [block for block in config.defences if block.match is not None]
    path = out / "matched.json"
    if not wanted:
        return {}
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    assert config.validation is not None
    images = open_inputs(config.validation)
    by_label = {block.label: block for block in config.defences}
    pairs = [(block, r) for r in config.restorers for block in wanted if r.name in (block.restorers or [r.name])]
    found: dict[str, dict[str, Any]] = {}
    goals: dict[tuple[str, str], float] = {}
    with progress("tuning controls", len(pairs)) as tick:
        for block, named in pairs:
            assert block.match is not None
            restorer = restorers.get((named.name, images.domain))
            if restorer is None:
                raise UserError(f"validation images are {images.domain}, the data is not: use images of one domain")
            goal = goals.get((named.name, block.match))
            if goal is None:
                goal = clean_psnr(restorer, by_label[block.match], {}, images, config)
                goals[named.name, block.match] = goal
            found[victim_label(named.name, block.label)] = _tuned(config, block, restorer, images, goal)
            tick(f"{block.label} + {named.name}")
    write_text(path, json.dumps(found, indent=1))
    return found


def _tuned(
    config: EvaluateConfig, block: DefenceConfig, restorer: Restorer, images: Inputs, goal: float
) -> dict[str, Any]:
    strength = KINDS[block.kind].strength
    if strength is None:
        raise UserError(f"defence {block.label!r}: a {block.kind} has no strength to tune; leave out `match`")

    def measured(value: float) -> float:
        return clean_psnr(restorer, block, {strength.option: value}, images, config)

    value, reached = bisect(measured, goal, strength.weakest, strength.strongest, whole=strength.whole)
    return {strength.option: value, "facts": {"clean_psnr": reached, "wanted": goal}}


def bisect(
    measured: Callable[[float], float], goal: float, weakest: float, strongest: float, *, whole: bool
) -> tuple[float, float]:
    """The strength whose clean PSNR is nearest to the goal, and that PSNR.

    PSNR falls from ``weakest`` to ``strongest``. Where even the weakest falls below the goal, or the strongest stays
    above it, the end is the answer: the table then says how far its clean PSNR is off.
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
def clean_psnr(
    restorer: nn.Module, block: DefenceConfig, options: Mapping[str, Any], images: Inputs, config: EvaluateConfig
) -> float:
    """Mean PSNR in dB of unattacked images restored behind a defence; the same draws for every defence.

    Raises:
        UserError: an image has no ground truth.
    """
    victim = Defended(build_defence(block.kind, {**block.options, **options}), restorer).to(config.device)
    found: list[Tensor] = []
    with frozen(victim):
        for index, key in enumerate(images.keys):
            sample = images.load(index)
            if sample.gt is None:
                raise UserError(f"validation image {key} has no ground truth: tuning needs pairs")
            lq, gt = (image[None].to(config.device) for image in (sample.lq, sample.gt))
            outputs = answers(victim, lq, [image_seed(config.seed, key, "tuning")], _DRAWS)
            reference = for_metrics(gt, images.domain).double()
            found += [psnr(for_metrics(output, images.domain).double(), reference) for output in outputs]
    return float(torch.cat(found).mean())


def options_only(tuned: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What was tuned, without the facts about it."""
    return {label: {k: v for k, v in found.items() if k != "facts"} for label, found in tuned.items()}

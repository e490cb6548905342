"""Restoration as a task of the grid: pairs of captures and truths, restorers, and the figures of an image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from udc_robust.attacks import Objective, Towards
from udc_robust.attacks.channels import CHANNELS
from udc_robust.attacks.objectives import DISTANCES, OwnTruth
from udc_robust.errors import UserError
from udc_robust.grid.attack_schema import AttackConfig
from udc_robust.grid.attacking import Judged
from udc_robust.grid.images import Batch
from udc_robust.grid.named import find_objective
from udc_robust.grid.schema import RunConfig
from udc_robust.grid.tables import SEEN
from udc_robust.grid.task import Pictures, Task
from udc_robust.metrics import LpipsUnavailable, Metric, records
from udc_robust.names import PERCEPTUAL
from udc_robust.optics.domains import for_eyes, for_metrics
from udc_robust.progress import console, note
from udc_robust.restorers.zoo import Restorer, RestorerSpec, load_restorer, parent_of_shipped
from udc_robust.tasks import restoration_tables as tables
from udc_robust.tasks import restoration_words as words
from udc_robust.tasks.restoration_images import cropped as cropped
from udc_robust.tasks.restoration_images import open_images as open_images
from udc_robust.tasks.restoration_scenes import FIGURES as SCENE_FIGURES
from udc_robust.tasks.restoration_scenes import survival, told_apart
from udc_robust.tasks.restoration_schema import RestorationAttack, RestorationConfig
from udc_robust.tasks.restoration_targets import check_wanted, wanted


def load_restorers(config: RestorationConfig, domain: str) -> dict[str, Restorer]:
    """Every restorer by name, for images of one domain, each with the run's detectors beside it."""
    found = {
        block.name: load_restorer(RestorerSpec(**block.model_dump()), domain, config.device, config.seed).in_tiles(
            config.tile, config.overlap
        )
        for block in config.restorers
    }
    if config.detectors:
        from udc_robust.tasks.watching import watch  # detectors load much that other runs need not

        watch(found, config, open_images, domain)
    return found


def metrics_of(config: RestorationConfig) -> tuple[list[Metric], str]:
    """The figures beside PSNR, and why LPIPS is not among them.

    Raises:
        UserError: an attack climbs LPIPS, whose weights cannot be had.
    """
    found = [records.SSIM, records.MS_SSIM, records.GMSD]
    needed = {name for attack in config.attacks for name in (*attack.climbs, attack.norm)}
    for backbone, record in records.LPIPS.items():
        if record.name in needed:
            try:
                records.lpips(backbone, config.device)
            except LpipsUnavailable as error:
                mend = f"`udc-robust doctor --fix-lpips {backbone}` gets them"
                raise UserError(f"an attack on LPIPS needs its weights: {error}: {mend}") from error
    reasons = [] if config.lpips else ["not asked for (lpips: null)"]
    for backbone in config.lpips:
        try:
            found.append(records.lpips(backbone, config.device))
        except LpipsUnavailable as error:
            reasons.append(str(error).replace(str(Path.home()), "~"))  # reports travel; a user's folders need not
            console.print(f"{reasons[-1]}; its column is left out", style="yellow", soft_wrap=True)
    return found, "; ".join(reasons)


def check(config: RunConfig, batch: Batch, network: Restorer, answer: Tensor) -> None:
    """Refuse attacks on a ground truth that is not there, and those that do not know scenes or RAW planes.

    What tiles change is measured too.

    Raises:
        UserError: see above.
    """
    if network.tiles and network.tiles.needed(batch.x) and not network.tiles_told:
        network.compare_tiles(batch.x)
        note(f"network {network.name}: {network.tiles_told}")
    for attack in config.attacks:
        if batch.images.facts.get("space") == "scene" and attack.norm in PERCEPTUAL:
            raise UserError(
                f"attack {attack.label!r} has a budget in {attack.norm}, which data {batch.images.label!r} does not "
                "know, because budgets live in its scenes: use norm linf or l2, or `space: capture`"
            )
        if network.domain == "raw" and attack.options_at(1.0).get("channel", "blur") not in CHANNELS:
            raise UserError(
                f"attack {attack.label!r} is a learnt channel, which takes pictures, not RAW planes: "
                f"set `develop: true` of the data, or take {', '.join(CHANNELS)}"
            )
        if attack.objective == "towards":
            check_wanted(attack, batch)
        if attack.against == "gt" and batch.target is None:
            raise UserError(
                f"attack {attack.label!r} is against gt, but data {batch.images.label!r} has no ground truth: "
                "use `against: clean`"
            )


def against(attack: AttackConfig, batch: Batch) -> str:
    """What the objective measures distance from: ``gt``, ``clean`` or ``target``."""
    assert isinstance(attack, RestorationAttack)
    if attack.objective == "towards":
        return "target"
    return attack.against or ("clean" if batch.target is None else "gt")


def goal(attack: AttackConfig, batch: Batch, clean: Tensor) -> tuple[Objective, Tensor | None]:
    """The distance to make large (small: ``towards``), and from what (None: the victim's own clean answer)."""
    assert isinstance(attack, RestorationAttack)
    if attack.objective == "towards":
        objective: Any = Towards(attack.detail, attack.drop_db)
        target: Tensor | None = wanted(attack, told_apart(clean, batch, clean)[0])
    else:
        objective = find_objective(attack.objective, DISTANCES)(drop_db=attack.drop_db)
        target = batch.target if against(attack, batch) == "gt" else None
    if batch.images.space is None:
        return objective, target
    # The truth changes with the scene; the pictures that stand still fill both halves of a target.
    return OwnTruth(objective, against(attack, batch) == "gt"), None if target is None else target.repeat(1, 2, 1, 1)


def reference(batch: Batch, clean: Tensor) -> Tensor:
    """What quality is measured against: ground truths, or the mean of the clean restorations ``(draws,B,3,H,W)``."""
    return for_metrics(clean, batch.domain).mean(0) if batch.target is None else for_metrics(batch.target, batch.domain)


def score(outputs: Tensor, batch: Batch, clean: Tensor) -> Tensor:
    """PSNR ``(draws,B)`` in dB."""
    return _psnr(*_judged_by(outputs, batch, clean))


def _judged_by(outputs: Tensor, batch: Batch, clean: Tensor) -> tuple[Tensor, Tensor]:
    """Restorations ``(draws,B,3,H,W)`` and what they are measured against, as metrics see them."""
    if batch.images.space is not None:
        return told_apart(outputs, batch, outputs)
    return for_metrics(outputs, batch.domain), reference(batch, clean)


def _psnr(outputs: Tensor, target: Tensor) -> Tensor:
    return records.PSNR.draws(outputs.double(), target.double())


def figures(judged: Judged, metrics: Sequence[Metric]) -> dict[str, list[Any]]:
    """Quality of each image's restoration, before, after and under noise, the mean over a random victim's draws.

    ``psnr_worst_draw`` is the worst of the draws (the attacker may submit again), ``psnr_average`` the PSNR of the
    average of the restored images (the defender may average), ``psnr_draw_std`` the spread; for one draw they are
    the PSNR itself, itself, and 0.
    """
    batch, domain = judged.batch, judged.batch.domain
    outputs, target = _judged_by(judged.outputs, batch, judged.clean)
    clean, of_clean = _judged_by(judged.clean, batch, judged.clean)
    x = for_metrics(batch.captures(batch.x), domain)
    # Without a ground truth the only answer to the image as it is is the reference itself.
    itself = judged.outputs is judged.clean and batch.target is None and len(outputs) == 1
    psnrs = torch.full(outputs.shape[:2], math.inf, dtype=torch.float64) if itself else _psnr(outputs, target)
    own = target.ndim == outputs.ndim  # of scenes: each photograph has a truth of its own
    average = target.mean(0) if own else target
    found: dict[str, list[Any]] = {
        "psnr": psnrs.mean(0).tolist(),
        "psnr_worst_draw": psnrs.amin(0).tolist(),
        "psnr_average": (_psnr(outputs.mean(0)[None], average) if len(outputs) > 1 else psnrs)[0].tolist(),
        "psnr_draw_std": (psnrs.std(0, correction=0) if len(psnrs) > 1 else torch.zeros_like(psnrs[0])).tolist(),
        "psnr_input": _psnr(x[None], of_clean[:1] if own else of_clean)[0].tolist(),
    }
    seen = [(for_eyes(y, domain) if domain == "raw" else y).double() for y in (outputs, target)]  # they are of colours
    for metric in metrics:
        enough = min(x.shape[-2:]) >= metric.smallest_side and not itself
        found[metric.name] = metric.draws(*seen).mean(0).tolist() if enough else [None] * len(x)
    for name, watcher in getattr(judged.victim.network, "watchers", {}).items():
        found[f"{SEEN}{name}"] = watcher(batch.captures(judged.inputs))
    if judged.result is None or judged.noise is None:
        return found | {"psnr_clean": found["psnr"]}
    space = batch.images.space
    shown = [for_metrics(y, domain) if space is None else space.toned(y) for y in (judged.inputs, batch.x)]
    return (
        found
        | survival(judged, outputs, of_clean)
        | {
            "psnr_clean": _psnr(clean, of_clean).mean(0).tolist(),
            "psnr_noise": _psnr(*_judged_by(judged.noise, batch, judged.clean)).mean(0).tolist(),
            "psnr_to_clean_output": _psnr(outputs, clean).mean(0).tolist(),
            "psnr_of_attacked_input": _psnr(shown[0][None], shown[1])[0].tolist(),
            "against": [against(judged.cell.attack, batch)] * len(x) if judged.cell else [],
        }
    )


def describe(batch: Batch, row: int) -> dict[str, Any]:
    """Size of an image, and what it is measured against."""
    channels, height, width = batch.x.shape[1:]
    size = {"height": height, "width": width, "channels": channels}
    return size | {"reference": "clean" if batch.target is None else "gt"}


def pictures(judged: Judged) -> dict[str, Tensor]:
    """Restorations, and ground truths where there are any; of scenes the captures, and the truth of each photograph."""
    domain, target = judged.batch.domain, judged.batch.target
    if judged.batch.images.space is not None:
        restored, truth = told_apart(judged.outputs, judged.batch, judged.outputs)
        return {"output": restored[0], "capture": judged.batch.captures(judged.inputs), "truth": truth[0]}
    found = {"output": for_eyes(judged.outputs[0], domain)}
    return found if target is None or judged.cell else found | {"gt": for_eyes(target, domain)}


def facts(restorer: Restorer) -> dict[str, Any]:
    """What run.json says of a restorer: its weights, what it was fine-tuned from, and the domain it works in."""
    return {
        "parent": restorer.parent, "parent_sha256": restorer.parent_sha256, "domain": restorer.network_domain,
        "sha256": restorer.sha256,
        **({"ancestors": restorer.ancestors} if restorer.ancestors else {}),
        **({"told": restorer.tiles_told} if restorer.tiles_told else {}),
        **({"channel": restorer.channel} if restorer.channel else {}),
    }  # fmt: skip


def family(networks: Mapping[str, Any]) -> dict[str, str]:
    """Fine-tuned restorers are compared with the first of their line that the run has.

    They know their parents by name or by a digest of the weights, and so the parents' own; one that ships is asked.
    """
    by_digest = {facts["sha256"]: name for name, facts in networks.items() if facts.get("sha256")}

    def line(name: str) -> list[str]:
        if name not in networks:
            return [parent_of_shipped(name) or name]
        facts = networks[name]
        known = {facts.get("parent_sha256"): facts.get("parent") or name, **facts.get("ancestors", {})}
        return [by_digest.get(digest, older) for digest, older in known.items()]

    def first(name: str) -> str:
        whole = [name]
        for one in whole:  # grows as it goes
            whole += [older for older in line(one) if older not in whole]
        return next(one for one in reversed(whole) if one in networks)

    return {name: first(name) for name in networks}


RESTORATION = Task(
    name="restoration", schema=RestorationConfig, network="restorer", quality=records.PSNR, few_images=20,
    names=tables.NAMES, results=tables.RESULT_COLUMNS, summary=tables.SUMMARY_COLUMNS, also=SCENE_FIGURES,
    open=open_images, load=load_restorers, metrics=metrics_of, check=check, goal=goal, score=score, figures=figures,
    describe=describe, summarise=tables.summarise, pictures=pictures, facts=facts, family=family,
    shown=Pictures("output", "restoration"), kicker="Robustness of under-display camera restoration",
    headline=words.headline, verdict=words.verdict, tiles=words.tiles, columns=words.columns, notes=words.notes,
    answer=words.answer, glossary=words.GLOSSARY, footnotes=words.footnotes,
)  # fmt: skip

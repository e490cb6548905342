"""One unit of a study: a batch of images and a victim, unattacked or under one attack, in figures and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor

from udc_robust.attacks import Result, Streams, Threat, attack, frozen, objective, rejudged
from udc_robust.attacks.classification import margin
from udc_robust.classifiers.data import LabelledImages
from udc_robust.data.images import write_image
from udc_robust.evaluation.batch import Batch
from udc_robust.evaluation.cells import Cell
from udc_robust.evaluation.classifying.config import ClassifyConfig
from udc_robust.evaluation.classifying.victims import Victim, jitter, seen, targets
from udc_robust.evaluation.scores import same_norm_noise
from udc_robust.evaluation.units import Unit, image_folder, measured
from udc_robust.metrics.accuracy_curve import top_k_correct


def load_batch(images: LabelledImages, indices: Sequence[int], device: str) -> Batch:
    """Load the images of a batch."""
    x, labels = images.batch(indices)
    return Batch(images.name, len(images), [images.keys[i] for i in indices], indices, x.to(device), labels.to(device))


def attacked_unit(config: ClassifyConfig, out: Path, batch: Batch, victim: Victim, cell: Cell) -> Unit:
    """Attack one batch in one cell and describe each image in a row."""
    threat = cell.threat("srgb")
    result = _attack(config, batch, victim, cell, threat)
    noise = result.adv_outputs if cell.access == "none" else _noise(config, batch, victim, cell, result, threat)
    clean = batch.clean_outputs(config, victim)[: len(result.adv_outputs)]
    figures = {
        **judged(result.adv_outputs, batch.target),
        **{f"{name}_clean": values for name, values in _top(clean, batch.target).items()},
        **{f"{name}_noise": values for name, values in _top(noise, batch.target).items()},
        **measured(result),
    }
    _save_pictures(config, out, batch, victim, cell, result.x_adv)
    averaged = cell.access in victim.ways and (victim.random or jitter(victim, cell) > 0)
    names = {
        **_names(victim, len(result.adv_outputs)), "attack": cell.label, "method": cell.attack.method,
        "norm": cell.attack.norm, "eps": cell.eps, "objective": cell.attack.objective, "access": cell.access,
        "exactness": "of the bare classifier" if cell.access == "blind" else victim.exactness(cell.access),
        "eot": cell.attack.eot if averaged else 1, "known_seed": cell.attack.known_seed,
    }  # fmt: skip
    cost = {"seconds": result.meter.seconds, "peak_bytes": result.meter.peak_bytes, "images": len(batch.x)}
    return _rows(batch, names, figures), cost


def clean_unit(config: ClassifyConfig, out: Path, batch: Batch, victim: Victim) -> Unit:
    """Classify one batch unattacked."""
    scores = batch.clean_outputs(config, victim)
    figures = judged(scores, batch.target)
    figures |= {f"{name}_clean": figures[name] for name in ("top1", "top5")}
    for i in _shown(config, batch):
        folder = image_folder(out, batch.data, batch.keys[i])
        write_image(folder / "input.png", batch.x[i].cpu())
        _save_view(config, batch, victim, i, batch.x[i], folder / quote(victim.label, safe="") / "clean.view.png")
    names = {**_names(victim, len(scores)), "attack": "clean", "method": "clean", "norm": "", "eps": 0.0}
    return _rows(batch, names, figures), {"images": len(batch.x)}


def judged(scores: Tensor, labels: Tensor) -> dict[str, list[Any]]:
    """Figures of each image from ``(draws,B,K)`` scores.

    ``top1`` and ``top5`` (of the averaged scores) are what a random defence is deployed for; ``top1_one_draw`` is the
    share of its single answers that are right, ``top1_worst_draw`` whether all of them are. For one draw they agree.
    ``margin`` is that of the averaged scores: how far the label's is below the best other, negative while right.
    """
    average = scores.mean(0)
    single = torch.stack([top_k_correct(draw, labels, 1) for draw in scores]).double()
    return {
        **_top(scores, labels),
        "answer": average.argmax(1).tolist(),
        "margin": margin(average, labels).tolist(),
        "top1_one_draw": single.mean(0).tolist(),
        "top1_worst_draw": single.amin(0).tolist(),
    }


def _top(scores: Tensor, labels: Tensor) -> dict[str, list[float]]:
    average = scores.mean(0)
    return {f"top{k}": top_k_correct(average, labels, k).double().tolist() for k in (1, 5)}


def _attack(config: ClassifyConfig, batch: Batch, victim: Victim, cell: Cell, threat: Threat) -> Result:
    """Make the attack that the cell's access allows, and judge it on the victim as deployed."""
    goal, judge = objective(cell.attack.objective), batch.seeds(config, "judge")
    clean = batch.clean_outputs(config, victim)
    wanted = targets(goal, batch.target, clean.shape[-1])

    def made(attacked: Any, clean: Tensor | None) -> Result:
        return attack(
            attacked, batch.x, goal, threat, cell.attack.method, target=wanted,
            seeds=batch.seeds(config, cell.seed_key), judge_seeds=judge, draws=1 if clean is None else config.draws,
            eot=cell.attack.eot, known_seed=cell.attack.known_seed, clean_outputs=clean,
            **cell.attack.options_at(cell.eps),
        )  # fmt: skip

    if cell.access == "blind":
        known = (victim.network.name, cell.seed_key)
        if known not in batch.bare:
            batch.bare[known] = made(victim.network, None)
        result = batch.bare[known]
    elif jitter(victim, cell):
        result = made(seen(victim, cell), None)  # as the attacker saw it, in noise
    else:
        result = made(seen(victim, cell), clean)
        if victim.defence is None:
            batch.bare[victim.network.name, cell.seed_key] = result
        return result
    return rejudged(result, victim.deployed, goal, target=wanted, judge_seeds=judge, clean_outputs=clean)


def _noise(config: ClassifyConfig, batch: Batch, victim: Victim, cell: Cell, result: Result, threat: Threat) -> Tensor:
    seeds, judge = batch.seeds(config, cell.seed_key), batch.seeds(config, "judge")
    draws = len(result.adv_outputs)
    with frozen(victim.deployed):
        return same_norm_noise(victim.deployed, batch.x, result, threat, [seed + 1 for seed in seeds], judge, draws)


def _shown(config: ClassifyConfig, batch: Batch) -> list[int]:
    """Rows of a batch whose pictures are kept: images evenly over the set, which is often sorted by class."""
    chosen = (
        {i * batch.total // config.gallery for i in range(min(config.gallery, batch.total))}
        if config.gallery
        else set()
    )
    return [row for row, index in enumerate(batch.indices) if index in chosen]


def _save_pictures(config: ClassifyConfig, out: Path, batch: Batch, victim: Victim, cell: Cell, x_adv: Tensor) -> None:
    shown = _shown(config, batch)
    for i, key in enumerate(batch.keys):
        folder = image_folder(out, batch.data, key) / quote(victim.label, safe="")
        # The images of a blind attack lie with the bare classifier, but for those that are shown.
        if i in shown or (config.save_images and cell.access != "blind"):
            write_image(folder / f"{cell.key}.input.png", x_adv[i].cpu())
        if i in shown:
            _save_view(config, batch, victim, i, x_adv[i], folder / f"{cell.key}.view.png")


@torch.no_grad()
def _save_view(config: ClassifyConfig, batch: Batch, victim: Victim, row: int, image: Tensor, path: Path) -> None:
    """What the classifier sees of an image: the first draw of its defence."""
    if victim.defence is not None:
        noise = victim.defence.draw(image[None], Streams([batch.seeds(config, "judge")[row]]))
        write_image(path, victim.defence(image[None], noise)[0].clamp(0, 1).cpu())


def _names(victim: Victim, draws: int) -> dict[str, Any]:
    return {"classifier": victim.network.name, "defence": victim.defence_name, "draws": draws, "nfe": victim.nfe}


def _rows(batch: Batch, names: dict[str, Any], figures: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [
        {
            "data": batch.data, "image": key, "label": int(batch.target[i]), **names,
            **{name: values[i] for name, values in figures.items()},
        }
        for i, key in enumerate(batch.keys)
    ]  # fmt: skip

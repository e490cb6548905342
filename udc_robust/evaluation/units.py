"""One unit of a run: a batch of images and a victim, unattacked or under one attack, in figures and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from torch import Tensor

from udc_robust.attacks import Result, Threat, attack, frozen, objective, rejudged
from udc_robust.config import EvaluateConfig
from udc_robust.data.images import write_image
from udc_robust.errors import UserError
from udc_robust.evaluation.batch import Batch
from udc_robust.evaluation.cells import Cell
from udc_robust.evaluation.inputs import Inputs, stack
from udc_robust.evaluation.scores import Lpips, draws_psnr, for_metrics, quality, same_norm_noise
from udc_robust.evaluation.victims import Victim

Unit = tuple[list[dict[str, Any]], dict[str, Any]]
"""Rows, one an image, and what the unit cost."""


def load_batch(inputs: Inputs, indices: Sequence[int], device: str) -> Batch:
    """Load the images of a batch."""
    x, truths = stack([inputs.load(i) for i in indices], device)
    return Batch(inputs.label, len(inputs.keys), [inputs.keys[i] for i in indices], indices, x, truths)


def image_folder(out: Path, data: str, key: str) -> Path:
    """Folder of one image's pictures; odd characters in names are percent-encoded."""
    return out / "images" / quote(data, safe="") / quote(key, safe="")


def attacked_unit(config: EvaluateConfig, out: Path, batch: Batch, victim: Victim, cell: Cell, lpips: Lpips) -> Unit:
    """Attack one batch in one cell and describe each image in a row."""
    result, threat = _attack(config, batch, victim, cell)
    figures = _figures(config, batch, victim, cell, result, threat, lpips)
    _save_pictures(config, out, batch, victim, cell, result)
    names = {
        "restorer": victim.network.name, "defence": victim.defence_name, "attack": cell.label,
        "method": cell.attack.method, "norm": cell.attack.norm, "eps": cell.eps, "objective": cell.attack.objective,
        "against": _against(batch, cell), "access": cell.access, "exactness": victim.exactness(cell.access),
        "eot": cell.attack.eot if victim.random and cell.access in victim.ways else 1, "draws": len(result.adv_outputs),
        "known_seed": cell.attack.known_seed, "nfe": victim.nfe,
    }  # fmt: skip
    cost = {"seconds": result.meter.seconds, "peak_bytes": result.meter.peak_bytes, "images": len(batch.x)}
    return _rows(batch, names, figures), cost


def _against(batch: Batch, cell: Cell) -> str:
    return cell.attack.against or ("clean" if batch.target is None else "gt")


def _attack(config: EvaluateConfig, batch: Batch, victim: Victim, cell: Cell) -> tuple[Result, Threat]:
    """Make the attack that the cell's access allows, and judge it on the victim as deployed."""
    threat = cell.threat(victim.network.domain)
    goal = objective(cell.attack.objective, cell.attack.drop_db)
    target = batch.target if _against(batch, cell) == "gt" else None
    judge = batch.seeds(config, "judge")

    def made(seen: Any, clean: Tensor | None) -> Result:
        return attack(
            seen, batch.x, goal, threat, cell.attack.method, target=target, seeds=batch.seeds(config, cell.seed_key),
            judge_seeds=judge, draws=config.draws, eot=cell.attack.eot, known_seed=cell.attack.known_seed,
            clean_outputs=clean, round_8_bit=config.round_8_bit, **cell.attack.options_at(cell.eps),
        )  # fmt: skip

    if cell.access != "blind":
        result = made(victim.seen(cell.access), batch.clean_outputs(config, victim))
        if victim.defence is None:
            batch.bare[victim.network.name, cell.seed_key] = result
        return result, threat
    known = (victim.network.name, cell.seed_key)
    if known not in batch.bare:
        batch.bare[known] = made(victim.network, None)
    judged = rejudged(
        batch.bare[known], victim.deployed, goal, target=target, judge_seeds=judge,
        clean_outputs=batch.clean_outputs(config, victim),
    )  # fmt: skip
    return judged, threat


def _figures(
    config: EvaluateConfig, batch: Batch, victim: Victim, cell: Cell, result: Result, threat: Threat, lpips: Lpips
) -> dict[str, list[Any]]:
    """All figures of an attacked batch, a list over its images each."""
    domain, judge = victim.network.domain, batch.seeds(config, "judge")
    noise = result.adv_outputs
    if cell.access != "none":
        noise_seeds = [seed + 1 for seed in batch.seeds(config, cell.seed_key)]
        with frozen(victim.deployed):
            noise = same_norm_noise(
                victim.deployed, batch.x, result, threat, noise_seeds, judge, len(result.adv_outputs)
            )
    attacked, clean, noise = (for_metrics(y, domain) for y in (result.adv_outputs, result.clean_outputs, noise))
    x, x_adv = for_metrics(batch.x, domain), for_metrics(result.x_adv, domain)
    reference = clean.mean(0) if batch.target is None else for_metrics(batch.target, domain)
    return {
        **quality(attacked, reference, lpips),
        "psnr_clean": draws_psnr(clean, reference).mean(0).tolist(),
        "psnr_noise": draws_psnr(noise, reference).mean(0).tolist(),
        "psnr_input": draws_psnr(x[None], reference)[0].tolist(),
        "psnr_to_clean_output": draws_psnr(attacked, clean).mean(0).tolist(),
        "psnr_of_attacked_input": draws_psnr(x_adv[None], x)[0].tolist(),
        "broken": result.success.tolist(),
        **measured(result),
    }


def measured(result: Result) -> dict[str, list[Any]]:
    """What an attack climbed, how far it went and what it cost, a list over its images each."""
    return {
        "objective_clean": result.clean_values.tolist(),
        "objective_attacked": result.adv_values.tolist(),
        "linf": result.linf.tolist(),
        "l2": result.l2.tolist(),
        "forwards": result.meter.forwards.tolist(),
        "backwards": result.meter.backwards.tolist(),
        "queries": result.meter.queries.tolist(),
        "bad_gradients": result.bad_gradients.tolist(),
    }


def _save_pictures(config: EvaluateConfig, out: Path, batch: Batch, victim: Victim, cell: Cell, result: Result) -> None:
    """Attacked inputs of all images as files that hold them exactly, and pictures of the gallery's."""
    domain = victim.network.domain
    exact = ".png" if config.round_8_bit else ".npy"
    inputs, outputs = (for_metrics(image, domain).cpu() for image in (result.x_adv, result.adv_output))
    for i, index in enumerate(batch.indices):
        folder = image_folder(out, batch.data, batch.keys[i]) / quote(victim.label, safe="")
        # The images of a blind attack lie with the bare restorer.
        kept = config.save_images and cell.access != "blind"
        if kept:
            write_image(folder / f"{cell.key}.input{exact}", result.x_adv[i].cpu())
        if index < config.gallery:
            if exact != ".png" or not kept:  # else it has just been written
                write_image(folder / f"{cell.key}.input.png", inputs[i])
            write_image(folder / f"{cell.key}.output.png", outputs[i])


def clean_unit(config: EvaluateConfig, out: Path, batch: Batch, victim: Victim, lpips: Lpips) -> Unit:
    """Restore one batch unattacked."""
    domain = victim.network.domain
    outputs = for_metrics(batch.clean_outputs(config, victim), domain)
    if not outputs.isfinite().all():
        raise UserError(f"victim {victim.label!r} answers with NaN or infinity: check {victim.network.origin}")
    x = for_metrics(batch.x, domain)
    reference = outputs.mean(0) if batch.target is None else for_metrics(batch.target, domain)
    figures = quality(outputs, reference, lpips)
    figures |= {"psnr_clean": figures["psnr"], "psnr_input": draws_psnr(x[None], reference)[0].tolist()}
    for i, index in enumerate(batch.indices):
        if index < config.gallery:
            folder = image_folder(out, batch.data, batch.keys[i])
            write_image(folder / "input.png", x[i].cpu())
            write_image(folder / quote(victim.label, safe="") / "clean.output.png", outputs[0, i].cpu())
            if batch.target is not None:
                write_image(folder / "gt.png", reference[i].cpu())
    names = {
        "restorer": victim.network.name, "defence": victim.defence_name, "attack": "clean", "method": "clean",
        "norm": "", "eps": 0.0, "draws": len(outputs), "nfe": victim.nfe,
    }  # fmt: skip
    return _rows(batch, names, figures), {"images": len(batch.x)}


def _rows(batch: Batch, names: dict[str, Any], figures: dict[str, list[Any]]) -> list[dict[str, Any]]:
    height, width = batch.x.shape[-2:]
    reference = "clean" if batch.target is None else "gt"
    return [
        {
            "data": batch.data, "image": key, "height": height, "width": width, "reference": reference, **names,
            **{name: values[i] for name, values in figures.items()},
        }
        for i, key in enumerate(batch.keys)
    ]  # fmt: skip

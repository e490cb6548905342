"""Running the grid: data x restorers x attacks x eps, journalled as it goes.

After a kill at any moment the same command goes on where it stopped and ends with the same ``results.csv``, byte for
byte: batches are fixed by the run and recomputed whole, and seeds belong to images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor

from udc_robust import metrics
from udc_robust.attacks import METHODS, Result, Threat, attack, image_seed, objective
from udc_robust.config import EvaluateConfig
from udc_robust.data.images import write_image
from udc_robust.errors import UserError, unknown_name
from udc_robust.evaluation.cells import Cell, batches, cells, eps_text
from udc_robust.evaluation.identity import claim_folder, facts_of
from udc_robust.evaluation.inputs import Inputs, open_inputs, stack
from udc_robust.evaluation.journal import Journal
from udc_robust.evaluation.scores import Lpips, for_metrics, quality, same_norm_noise
from udc_robust.evaluation.tables import write_tables
from udc_robust.files import write_text
from udc_robust.progress import console, progress
from udc_robust.restorers.zoo import Restorer, RestorerSpec, load_restorer


@dataclass
class Batch:
    """Images of one size, with what every cell needs of them."""

    inputs: Inputs
    indices: Sequence[int]
    lq: Tensor
    gt: Tensor | None
    keys: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.keys = [self.inputs.keys[i] for i in self.indices]


def image_folder(out: Path, data: str, key: str) -> Path:
    """Folder of one image's pictures; odd characters in names are percent-encoded."""
    return out / "images" / quote(data, safe="") / quote(key, safe="")


def evaluate(config: EvaluateConfig, out: Path, command: str = "") -> dict[str, Any]:
    """Run or resume a grid and write its tables.

    Returns:
        The facts of ``run.json``: versions, seeds, data, restorers, reasons for missing columns.

    Raises:
        UserError: bad data or weights, or ``out`` holds a run of another config.
    """
    device = _device(config.device)
    inputs = [open_inputs(block) for block in config.data]
    grid = cells(config)
    restorers = _load_restorers(config, inputs, device)
    _check_targets(config, inputs)
    lpips, lpips_reason = _lpips(config, device)
    claim_folder(config, out, inputs, restorers)
    journal = Journal(out / "journal.jsonl")
    work = [(block, indices) for block in inputs for indices in batches(block.sizes, config.batch_size)]
    names = [restorer.name for restorer in config.restorers]
    total = len(work) * len(names) * (len(grid) + 1)
    with progress(f"evaluating {config.name}", total) as tick:
        for block, indices in work:
            first, batch = block.keys[indices[0]], None
            for name in names:
                for cell in [None, *grid]:
                    unit = "/".join(
                        quote(part, safe="") for part in (block.label, first, name, cell.key if cell else "clean")
                    )
                    if unit not in journal.units:
                        batch = batch or _load(block, indices, device)
                        restorer = restorers[name, block.domain]
                        rows, cost = _run_unit(config, out, batch, restorer, cell, lpips)
                        journal.add(unit, rows=rows, cost=cost)
                    tick(f"{name} {cell.attack.label} {eps_text(cell.eps)}" if cell else f"{name} clean")
    facts = facts_of(config, command, inputs, restorers, lpips_reason)
    write_text(out / "run.json", json.dumps(facts, indent=1))
    write_tables(out, list(journal.units.values()))
    return facts


def _load(block: Inputs, indices: Sequence[int], device: str) -> Batch:
    return Batch(block, indices, *stack([block.load(i) for i in indices], device))


def _run_unit(
    config: EvaluateConfig, out: Path, batch: Batch, restorer: Restorer, cell: Cell | None, lpips: Lpips
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Attack one batch in one cell (None: the clean pass) and describe each image in a row."""
    if cell is None:
        return _clean_unit(config, out, batch, restorer, lpips)
    x, domain = batch.lq, restorer.domain
    against = cell.attack.against or ("clean" if batch.gt is None else "gt")
    seeds = [image_seed(config.seed, f"{batch.inputs.label}/{key}", cell.key) for key in batch.keys]
    threat = cell.threat(domain)
    result = attack(
        restorer, x, objective(cell.attack.objective, cell.attack.drop_db), threat, cell.attack.method,
        target=batch.gt if against == "gt" else None, seeds=seeds,
        round_8_bit=config.round_8_bit, **cell.attack.options_at(cell.eps),
    )  # fmt: skip
    figures = _attack_figures(batch, restorer, result, threat, seeds, lpips)
    _save_pictures(config, out, batch, restorer, cell, result)
    names = {
        "restorer": restorer.name, "attack": cell.attack.label, "method": cell.attack.method, "norm": cell.attack.norm,
        "eps": cell.eps, "objective": cell.attack.objective, "against": against,
        "access": METHODS[cell.attack.method].access,
    }  # fmt: skip
    cost = {"seconds": result.meter.seconds, "peak_bytes": result.meter.peak_bytes, "images": len(x)}
    return _rows(batch, names, figures), cost


def _attack_figures(
    batch: Batch, restorer: Restorer, result: Result, threat: Threat, seeds: list[int], lpips: Lpips
) -> dict[str, list[Any]]:
    """All figures of an attacked batch, a list over its images each."""
    domain = restorer.domain
    noise_output = same_norm_noise(restorer, batch.lq, result, threat, [seed + 1 for seed in seeds])
    reference = for_metrics(result.clean_output if batch.gt is None else batch.gt, domain)
    attacked, clean, x = (for_metrics(image, domain) for image in (result.adv_output, result.clean_output, batch.lq))
    return {
        **quality(attacked, reference, lpips),
        "psnr_clean": _psnr(clean, reference),
        "psnr_noise": _psnr(for_metrics(noise_output, domain), reference),
        "psnr_input": _psnr(x, reference),
        "psnr_to_clean_output": _psnr(attacked, clean),
        "psnr_of_attacked_input": _psnr(for_metrics(result.x_adv, domain), x),
        "objective_clean": result.clean_values.tolist(),
        "objective_attacked": result.adv_values.tolist(),
        "broken": result.success.tolist(),
        "linf": result.linf.tolist(),
        "l2": result.l2.tolist(),
        "forwards": result.meter.forwards.tolist(),
        "backwards": result.meter.backwards.tolist(),
        "queries": result.meter.queries.tolist(),
        "bad_gradients": result.bad_gradients.tolist(),
    }


def _save_pictures(
    config: EvaluateConfig, out: Path, batch: Batch, restorer: Restorer, cell: Cell, result: Result
) -> None:
    """Attacked inputs of all images as files that hold them exactly, and pictures of the gallery's."""
    domain = restorer.domain
    exact = ".png" if config.round_8_bit else ".npy"
    inputs, outputs = (for_metrics(image, domain).cpu() for image in (result.x_adv, result.adv_output))
    for i, index in enumerate(batch.indices):
        folder = image_folder(out, batch.inputs.label, batch.keys[i]) / quote(restorer.name, safe="")
        if config.save_images:
            write_image(folder / f"{cell.key}.input{exact}", result.x_adv[i].cpu())
        if index < config.gallery:
            if exact != ".png" or not config.save_images:  # else it has just been written
                write_image(folder / f"{cell.key}.input.png", inputs[i])
            write_image(folder / f"{cell.key}.output.png", outputs[i])


def _clean_unit(
    config: EvaluateConfig, out: Path, batch: Batch, restorer: Restorer, lpips: Lpips
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Restore one batch unattacked."""
    domain = restorer.domain
    with torch.no_grad():
        output = for_metrics(restorer(batch.lq), domain)
    if not output.isfinite().all():
        raise UserError(f"restorer {restorer.name!r} answers with NaN or infinity: check {restorer.origin}")
    x = for_metrics(batch.lq, domain)
    reference = output if batch.gt is None else for_metrics(batch.gt, domain)
    figures = quality(output, reference, lpips)
    figures |= {"psnr_clean": figures["psnr"], "psnr_input": _psnr(x, reference)}
    for i, index in enumerate(batch.indices):
        if index < config.gallery:
            folder = image_folder(out, batch.inputs.label, batch.keys[i])
            write_image(folder / "input.png", x[i].cpu())
            write_image(folder / quote(restorer.name, safe="") / "clean.output.png", output[i].cpu())
            if batch.gt is not None:
                write_image(folder / "gt.png", reference[i].cpu())
    names = {"restorer": restorer.name, "attack": "clean", "method": "clean", "norm": "", "eps": 0.0}
    return _rows(batch, names, figures), {"images": len(x)}


def _rows(batch: Batch, names: dict[str, Any], figures: dict[str, list[Any]]) -> list[dict[str, Any]]:
    height, width = batch.lq.shape[-2:]
    reference = "clean" if batch.gt is None else "gt"
    return [
        {
            "data": batch.inputs.label, "image": key, "height": height, "width": width, "reference": reference, **names,
            **{name: values[i] for name, values in figures.items()},
        }
        for i, key in enumerate(batch.keys)
    ]  # fmt: skip


def _psnr(output: Tensor, reference: Tensor) -> list[float | None]:
    return metrics.psnr(output.double(), reference.double()).tolist()


def _device(name: str) -> str:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise unknown_name("device", name, ["cpu", "cuda", "cuda:0"]) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("device: this machine has no CUDA GPU that torch can use; use `device: cpu`")
    return name


def _load_restorers(config: EvaluateConfig, inputs: Sequence[Inputs], device: str) -> dict[tuple[str, str], Restorer]:
    loaded = {}
    for block in config.restorers:
        spec = RestorerSpec(**block.model_dump())
        for domain in {data.domain for data in inputs}:
            loaded[block.name, domain] = load_restorer(spec, domain, device, config.seed)
    for data in inputs:
        smallest = min(min(size) for size in data.sizes)
        for restorer in loaded.values():
            if smallest < restorer.min_size:
                raise UserError(
                    f"data {data.label!r} has an image with a side of {smallest} px; "
                    f"{restorer.name} needs {restorer.min_size}"
                )
    return loaded


def _check_targets(config: EvaluateConfig, inputs: Sequence[Inputs]) -> None:
    for data in inputs:
        if data.domain == "linear" and config.round_8_bit:
            raise UserError(f"data {data.label!r} is linear light, which has no 8-bit levels: set round_8_bit: false")
        for block in config.attacks:
            if block.against == "gt" and data.samples[0].gt is None:
                raise UserError(
                    f"attack {block.label!r} is against gt, but data {data.label!r} has no ground truth: "
                    "use `against: clean`"
                )


def _lpips(config: EvaluateConfig, device: str) -> tuple[Lpips, str]:
    """The LPIPS measure, or None and the reason, said once."""
    wanted = [config.lpips] if config.lpips else []
    needed = any(block.objective == "lpips" for block in config.attacks)
    try:
        if needed:
            metrics.load_lpips("alex", device)
        if not wanted:
            return None, "not asked for (lpips: null)"
        network = metrics.load_lpips(wanted[0], device)
    except metrics.LpipsUnavailable as error:
        if needed:
            raise UserError(f"an attack on LPIPS needs its weights: {error}") from error
        reason = str(error).replace(str(Path.home()), "~")  # reports travel; a user's folders need not
        console.print(f"{reason}; the LPIPS column reads n/a", style="yellow", highlight=False)
        return None, reason

    @torch.no_grad()
    def measure(output: Tensor, reference: Tensor) -> Tensor:
        return metrics.lpips_distance(network, output.float(), reference.float())

    return measure, ""

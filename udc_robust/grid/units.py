"""One unit of a run: a batch of images and a victim, unattacked or under one attack, as rows, costs and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor

from udc_robust.attacks import Result, Streams
from udc_robust.corruptions import CORRUPTIONS
from udc_robust.data.images import write_image
from udc_robust.errors import UserError
from udc_robust.files import LONG, file_part, write_text
from udc_robust.grid.attacking import Judged, attacked, unattacked
from udc_robust.grid.budget import change_column
from udc_robust.grid.cells import Cell
from udc_robust.grid.corrupting import Corrupted
from udc_robust.grid.images import Batch
from udc_robust.grid.plan import Plan
from udc_robust.grid.victims import Victim
from udc_robust.optics.domains import for_eyes
from udc_robust.portable import portable
from udc_robust.progress import doing

Unit = dict[str, Any]
"""``rows``, one an image; ``cost``; and of an attack that asks ``queries``, a row an image and number of queries."""


def unit_name(batch_key: str, data: str, victim: Victim, cell: Cell | Corrupted | None) -> str:
    """Name of a unit in the journal."""
    return "/".join(
        quote(part, safe="", errors="surrogatepass")
        for part in (data, batch_key, victim.label, cell.key if cell else "clean")
    )


def image_folder(out: Path, data: str, key: str, victim: str | None = None) -> Path:
    """Folder of one image's pictures, or of those of a victim; for odd and long names see `file_part`."""
    return out.joinpath("images", *(file_part(part) for part in (data, key, victim) if part is not None))


def keep_names(plan: Plan) -> None:
    """Write ``images/names.json``: what the shortened names in folders and files of pictures stand for."""
    victims = [victim for listed in plan.victims.values() for victim in listed]
    texts = [text for data in plan.sets for text in (data.label, *data.keys)] + [victim.label for victim in victims]
    names = {file_part(text): text for text in texts}
    names |= {cell.key: cell.label for victim in victims for cell in victim.cells}
    if long := {name: text for name, text in names.items() if LONG in name}:
        write_text(plan.out / "images" / "names.json", json.dumps(long, indent=1))


def run_unit(plan: Plan, batch: Batch, victim: Victim, cell: Cell | None) -> Unit:
    """Judge a batch, attacked first where there is a cell; keep its pictures, and describe each image in a row.

    Raises:
        UserError: the victim answers with NaN or infinity.
    """
    where = f"{victim.label} {cell.label if cell else 'clean'}"
    doing(f"{where}: {'attacking' if cell else 'answering'}", passes_of(batch, victim, cell))
    if cell is None:
        judged = unattacked(batch, victim)
        if not judged.outputs.isfinite().all():
            raise UserError(f"victim {victim.label!r} answers with NaN or infinity: check {victim.network.origin}")
    else:
        judged = attacked(plan.task, batch, victim, cell, plan.round_8_bit)
    doing(f"{where}: scoring")
    figures = plan.task.figures(judged, plan.metrics)
    if cell is not None and judged.result is not None:
        change = batch.threat(cell.attack.norm, cell.eps).distance(batch.x, judged.inputs)
        figures |= {change_column(cell.attack.norm): change.tolist(), **measured(judged.result)}
    doing(f"{where}: writing pictures")
    _keep_pictures(plan, judged)
    names = _names(plan, judged)
    rows = [
        {
            "data": batch.images.label, "image": key, **plan.task.describe(batch, i), **names,
            **{name: values[i] for name, values in figures.items()},
        }
        for i, key in enumerate(batch.keys)
    ]  # fmt: skip
    cost: dict[str, Any] = {"images": len(batch.x)}
    if judged.result is not None:
        cost |= {"seconds": judged.result.meter.seconds, "peak_bytes": judged.result.meter.peak_bytes}
    if not judged.curve:
        return {"rows": rows, "cost": cost}
    quality = plan.task.quality.name
    asked = [{"image": batch.keys[row], "queries": queries, quality: value} for row, queries, value in judged.curve]
    return {"rows": rows, "cost": cost, "queries": asked}


def passes_of(batch: Batch, victim: Victim, cell: Cell | None) -> int:
    """How often a batch goes through a victim, so that a large image's remaining time can be told; 0: not known.

    An attack's own steps, and two answers: to what it made, and to noise of that size.
    """
    draws = batch.draws if victim.random else 1
    if cell is None:
        return draws
    options = {**cell.attack.chosen.options(), **cell.attack.options_at(cell.eps)}
    steps, more = options.get("steps", 0), options.get("restarts", 1) * options.get("search_steps", 1)
    eot = 1 if cell.attack.known_seed else cell.attack.eot
    return 0 if steps is ... else steps * more * eot + 2 * draws + 1


def run_corruption(plan: Plan, batch: Batch, victim: Victim, cell: Corrupted) -> Unit:
    """Judge a batch that was changed by chance, and describe each image in a row of ``corruptions.csv``."""
    doing(f"{victim.label}: {cell.title}")
    changed = cell.applied(batch, plan.round_8_bit)
    outputs = changed.clean_answers(victim)
    judged = Judged(changed, victim, None, changed.x, outputs, batch.clean_answers(victim), None, None)
    # Of the images as they are, which have rows of their own.
    figures = {k: v for k, v in plan.task.figures(judged, plan.metrics).items() if not k.endswith("_clean")}
    names = {
        "data": batch.images.label, plan.task.network: victim.network.name, "defence": victim.defence_name,
        "draws": len(outputs), "nfe": victim.nfe, "corruption": cell.kind, "family": CORRUPTIONS[cell.kind].family,
        "place": cell.place, "severity": cell.severity,
    }  # fmt: skip
    rows = [
        {
            **plan.task.describe(changed, i),
            **names,
            "image": key,
            **{name: values[i] for name, values in figures.items()},
        }
        for i, key in enumerate(batch.keys)
    ]
    return {"rows": rows, "cost": {"images": len(batch.x)}}


def _names(plan: Plan, judged: Judged) -> dict[str, Any]:
    """What a row says of its victim and cell."""
    victim, cell = judged.victim, judged.cell
    names = {
        plan.task.network: victim.network.name, "defence": victim.defence_name, "draws": len(judged.outputs),
        "nfe": victim.nfe,
    }  # fmt: skip
    if cell is None:
        return names | {"attack": "clean", "method": "clean", "norm": "", "eps": 0.0}
    averages = victim.averages(cell)
    if judged.batch.random:  # the camera's chance stands before every gradient but those of sources
        averages = cell.attack.chosen.access == "gradient" and not cell.sources
    averages = averages and not cell.attack.known_seed
    return names | {
        "attack": cell.label, "method": portable(cell.attack.method), "norm": cell.attack.norm, "eps": cell.eps,
        "objective": portable(cell.attack.objective), "access": cell.access,
        "exactness": _exactness(plan, judged, cell), "eot": cell.attack.eot if averages else 1,
        "known_seed": cell.attack.known_seed,
    }  # fmt: skip


def _exactness(plan: Plan, judged: Judged, cell: Cell) -> str:
    """What the attacker's gradient is."""
    known = judged.victim.exactness(cell, plan.task.network)
    scenes = judged.batch.images.space is not None
    return f"{known} through the optics, rounding straight through" if known == "exact" and scenes else known


def measured(result: Result) -> dict[str, list[Any]]:
    """What an attack climbed, how far it went and what it cost, a list over its images each."""
    return {
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


def spread(count: int, total: int) -> set[int]:
    """``count`` places evenly over ``total``: sets are often sorted, by class or by scene."""
    count = min(count, total)
    return {i * total // count for i in range(count)}


def _keep_pictures(plan: Plan, judged: Judged) -> None:
    """Attacked inputs of all images as files that hold them exactly, and all pictures of the gallery's."""
    batch, victim, cell = judged.batch, judged.victim, judged.cell
    shown = spread(plan.gallery, len(batch.images.keys))
    space = batch.images.space
    exact = ".png" if plan.round_8_bit and space is None else ".npy"  # a scene's lamps lie on no level
    inputs = (for_eyes(judged.inputs, batch.domain) if space is None else space.toned(judged.inputs)).cpu()
    made = plan.task.pictures(judged) if any(index in shown for index in batch.indices) else {}
    # The images of a blind attack lie with the bare network, but for those that are shown.
    keeps = cell is not None and plan.save_images and cell.access != "blind"
    for i, (index, key) in enumerate(zip(batch.indices, batch.keys, strict=True)):
        folder = image_folder(plan.out, batch.images.label, key)
        mine = image_folder(plan.out, batch.images.label, key, victim.label)
        name = cell.key if cell else "clean"
        if keeps:
            write_image(mine / f"{name}.input{exact}", judged.inputs[i].cpu())
        if index not in shown:
            continue
        if cell is None:
            write_image(folder / "input.png", inputs[i])
            if victim.defence is not None:
                write_image(mine / "clean.view.png", _view(judged, i))
        else:
            if not keeps or exact != ".png":  # else it has just been written
                write_image(mine / f"{name}.input.png", inputs[i])
            if victim.defence is not None:
                write_image(mine / f"{name}.view.png", _view(judged, i))
        for role, pictures in made.items():
            write_image(
                (folder if role == "gt" else mine) / (f"{role}.png" if role == "gt" else f"{name}.{role}.png"),
                pictures[i].cpu(),
            )


@torch.no_grad()
def _view(judged: Judged, row: int) -> Tensor:
    """What the network sees of an image: the first draw of the defence."""
    defence = judged.victim.defence
    assert defence is not None
    image = judged.batch.captures(judged.inputs)[row : row + 1]
    noise = defence.draw(image, Streams([judged.batch.seeds("judge")[row]]))
    return defence(image, noise)[0].clamp(0, 1).cpu()

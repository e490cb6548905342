"""Running the grid: data x classifiers x defences x attacks x eps, journalled and resumed as that of restorers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from udc_robust.classifiers.data import LabelledImages
from udc_robust.classifiers.zoo import Classifier
from udc_robust.errors import UserError
from udc_robust.evaluation.batch import Batch
from udc_robust.evaluation.cells import Cell, batches, eps_text
from udc_robust.evaluation.classifying.config import ClassifyConfig
from udc_robust.evaluation.classifying.tables import write_tables
from udc_robust.evaluation.classifying.units import attacked_unit, clean_unit, load_batch
from udc_robust.evaluation.classifying.victims import (
    Victim,
    build_victims,
    check_victims,
    facts_of_victim,
    load_classifiers,
    open_images,
    pixels_digest,
)
from udc_robust.evaluation.identity import claim, facts_of_network, facts_of_run, file_digest, purifier_digests
from udc_robust.evaluation.journal import Journal
from udc_robust.evaluation.run import checked_device
from udc_robust.files import write_text
from udc_robust.processes import Processes
from udc_robust.progress import progress


def classify(config: ClassifyConfig, out: Path, command: str = "") -> dict[str, Any]:
    """Run or resume a study and write its tables.

    Returns:
        The facts of ``run.json``: versions, seeds, data, classifiers, defences.

    Raises:
        UserError: bad data or weights, or ``out`` holds a run of another config.
    """
    device, processes = checked_device(config.device), Processes()
    sets = _open(config)
    classifiers = load_classifiers(config)
    pixels = {images.name: pixels_digest(images) for images in sets}
    victims = build_victims(config, classifiers)
    for images in sets:
        check_victims(config, images, victims)
    with processes.main_first():
        weights = {c.name: file_digest(c.origin) for c in classifiers.values()} | purifier_digests(config.defences)
        claim(out, config, {"images": pixels, "weights": weights})
    journal = Journal(out, processes.rank)
    size = (1, 1)  # all images of a set are of one size
    work = [(images, part) for images in sets for part in batches([size] * len(images), config.batch_size)]
    shares = [(*batch, name) for batch in work for name in classifiers][processes.rank :: processes.count]
    mine = {name: [victim for victim in victims if victim.network.name == name] for name in classifiers}
    total = sum(len(victim.cells) + 1 for *_, name in shares for victim in mine[name])
    with progress(f"classifying {config.name}", total, quiet=not processes.is_main) as tick:
        for images, indices, name in shares:
            batch: Batch | None = None
            for victim in mine[name]:
                for cell in [None, *victim.cells]:
                    unit = _unit_name(images, indices, victim, cell)
                    if unit not in journal.units:
                        batch = batch or load_batch(images, indices, device)
                        rows, cost = (
                            clean_unit(config, out, batch, victim)
                            if cell is None
                            else attacked_unit(config, out, batch, victim, cell)
                        )
                        journal.add(unit, rows=rows, cost=cost)
                    tick(f"{victim.label} {cell.label} {eps_text(cell.eps)}" if cell else f"{victim.label} clean")
    processes.wait()
    facts = _facts(config, command, sets, classifiers, victims)
    if processes.is_main:
        write_text(out / "run.json", json.dumps(facts, indent=1))
        write_tables(out, list(Journal(out).units.values()))
    processes.wait()
    return facts


def _open(config: ClassifyConfig) -> list[LabelledImages]:
    sets = [open_images(block) for block in config.data]
    names = [images.name for images in sets]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two data blocks are called {twice!r}: give them different names")
    return sets


def _unit_name(images: LabelledImages, indices: Sequence[int], victim: Victim, cell: Cell | None) -> str:
    parts = (images.name, images.keys[indices[0]], victim.label, cell.key if cell else "clean")
    return "/".join(quote(part, safe="") for part in parts)


def _facts(
    config: ClassifyConfig,
    command: str,
    sets: Sequence[LabelledImages],
    classifiers: dict[str, Classifier],
    victims: Sequence[Victim],
) -> dict[str, Any]:
    return {
        **facts_of_run(config, command),
        "data": {images.name: {"images": len(images), "classes": list(images.classes)} for images in sets},
        "classifiers": {name: facts_of_network(classifier) for name, classifier in classifiers.items()},
        "defences": {victim.label: facts_of_victim(victim) for victim in victims},
    }

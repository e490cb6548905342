"""Running the grid: data x restorers x defences x attacks x eps, journalled as it goes.

After a kill at any moment the same command goes on where it stopped and ends with the same ``results.csv``, byte for
byte: batches are fixed by the run and recomputed whole, and seeds belong to images. Under ``torchrun`` or ``accelerate
launch`` the processes share the work out, and the result is the same again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor

from udc_robust import metrics
from udc_robust.config import EvaluateConfig
from udc_robust.errors import UserError, unknown_name
from udc_robust.evaluation.batch import Batch
from udc_robust.evaluation.cells import Cell, batches, eps_text
from udc_robust.evaluation.identity import claim_folder, facts_of
from udc_robust.evaluation.inputs import Inputs, open_inputs
from udc_robust.evaluation.journal import Journal
from udc_robust.evaluation.matching import options_only, tune
from udc_robust.evaluation.scores import Lpips
from udc_robust.evaluation.tables import write_tables
from udc_robust.evaluation.units import attacked_unit, clean_unit, load_batch
from udc_robust.evaluation.victims import Victim, build_victims, load_restorers
from udc_robust.files import write_text
from udc_robust.processes import Processes
from udc_robust.progress import console, progress


def evaluate(config: EvaluateConfig, out: Path, command: str = "") -> dict[str, Any]:
    """Run or resume a grid and write its tables.

    Returns:
        The facts of ``run.json``: versions, seeds, data, restorers, defences, reasons for missing columns.

    Raises:
        UserError: bad data or weights, or ``out`` holds a run of another config.
    """
    device, processes = checked_device(config.device), Processes()
    inputs = [open_inputs(block) for block in config.data]
    restorers = load_restorers(config, inputs)
    _check_targets(config, inputs)
    lpips, lpips_reason = _lpips(config, device)
    with processes.main_first():
        claim_folder(config, out, inputs, restorers)
        tuned = tune(config, restorers, out)
    victims = {
        domain: build_victims(config, restorers, domain, options_only(tuned))
        for domain in {data.domain for data in inputs}
    }
    journal = Journal(out, processes.rank)
    work = [(block, indices) for block in inputs for indices in batches(block.sizes, config.batch_size)]
    shares = [
        (block, indices, named.name)
        for block, indices in work
        for named in config.restorers
    ][processes.rank :: processes.count]  # fmt: skip
    total = sum(len(v.cells) + 1 for block, _, name in shares for v in _of(victims[block.domain], name))
    with progress(f"evaluating {config.name}", total, quiet=not processes.is_main) as tick:
        batch = None
        for block, indices, name in shares:
            if batch is None or (batch.inputs, batch.indices) != (block, indices):
                batch = _LazyBatch(block, indices, device)
            for victim, cell in _units(victims[block.domain], name):
                unit = _unit_name(block, indices, victim, cell)
                if unit not in journal.units:
                    loaded = batch.load()
                    rows, cost = (
                        clean_unit(config, out, loaded, victim, lpips)
                        if cell is None
                        else attacked_unit(config, out, loaded, victim, cell, lpips)
                    )
                    journal.add(unit, rows=rows, cost=cost)
                tick(f"{victim.label} {cell.label} {eps_text(cell.eps)}" if cell else f"{victim.label} clean")
    processes.wait()
    facts = facts_of(config, command, inputs, restorers, victims, tuned, lpips_reason)
    if processes.is_main:
        write_text(out / "run.json", json.dumps(facts, indent=1))
        write_tables(out, list(Journal(out).units.values()))
    processes.wait()
    return facts


def _of(victims: Sequence[Victim], restorer: str) -> list[Victim]:
    return [victim for victim in victims if victim.network.name == restorer]


def _units(victims: Sequence[Victim], restorer: str) -> Iterator[tuple[Victim, Cell | None]]:
    """Unattacked first (None), then the cells of each victim; the bare one first, so that blind attacks are at hand."""
    for victim in sorted(_of(victims, restorer), key=lambda victim: victim.defence is not None):
        for cell in [None, *victim.cells]:
            yield victim, cell


def _unit_name(block: Inputs, indices: Sequence[int], victim: Victim, cell: Cell | None) -> str:
    parts = (block.label, block.keys[indices[0]], victim.label, cell.key if cell else "clean")
    return "/".join(quote(part, safe="") for part in parts)


class _LazyBatch:
    """A batch that is read when a unit of it is not done yet."""

    def __init__(self, inputs: Inputs, indices: Sequence[int], device: str) -> None:
        self.inputs, self.indices, self._device = inputs, indices, device
        self._batch: Batch | None = None

    def load(self) -> Batch:
        """Read it, once."""
        self._batch = self._batch or load_batch(self.inputs, self.indices, self._device)
        return self._batch


def checked_device(name: str) -> str:
    """The device, which torch must have.

    Raises:
        UserError: no device of that name, or none here.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise unknown_name("device", name, ["cpu", "cuda", "cuda:0"]) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("device: this machine has no CUDA GPU that torch can use; use `device: cpu`")
    return name


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

"""Running the grid: data x networks x defences x attacks x eps, journalled as it goes.

After a kill at any moment the same command goes on where it stopped and ends with the same ``results.csv``, byte for
byte: batches are fixed by the run and recomputed whole, and seeds belong to images. Under ``torchrun`` or ``accelerate
launch`` the processes share the work out, and the result is the same again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from udc_robust.files import write_text
from udc_robust.grid.check import check_victims
from udc_robust.grid.corrupting import Corrupted, impossible
from udc_robust.grid.identity import claim_folder, facts_of
from udc_robust.grid.images import Batch, Images
from udc_robust.grid.journal import Journal
from udc_robust.grid.matching import tune
from udc_robust.grid.plan import Networks, Plan, Share, loaded, opened, planned
from udc_robust.grid.schema import RunConfig
from udc_robust.grid.sources import sources_of
from udc_robust.grid.tables import write_tables
from udc_robust.grid.task import Task
from udc_robust.grid.told import data_told, learnt_domains_told, left_out, networks_told, sources_told
from udc_robust.grid.units import keep_names, run_corruption, run_unit, unit_name
from udc_robust.limits import usable_device
from udc_robust.lock import sole_writer
from udc_robust.portable import portable
from udc_robust.processes import Processes
from udc_robust.progress import note, progress


def run(task: Task, config: RunConfig, out: Path, command: str = "") -> dict[str, Any]:
    """Run or resume a grid and write its tables.

    Returns:
        The facts of ``run.json``: versions, seeds, data, networks, defences, reasons for missing columns.

    Raises:
        UserError: bad data or weights, or ``out`` holds a run of another config, or another process is writing there.
    """
    usable_device(config.device)
    processes = Processes()
    sets = opened(task, config)
    networks = loaded(task, config, sets)
    sources = sources_of(task, config, sets, networks)
    told = (data_told(sets), networks_told(networks), sources_told(config, networks, sources))
    for line in chain(*told, impossible(config.corruptions, sets)):
        note(line)
    check_victims(task, config, sets, networks, sources)
    task.metrics(config)  # what an attack needs and cannot be had is told before the folder is claimed
    with sole_writer(out):
        return _run(task, config, out, command, processes, sets, networks, sources)


def _run(
    task: Task, config: RunConfig, out: Path, command: str, processes: Processes, sets: Sequence[Images],
    networks: Networks, sources: Networks,
) -> dict[str, Any]:  # fmt: skip
    """Claim the folder, do this process's share, and write what the journal of all of them says."""
    with processes.main_first():
        claim_folder(task, config, out, sets, [*networks.values(), *sources.values()])
        tuned = tune(task, config, networks, out)
    plan = planned(task, config, out, sets, networks, tuned, sources)
    victims = [victim for mine in plan.victims.values() for victim in mine]
    for line in chain(left_out(config, victims), learnt_domains_told(victims)):
        note(line)
    if processes.is_main:
        keep_names(plan)
    _work(plan, processes)
    processes.wait()
    facts = facts_of(plan, config, command, networks, tuned, sources)
    if processes.is_main:
        write_text(out / "run.json", json.dumps(portable(facts), indent=1))
        write_tables(task, plan.metrics, out, list(Journal(out).units.values()))
    processes.wait()
    return facts


def dealt(shares: Sequence[Share], rank: int, count: int) -> list[Share]:
    """What of the work one process does: of each network every ``count``-th batch, so that a slow one is shared too."""
    turns: dict[str, int] = {}
    mine = []
    for share in shares:
        name = share.victims[0].network.name
        turn = turns.setdefault(name, len(turns))  # networks begin with different processes
        turns[name] += 1
        if turn % count == rank:
            mine.append(share)
    return mine


def _work(plan: Plan, processes: Processes) -> None:
    """Do this process's share of all units that the journal does not know yet."""
    journal = Journal(plan.out, processes.rank)
    shares = dealt(plan.shares, processes.rank, processes.count)
    total = sum(1 for share in shares for _ in share.units())
    with progress(f"evaluating {plan.name}", total, quiet=not processes.is_main) as tick:
        batch: Batch | None = None
        for share in shares:
            if batch is not None and (batch.images, batch.indices) != (share.images, share.indices):
                batch = None
            for victim, cell in share.units():
                unit = unit_name(share.images.keys[share.indices[0]], share.images.label, victim, cell)
                if unit not in journal.units:
                    batch = batch or plan.batch(share)
                    entry = (
                        run_corruption(plan, batch, victim, cell)
                        if isinstance(cell, Corrupted)
                        else run_unit(plan, batch, victim, cell)
                    )
                    journal.add(unit, **entry)
                tick(f"{victim.label} {cell.title if cell else 'clean'}")

"""Reading a finished run folder back: one panel for each victim and data block, each with its cells.

Nothing of a folder is run: code that a config names is not looked up.
"""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

from udc_robust.config_file import NO_CODE, check_config
from udc_robust.errors import UserError
from udc_robust.grid.cells import ACCESSES, Cell
from udc_robust.grid.identity import digest
from udc_robust.grid.schema import RunConfig
from udc_robust.grid.tables import QUERIES
from udc_robust.grid.task import Row, Task
from udc_robust.grid.victims import victim_label
from udc_robust.metrics import Metric, records
from udc_robust.names import NONE
from udc_robust.report.former import as_now, former_columns
from udc_robust.report.panel import Outcome, Panel

FILES = ("config.yaml", "run.json", "results.csv", "summary.csv", "timings.csv")
CORRUPTIONS = "corruptions.csv"
"""Only of runs that have some."""
_USUALLY: Mapping[str, Any] = {
    "subject": "photographs", "whole": False, "space": "capture", "shot": 0, "read": 0, "shift_px": 0, "white": 1,
    "region": [], "bits": None, "pattern": None, "white_balance": None, "develop": None,
}  # fmt: skip
_NUMBERS = {"eot", "draws", "known_seed", "nfe"}
Key = tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, task, config (checked, and as written), facts, and tables by cell.

    Attributes:
        corruptions: by data, network and defence.
    """

    path: Path
    name: str
    task: Task
    config: RunConfig
    settings: Mapping[str, Any]
    fingerprint: Mapping[str, Any]
    facts: Mapping[str, Any]
    results: Mapping[Key, Sequence[Row]]
    summary: Mapping[Key, Sequence[Row]]
    timings: Mapping[Key, Sequence[Row]]
    asked: Mapping[Key, Sequence[Row]]
    corruptions: Mapping[Key, Sequence[Row]]

    @property
    def images(self) -> str:
        """A digest of what its victims were shown: the files of all blocks, and how each was photographed.

        What is as usual is not written into it, so that it stays what it was when these keys came.
        """
        blocks = self.settings["data"]
        how = [_unusual(block) for block in blocks]
        shown = [self.fingerprint.get("images"), [block.get("psf") for block in blocks]]
        return digest([*shown, how] if any(how) else shown)

    def panels(self, prefix: str = "") -> Iterator[Panel]:
        """One panel for each data block and victim, labelled ``prefix + victim``, bare networks first."""
        for data in self.facts["data"]:
            for network in self.config.networks:
                for defence in sorted(self.config.defences, key=lambda block: block.kind != NONE):
                    mine = network.name in self.facts["data"][data].get("networks", [network.name])
                    if mine and network.name in (defence.networks or [network.name]):
                        yield self._panel(data, network.name, defence, prefix)

    def _panel(self, data: str, network: str, block: Any, prefix: str) -> Panel:
        defence = NONE if block.kind == NONE else block.label
        label, place = victim_label(network, defence), (data, network, defence)
        facts = self.facts["defences"][label]
        clean = (*place, "clean", "", "0")
        order = [attack.label for attack in self.config.attacks]
        mine = [key for key in self.results if key[:3] == place and key != clean]

        def rank(outcome: Outcome) -> tuple[Any, ...]:
            access = outcome.cell.access
            place = ACCESSES.index(access) if access in ACCESSES else 0
            return not outcome.is_noise, order.index(outcome.cell.attack.label), outcome.cell.eps, place

        return Panel(
            task=self.task,
            label=label if prefix == f"{network}: " else prefix + label,  # not "mine: mine"
            data=data,
            network=network,
            family=self.task.family(self.facts["networks"])[network],
            defence=defence,
            kind=block.kind,
            role=block.role,
            nfe=facts["nfe"],
            random=facts["random"] or self.facts["data"][data].get("random", False),
            trained=self.facts["networks"][network]["trained"],
            images=self.facts["data"][data],
            clean=self._one(clean),
            clean_rows=self.results[clean],
            outcomes=sorted((self._outcome(key) for key in mine), key=rank),
            metrics=self._metrics(self.results[clean]),
            folder=self.path,
            others=[name for name, other in self.facts["networks"].items() if other["trained"] and name != network],
            corruptions=self.corruptions.get(place, ()),
            channel=self.facts["networks"][network].get("channel"),
        )

    def _metrics(self, rows: Sequence[Row]) -> list[Metric]:
        """Those that the run says it measured; of runs that say nothing those whose columns are there."""
        told = {name: Metric.as_told(about) for name, about in self.facts.get("metrics", {}).items()}
        known = {name: metric for name, metric in records.BESIDE.items() if name in rows[0]}
        return list({**known, **told}.values())

    def _outcome(self, key: Key) -> Outcome:
        summary, rows = self._one(key), self.results[key]
        access = rows[0]["access"]
        label = key[3].removesuffix(f" {access}") if access in ACCESSES else key[3]
        attack = next((a for a in self.config.attacks if (a.label, a.norm) == (label, key[4])), None)
        if attack is None:
            raise UserError(f"{self.path / 'results.csv'} has an attack {label!r} that its config.yaml does not have")
        cell = Cell(attack, rows[0]["eps"], access)
        costs = self.timings.get((key[0], victim_label(*key[1:3]), cell.key), [])
        images = sum(row["images"] for row in costs)
        return Outcome(
            cell, self.task.quality, summary, rows,
            seconds=sum(row["seconds"] for row in costs) / images if images else None,
            peak_bytes=max((row["peak_bytes"] for row in costs if row["peak_bytes"] is not None), default=None),
            asked=self.asked.get(key, ()), scenes=self.facts["data"][key[0]].get("scenes", {}),
        )  # fmt: skip

    def _one(self, key: Key) -> Row:
        if key not in self.summary or key not in self.results:
            raise UserError(
                f"{self.path / 'summary.csv'} has no row for {'/'.join(key)}: "
                "run `udc-robust evaluate` on its config again"
            )
        return self.summary[key][0]


def _unusual(block: Mapping[str, Any]) -> dict[str, Any]:
    """What of a data block is not as usual; of scenes that are attacked also what budgets are stated in."""
    found = {key: block[key] for key, usual in _USUALLY.items() if block.get(key, usual) != usual}
    stated = block.get("domain") or "tonemapped"
    return found | ({"domain": stated} if found.get("space") == "scene" and stated != "tonemapped" else {})


def read_run(path: Path, tasks: Mapping[str, Task]) -> Run:
    """Read a run folder.

    Raises:
        UserError: no such folder, a task that is not here, a file of a finished run is missing or damaged.
    """
    if not path.is_dir():
        raise UserError(f"no run folder at {path}: name the `out` folder of a finished `udc-robust evaluate`")
    for name in FILES:
        if not (path / name).is_file():
            raise UserError(f"{path} holds no finished run: {name} is missing; run `udc-robust evaluate` on it again")
    with damage_told(path):
        settings, facts = as_now(
            yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8")),
            json.loads((path / "run.json").read_text(encoding="utf-8")),
        )
        task = tasks[settings["task"]]
        fingerprint = settings.pop("fingerprint", {})
        for block in settings["attacks"]:
            if block["eps"] is None:  # the run's list: said by leaving the key out
                del block["eps"]
        config = check_config(settings, task.schema, str(path / "config.yaml"), NO_CODE)
        texts, renamed = {*task.names, "image", "unit"} - _NUMBERS, former_columns(settings)
        results, summary = (
            _by_key(_read_csv(path / f"{name}.csv", texts, renamed), lambda row: _cell_of(row, task.network))
            for name in ("results", "summary")
        )
        timings = _by_key(_read_csv(path / "timings.csv", texts), _timed)
        rows = _read_csv(path / QUERIES, texts) if (path / QUERIES).is_file() else []
        asked = _by_key(rows, lambda row: _cell_of(row, task.network))
        by_chance = _by_key(_corrupted(path, task), lambda row: (row["data"], row[task.network], row["defence"]))
        return Run(
            path, config.name, task, config, settings, fingerprint, facts, results, summary, timings, asked, by_chance
        )


def _corrupted(path: Path, task: Task) -> list[Row]:
    """The rows of ``corruptions.csv``, none where a run has no corruptions; each names its cell and has a quality."""
    if not (path / CORRUPTIONS).is_file():
        return []
    texts = {*task.names, "image", "corruption", "family", "place"} - _NUMBERS
    rows = _read_csv(path / CORRUPTIONS, texts)
    for row in rows:
        if None in [row[name] for name in ("corruption", "family", "place", "severity", task.quality.name)]:
            raise ValueError(f"a row of {CORRUPTIONS} is cut short")
    return rows


@contextlib.contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Tell what a damaged file of a run folder makes of its reading in one line, with the way on."""
    try:
        yield
    except (
        yaml.YAMLError, AttributeError, TypeError, ValueError, LookupError, RecursionError, csv.Error, OSError,
        StopIteration,
    ) as error:  # fmt: skip
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"{path} is damaged ({reason}): run `udc-robust evaluate` on its config again, which makes the tables and "
            "run.json from its journal"
        ) from error


def _read_csv(path: Path, texts: set[str], renamed: Mapping[str, str] | None = None) -> list[Row]:
    with open(path, encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    now = {name: (renamed or {}).get(name, name) for name in rows[0]} if rows else {}
    return [{now[name]: _parsed(name, text, texts) for name, text in row.items() if now[name]} for row in rows]


def _parsed(column: str, text: str, texts: set[str]) -> str | float | None:
    if column in texts:
        return text if column != "eps" else float(text)
    return None if text in ("n/a", "") else float(text)


def _by_key(rows: Sequence[Row], key_of: Any) -> dict[Key, list[Row]]:
    found: dict[Key, list[Row]] = {}
    for row in rows:
        found.setdefault(key_of(row), []).append(row)
    return found


def _cell_of(row: Row, network: str) -> Key:
    names = ("data", network, "defence", "attack", "norm")
    return (*(row[name] for name in names), f"{row['eps']:.7g}")


def _timed(row: Row) -> Key:
    data, _, victim, cell = (unquote(part, errors="surrogatepass") for part in row["unit"].split("/"))
    return data, victim, cell

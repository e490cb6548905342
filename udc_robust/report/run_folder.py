"""Reading a finished run folder back: the cells in the order of its config, each with its figures."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import yaml

from udc_robust.config import DataConfig, DefenceConfig, EvaluateConfig
from udc_robust.config_file import check_config
from udc_robust.errors import UserError
from udc_robust.evaluation.cells import Cell, cells, eps_text
from udc_robust.evaluation.tables import NAMES
from udc_robust.evaluation.units import image_folder
from udc_robust.evaluation.victims import NONE, victim_label

Row = Mapping[str, Any]
NORM_SIGNS = {"linf": "L∞", "l2": "L2"}
_NUMBERS = {"eot", "draws", "known_seed", "nfe"}
_TEXT_COLUMNS = {*NAMES, "classifier", "image", "unit"} - _NUMBERS


def eps_label(cell: Cell) -> str:
    """Write eps in the unit of its norm: a bound on each value in levels, one on the whole image as a number."""
    linf = cell.attack.norm == "linf" or math.isinf(cell.eps)
    return eps_text(cell.eps) if linf else f"{cell.eps:g}"


@dataclass(frozen=True)
class Outcome:
    """One cell on all images of a panel.

    Attributes:
        summary: the row of ``summary.csv``.
        rows: the rows of ``results.csv``, one an image.
        seconds: mean time per image; None where the run measured none.
        peak_bytes: largest memory peak over its batches.
    """

    cell: Cell
    summary: Row
    rows: Sequence[Row]
    seconds: float | None
    peak_bytes: float | None

    @property
    def is_noise(self) -> bool:
        """Whether this is the control: random noise, which attacks nothing."""
        return self.summary["access"] == "none"

    @property
    def budget(self) -> str:
        """Norm and eps as people write them: ``L∞ 4/255``; ``L2 free`` for a minimum-norm attack."""
        return f"{NORM_SIGNS[self.cell.attack.norm]}\N{NO-BREAK SPACE}{eps_label(self.cell)}"

    @property
    def title(self) -> str:
        """Attack and budget: ``pgd, L∞ 4/255``."""
        return f"{self.cell.label}, {self.budget}"

    @property
    def damage(self) -> float:
        """What attacks are ranked by: the drop in dB; without ground truth minus the PSNR to the clean restoration."""
        drop = self.summary["drop"]
        return -self.summary["psnr"] if drop is None else drop

    @property
    def level(self) -> float:
        """The drop in dB; without ground truth the PSNR to the clean restoration."""
        drop = self.summary["drop"]
        return self.summary["psnr"] if drop is None else drop

    @property
    def left(self) -> float:
        """What the attack leaves: mean PSNR in dB, to the ground truth or else to the clean restoration."""
        return float(self.summary["psnr"])

    @property
    def left_text(self) -> str:
        """The same in words."""
        return f"{self.left:.2f} dB"

    @property
    def compares(self) -> bool:
        """Whether it climbs the figure that it is judged by; only such attacks compare."""
        return self.cell.attack.objective in ("mse", "psnr")

    @property
    def noise_level(self) -> float | None:
        """The same for random noise of each image's own attack norm."""
        if self.summary["noise_drop"] is not None:
            return self.summary["noise_drop"]
        values = [row["psnr_noise"] for row in self.rows]
        return None if not values or None in values else fmean(values)


@dataclass(frozen=True)
class Panel:
    """One victim on the images of one data block: the unit that the report tells about.

    Attributes:
        label: name of the restorer and its defence, with its run before them when several runs are shown.
        family: the restorer that this one was fine-tuned from; itself where it was not.
        defence: name of what stands before the restorer; ``none`` for nothing.
        kind: of the defence.
        nfe: model calls of the defence for one restoration.
        clean: the summary row of the unattacked pass; ``clean_rows`` has a row an image.
        outcomes: noise controls first, then the attacks in the order of the config.
        folder: of the run.
    """

    label: str
    data: str
    restorer: str
    family: str
    defence: str
    kind: str
    nfe: int
    domain: str
    trained: bool
    clean: Row
    clean_rows: Sequence[Row]
    outcomes: Sequence[Outcome]
    folder: Path

    @property
    def has_truth(self) -> bool:
        """Whether damage is measured against ground truth (else against the clean restoration)."""
        return self.clean["reference"] == "gt"

    def picture(self, image: str, name: str, *, of_restorer: bool = True) -> Path:
        """Path of one picture of an image, for example ``pgd-linf-4_255.output.png``."""
        folder = image_folder(self.folder, self.data, image)
        return (folder / quote(victim_label(self.restorer, self.defence), safe="") if of_restorer else folder) / name


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, config (checked, and as written), facts and tables."""

    path: Path
    name: str
    config: EvaluateConfig
    settings: Mapping[str, Any]
    fingerprint: Mapping[str, Any]
    facts: Mapping[str, Any]
    results: Sequence[Row]
    summary: Sequence[Row]
    timings: Sequence[Row]

    def panels(self, prefix: str = "") -> Iterator[Panel]:
        """One panel for each data block and victim, labelled ``prefix + victim``."""
        for block in self.config.data:
            for restorer in self.config.restorers:
                for defence in self.config.defences:
                    if defence.restorers is None or restorer.name in defence.restorers:
                        yield self._panel(block, restorer.name, defence, prefix)

    def _panel(self, block: DataConfig, restorer: str, defence: DefenceConfig, prefix: str) -> Panel:
        label = victim_label(restorer, NONE if defence.kind == NONE else defence.label)
        facts = self.facts["defences"][label]
        place = (block.label, restorer, NONE if defence.kind == NONE else defence.label)
        outcomes = [self._outcome(place, cell) for cell in cells(self.config, defence, facts["ways"], facts["random"])]
        return Panel(
            label=prefix + label,
            data=block.label,
            restorer=restorer,
            family=self.facts["restorers"][restorer].get("parent") or restorer,
            defence=place[2],
            kind=defence.kind,
            nfe=facts["nfe"],
            domain=self.facts["data"][block.label]["domain"],
            trained=self.facts["restorers"][restorer]["trained"],
            clean=self._one(self.summary, place, "clean", "", 0.0),
            clean_rows=_matching(self.results, place, "clean", "", 0.0),
            outcomes=sorted(outcomes, key=lambda outcome: not outcome.is_noise),
            folder=self.path,
        )

    def _outcome(self, place: tuple[str, str, str], cell: Cell) -> Outcome:
        names = (cell.label, cell.attack.norm, cell.eps)
        costs = [
            row for row in self.timings if _place_of(row["unit"]) == (place[0], victim_label(*place[1:]), cell.key)
        ]
        images = sum(row["images"] for row in costs)
        return Outcome(
            cell,
            self._one(self.summary, place, *names),
            _matching(self.results, place, *names),
            seconds=sum(row["seconds"] for row in costs) / images if images else None,
            peak_bytes=max((row["peak_bytes"] for row in costs if row["peak_bytes"] is not None), default=None),
        )

    def _one(self, rows: Sequence[Row], place: tuple[str, str, str], attack: str, norm: str, eps: float) -> Row:
        found = _matching(rows, place, attack, norm, eps)
        if not found:
            raise UserError(
                f"{self.path / 'summary.csv'} has no row for {'/'.join(place)} under {attack} {norm} {eps_text(eps)}: "
                "run `udc-robust evaluate` on its config again"
            )
        return found[0]


def _matching(rows: Sequence[Row], place: tuple[str, str, str], attack: str, norm: str, eps: float) -> list[Row]:
    """Rows of one cell; the tables write eps with seven digits."""
    wanted = (*place, attack, norm, f"{eps:.7g}")
    names = ("data", "restorer", "defence", "attack", "norm", "eps")
    return [row for row in rows if tuple(row[name] for name in names) == wanted]


def _place_of(unit: str) -> tuple[str, ...]:
    data, _, victim, cell = (unquote(part) for part in unit.split("/"))
    return data, victim, cell


class Files(NamedTuple):
    """What a run folder holds: the config as written and what it was run on, facts and tables."""

    settings: Mapping[str, Any]
    fingerprint: Mapping[str, Any]
    facts: Mapping[str, Any]
    results: Sequence[Row]
    summary: Sequence[Row]
    timings: Sequence[Row]


def read_run(path: Path) -> Run:
    """Read a run folder.

    Raises:
        UserError: no such folder, a file of a finished run is missing or damaged.
    """
    files = read_files(path, "evaluate")
    config = check_config(files.settings, EvaluateConfig, str(path / "config.yaml"))
    return Run(path, config.name, config, *files)


def read_files(path: Path, verb: str) -> Files:
    """Read the files of a finished run.

    Args:
        verb: that makes such runs.

    Raises:
        UserError: no such folder, a file of a finished run is missing or damaged.
    """
    if not path.is_dir():
        raise UserError(f"no run folder at {path}: name the `out` folder of a finished `udc-robust {verb}`")
    for name in ("config.yaml", "run.json", "results.csv", "summary.csv", "timings.csv"):
        if not (path / name).is_file():
            raise UserError(f"{path} holds no finished run: {name} is missing; run `udc-robust {verb}` on it again")
    try:
        values = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
        facts = json.loads((path / "run.json").read_text(encoding="utf-8"))
        fingerprint = values.pop("fingerprint", {})
        for block in values["attacks"]:
            if block["eps"] is None:  # the run's list: said by leaving the key out
                del block["eps"]
        tables = [_read_csv(path / f"{name}.csv") for name in ("results", "summary", "timings")]
    except (yaml.YAMLError, AttributeError, TypeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is damaged ({reason}): run `udc-robust {verb}` on its config again") from error
    return Files(values, fingerprint, facts, *tables)


def _read_csv(path: Path) -> list[Row]:
    with open(path, encoding="utf-8", newline="") as handle:
        return [{name: _parsed(name, text) for name, text in row.items()} for row in csv.DictReader(handle)]


def _parsed(column: str, text: str) -> str | float | None:
    if column in _TEXT_COLUMNS:
        return text
    return None if text in ("n/a", "") else float(text)

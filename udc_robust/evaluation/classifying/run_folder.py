"""Reading a finished study back: the cells in the order of its config, each with its figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from udc_robust.config_file import check_config
from udc_robust.errors import UserError
from udc_robust.evaluation import run_folder
from udc_robust.evaluation.cells import Cell, cells
from udc_robust.evaluation.classifying.config import ClassifierDefenceConfig, ClassifyConfig
from udc_robust.evaluation.run_folder import Row, read_files
from udc_robust.evaluation.units import image_folder
from udc_robust.evaluation.victims import NONE, victim_label

Key = tuple[str, ...]


@dataclass(frozen=True)
class Outcome(run_folder.Outcome):
    """One cell on all images of a panel, judged by accuracy."""

    @property
    def left(self) -> float:
        """Accuracy that the attack leaves, in percent."""
        return 100 * float(self.summary["top1"])

    @property
    def left_text(self) -> str:
        """The same in words."""
        return f"{self.left:.1f} %"

    @property
    def compares(self) -> bool:
        """All attacks are judged by the answer, whatever they climb."""
        return True


@dataclass(frozen=True)
class Panel:
    """One victim on the images of one data block.

    Attributes:
        label: name of the classifier and its defence, with its run before them when several runs are shown.
        kind: of the defence; ``none`` for nothing.
        nfe: model calls of the defence for one image.
        random: whether two answers to one image differ.
        baseline: whether it is the first classifier of its run, undefended.
        clean: the summary row of the unattacked pass; ``clean_rows`` has a row an image.
        outcomes: noise first, then the attacks in the order of the config.
        classes: names of the labels.
        folder: of the run.
    """

    label: str
    data: str
    classifier: str
    defence: str
    kind: str
    nfe: int
    random: bool
    trained: bool
    baseline: bool
    clean: Row
    clean_rows: Sequence[Row]
    outcomes: Sequence[Outcome]
    classes: Sequence[str]
    folder: Path

    def picture(self, image: str, name: str, *, of_victim: bool = True) -> Path:
        """Path of one picture of an image, for example ``pgd-linf-4_255.input.png``."""
        folder = image_folder(self.folder, self.data, image)
        return (folder / quote(victim_label(self.classifier, self.defence), safe="") if of_victim else folder) / name


@dataclass(frozen=True)
class Run:
    """A finished study: its folder, config (checked, and as written), facts and tables by cell."""

    path: Path
    name: str
    config: ClassifyConfig
    settings: Mapping[str, Any]
    fingerprint: Mapping[str, Any]
    facts: Mapping[str, Any]
    results: Mapping[Key, Sequence[Row]]
    summary: Mapping[Key, Sequence[Row]]
    timings: Mapping[Key, Sequence[Row]]

    def panels(self, prefix: str = "") -> Iterator[Panel]:
        """One panel for each data block and victim, labelled ``prefix + victim``."""
        for data in self.facts["data"]:
            for i, classifier in enumerate(self.config.classifiers):
                for defence in sorted(self.config.defences, key=lambda block: block.kind != NONE):
                    if defence.classifiers is None or classifier.name in defence.classifiers:
                        yield self._panel(data, classifier.name, defence, prefix, first=i == 0)

    def _panel(self, data: str, classifier: str, block: ClassifierDefenceConfig, prefix: str, *, first: bool) -> Panel:
        defence = NONE if block.kind == NONE else block.label
        facts = self.facts["defences"][victim_label(classifier, defence)]
        place = (data, classifier, defence)
        outcomes = [self._outcome(place, cell) for cell in cells(self.config, block, facts["ways"], facts["random"])]
        clean = (*place, "clean", "", "0")
        return Panel(
            label=prefix + victim_label(classifier, defence),
            data=data,
            classifier=classifier,
            defence=defence,
            kind=block.kind,
            nfe=facts["nfe"],
            random=facts["random"],
            trained=self.facts["classifiers"][classifier]["trained"],
            baseline=first and defence == NONE,
            clean=self._one(clean),
            clean_rows=self.results[clean],
            outcomes=sorted(outcomes, key=lambda outcome: not outcome.is_noise),
            classes=self.facts["data"][data]["classes"],
            folder=self.path,
        )

    def _outcome(self, place: Key, cell: Cell) -> Outcome:
        key = (*place, cell.label, cell.attack.norm, f"{cell.eps:.7g}")  # as the tables write eps
        costs = self.timings.get((place[0], victim_label(*place[1:]), cell.key), [])
        images = sum(row["images"] for row in costs)
        return Outcome(
            cell,
            self._one(key),
            self.results[key],
            seconds=sum(row["seconds"] for row in costs) / images if images else None,
            peak_bytes=max((row["peak_bytes"] for row in costs if row["peak_bytes"] is not None), default=None),
        )

    def _one(self, key: Key) -> Row:
        if key not in self.summary or key not in self.results:
            raise UserError(
                f"{self.path / 'summary.csv'} has no row for {'/'.join(key)}: "
                "run `udc-robust classify` on its config again"
            )
        return self.summary[key][0]


def is_study(path: Path) -> bool:
    """Whether a run folder is one of classifiers."""
    config = path / "config.yaml"
    return config.is_file() and "\nclassifiers:" in config.read_text(encoding="utf-8")


def read_run(path: Path) -> Run:
    """Read the folder of a study.

    Raises:
        UserError: no such folder, a file of a finished run is missing or damaged.
    """
    files = read_files(path, "classify")
    config = check_config(files.settings, ClassifyConfig, str(path / "config.yaml"))
    results, summary = (_by_key(rows, _cell_of) for rows in (files.results, files.summary))
    timings = _by_key(files.timings, _timed)
    return Run(path, config.name, config, files.settings, files.fingerprint, files.facts, results, summary, timings)


def _by_key(rows: Sequence[Row], key_of: Any) -> dict[Key, list[Row]]:
    found: dict[Key, list[Row]] = {}
    for row in rows:
        found.setdefault(key_of(row), []).append(row)
    return found


def _cell_of(row: Row) -> Key:
    return tuple(row[name] for name in ("data", "classifier", "defence", "attack", "norm", "eps"))


def _timed(row: Row) -> Key:
    data, _, victim, cell = (unquote(part) for part in row["unit"].split("/"))
    return data, victim, cell

"""What a report tells about: one victim on the images of one data block, with what each attack did to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from udc_robust.grid.budget import Budget
from udc_robust.grid.cells import Cell
from udc_robust.grid.statistics import Interval, mean_interval
from udc_robust.grid.task import Row, Task
from udc_robust.grid.units import image_folder
from udc_robust.grid.victims import victim_label
from udc_robust.metrics import Metric
from udc_robust.names import NONE


def interval_of(by_image: Mapping[str, float], scenes: Mapping[str, str]) -> Interval:
    """Of the mean over images, at 95 %; images of one scene count together, those without are scenes of their own."""
    return mean_interval(list(by_image.values()), [scenes.get(image, image) for image in by_image])


@dataclass(frozen=True)
class Outcome:
    """One cell on all images of a panel.

    Attributes:
        quality: the figure that all attacks are judged by.
        summary: the row of ``summary.csv``; ``rows``: those of ``results.csv``, one an image.
        seconds: mean time per image; None where the run measured none.
        peak_bytes: largest memory peak over its batches.
        asked: rows of ``queries.csv``: what was left of an image after so many queries.
        scenes: see `Panel.scenes`.
    """

    cell: Cell
    quality: Metric
    summary: Row
    rows: Sequence[Row]
    seconds: float | None
    peak_bytes: float | None
    asked: Sequence[Row] = ()
    scenes: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_noise(self) -> bool:
        """Whether this is the control: random noise, which attacks nothing."""
        return self.cell.access == "none"

    @property
    def counts(self) -> bool:
        """Whether it is a threat that the figure can judge.

        Noise attacks nothing, who was told the seed is an upper bound, and who climbed a network's opinion fools it.
        """
        return not self.is_noise and not self.cell.attack.known_seed and not self.fools

    @property
    def fools(self) -> bool:
        """Whether it climbed the very network whose opinion the figure is."""
        return self.quality.learned and self.quality.name in self.cell.attack.climbs

    @property
    def sees_victim(self) -> bool:
        """Whether it follows a gradient of the whole victim: not of the bare network, nor of others, nor none."""
        return self.cell.access not in ("none", "query", "output", "blind", "transfer")

    @property
    def budget(self) -> Budget:
        """Norm and eps."""
        return self.cell.budget

    @property
    def options(self) -> dict[str, Any]:
        """The attack's options at its budget, with every default written out."""
        attack = self.cell.attack
        return {**attack.chosen.options(), **attack.options_at(self.cell.eps)}

    @property
    def title(self) -> str:
        """Attack and budget: ``pgd, L∞ 4/255``."""
        return f"{self.cell.label}, {self.budget}"

    @property
    def left(self) -> float:
        """The mean quality that it leaves, as people read it."""
        return self.quality.factor * float(self.summary[self.quality.name])

    @property
    def noise_left(self) -> float | None:
        """The same for random noise of each image's own attack norm."""
        values = [row.get(f"{self.quality.name}_noise") for row in self.rows]
        return None if not values or None in values else self.quality.factor * sum(values) / len(values)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Panel:
    """One victim on the images of one data block: the unit that the report tells about.

    Attributes:
        label: name of the network and its defence, with its run before them when several runs are shown.
        family: the network that this one is compared with; itself where there is none.
        defence: name of what stands before the network; ``none`` for nothing. ``kind``, ``role``: of the defence.
        nfe: model calls of the defence for one answer.
        random: whether two answers to one image differ.
        images: what run.json says of the data: their domain, whether there is a target, names of classes.
        clean: the summary row of the unattacked pass; ``clean_rows`` has a row an image.
        outcomes: noise controls first, then the attacks in the order of the config.
        metrics: the figures that the run has beside the task's quality.
        others: names of the other networks of the run, which may serve as sources.
        folder: of the run.
        channel: the one that the network was told of, see `attacks.channels`.
        corruptions: rows of threats that nobody aims, which are no outcomes of attacks.
    """

    task: Task
    label: str
    data: str
    network: str
    family: str
    defence: str
    kind: str
    role: str
    nfe: int
    random: bool
    trained: bool
    images: Mapping[str, Any]
    clean: Row
    clean_rows: Sequence[Row]
    outcomes: Sequence[Outcome]
    metrics: Sequence[Metric]
    folder: Path
    others: Sequence[str] = ()
    corruptions: Sequence[Row] = ()
    channel: str | None = None

    @property
    def has_truth(self) -> bool:
        """Whether quality is measured against a target (else against the clean answer)."""
        return self.images["truth"]

    @property
    def scenes(self) -> Mapping[str, str]:
        """By image the scene that it is of, where several are of one."""
        found: Mapping[str, str] = self.images.get("scenes", {})
        return found

    @property
    def scene_count(self) -> int:
        """How many scenes its images are of."""
        return len({self.scenes.get(row["image"], row["image"]) for row in self.clean_rows})

    def interval(self, by_image: Mapping[str, float]) -> Interval:
        """See `interval_of`."""
        return interval_of(by_image, self.scenes)

    def figures(self, rows: Sequence[Row]) -> dict[str, float]:
        """The quality of each image of some rows, as people read it."""
        return {row["image"]: self.figure(row) for row in rows}

    @property
    def stated_in(self) -> str:
        """Colour domain in which budgets are stated: of the images, or of the scenes that were photographed."""
        return self.images.get("scene_domain") or self.images["domain"]

    @property
    def is_bare(self) -> bool:
        """Whether nothing stands before the network."""
        return self.defence == NONE

    @property
    def is_baseline(self) -> bool:
        """Whether others are compared with it."""
        return self.is_bare and self.network == self.family

    @property
    def is_control(self) -> bool:
        """Whether it is a cheap rival rather than a defence under study: the config says so."""
        return self.role == "control"

    def judged_by(self, metric: Metric) -> Panel:
        """The same victim, with another figure for its quality."""
        outcomes = [replace(outcome, quality=metric) for outcome in self.outcomes]
        return replace(self, task=replace(self.task, quality=metric), outcomes=outcomes)

    def has(self, metric: Metric) -> bool:
        """Whether the figure is known of every image in every cell."""
        tables = [self.clean_rows, *(outcome.rows for outcome in self.outcomes)]
        return all(row.get(metric.name) is not None for rows in tables for row in rows)

    def figure(self, row: Row) -> float:
        """The quality of an image, as people read it."""
        return self.task.quality.factor * row[self.task.quality.name]

    def picture(self, image: str, name: str, *, of_victim: bool = True) -> Path:
        """Path of one picture of an image, for example ``pgd-linf-4_255.output.png``."""
        victim = victim_label(self.network, self.defence) if of_victim else None
        return image_folder(self.folder, self.data, image, victim) / name

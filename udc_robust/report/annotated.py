"""Results by what the images are: indoor, night, with glare or without, as the annotations of the data say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from udc_robust.grid.budget import Budget
from udc_robust.metrics import Metric
from udc_robust.report.comparison import Comparison, Standing


@dataclass(frozen=True)
class Group:
    """The images of one annotation before one victim.

    Attributes:
        clean: mean quality unattacked; ``held``: at each budget under the worst attack on each image; None: no attack.
    """

    label: str
    images: int
    clean: float
    held: Sequence[float | None]


@dataclass(frozen=True)
class Annotated:
    """One victim on a data block whose images are annotated, all of them first."""

    comparison: Comparison
    victim: str
    budgets: Sequence[Budget]
    groups: Sequence[Group]

    @property
    def metric(self) -> Metric:
        """The figure."""
        return self.comparison.metric


def tables(found: Sequence[Comparison]) -> list[Annotated]:
    """One for each victim of each comparison whose images are annotated."""
    return [
        Annotated(comparison, standing.panel.label, comparison.budgets, groups)
        for comparison in found
        for standing in comparison.standings
        if len(groups := _groups(standing)) > 1
    ]


def _groups(standing: Standing) -> list[Group]:
    """All images, and those of each annotation that some of them have and others have not."""
    panel = standing.panel
    said = panel.images.get("annotations", {})
    clean = {row["image"]: panel.figure(row) for row in panel.clean_rows}
    labels = sorted({label for image in clean for label in said.get(image, ())})
    members = [("all", list(clean))] + [
        (label, [image for image in clean if label in said.get(image, ())]) for label in labels
    ]
    return [
        Group(
            label, len(images), fmean(clean[image] for image in images),
            [None if one is None else fmean(one.worst[image].figure for image in images) for one in standing.held],
        )
        for label, images in members if label == "all" or len(images) < len(clean)
    ]  # fmt: skip


COLUMNS = ("data", "metric", "victim", "annotation", "images", "clean", "norm", "eps", "budget", "held")


def rows(found: Sequence[Annotated]) -> list[dict[str, Any]]:
    """All of them, for a table: a row a victim, annotation and budget."""
    return [
        {
            "data": table.comparison.data, "metric": table.metric.name, "victim": table.victim,
            "annotation": group.label, "images": group.images, "clean": group.clean, "norm": budget.norm,
            "eps": budget.eps, "budget": str(budget), "held": held,
        }
        for table in found
        for group in table.groups
        for budget, held in zip(table.budgets, group.held, strict=True)
        if held is not None
    ]  # fmt: skip

"""What a task is made of: the plain functions and words in which restoring and classifying differ.

The grid and the report know a task only through this record. A new one is an instance of it, entered in `tasks.TASKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from udc_robust.attacks import Objective
from udc_robust.grid.attack_schema import AttackConfig
from udc_robust.grid.images import Batch, Images
from udc_robust.grid.schema import RunConfig
from udc_robust.metrics import Metric

if TYPE_CHECKING:
    from udc_robust.grid.attacking import Judged

Row = Mapping[str, Any]
"""A row of a table of results: one image in one cell."""


@dataclass(frozen=True)
class Column:
    """One column of the report's tables of figures.

    Attributes:
        head: its heading, with the unit.
        text: what stands in it, from the summary of one cell (or of the clean pass).
        small: a smaller line below, from the cell (None: of the clean pass).
        folded: whether it lies in the part of the table that is folded away.
    """

    head: str
    text: Callable[[Row], str]
    small: Callable[[Any], str] = field(default=lambda outcome: "")
    folded: bool = False


@dataclass(frozen=True)
class Tile:
    """One large figure at the top of a victim's verdict; ``hit`` ones are what attacks did."""

    name: str
    value: str
    unit: str = ""
    hit: bool = False


@dataclass(frozen=True)
class Pictures:
    """What the gallery shows of an image.

    Attributes:
        role: name of the kept pictures that are compared: ``output`` (answers that are images) or ``view`` (what a
            defence makes of the input).
        name: what the role is called; ``lossless``: whether a JPEG would spoil it.
    """

    role: str
    name: str
    lossless: bool = False


@dataclass(frozen=True)
class Task:
    """One task: a record of plain functions, and its words.

    Attributes:
        name: as `task:` in the YAML.
        schema: of its configs.
        network: what is attacked, as a column of the tables: ``restorer``, ``classifier``.
        quality: the one figure of an image that ranks attacks: higher is better. ``metrics``: the other figures of an
            answer, as a run of this config has them. ``few_images``: a set under this size says little about another.
        names, results, summary: columns of the tables; ``names`` name a cell, the first seven order the rows.
        also: columns of figures that stand in the tables of runs whose rows have them.
        open: a data block's images. ``load``: every network by name, for images of one domain.
        check: a victim's answers ``(draws,B,...)`` to a batch of the data, before any work; UserError where the
            attacks of the run are not defined for them.
        goal: what an attack climbs, and its target (None: the victim's own clean answer).
        score: quality ``(draws,B)`` of answers ``(draws,B,...)``.
        figures: what the tables say of each image of a judged batch, a list over its images each.
        describe: what a row says of image ``i`` of a batch. ``summarise``: of the rows of one cell.
        pictures: what is kept of a batch beside the inputs, by role. ``facts``: what run.json says of a network.
        known: a network as the attacker of it knows it, where that is less than there is: the attack is made on this,
            and judged on the network.
        family: by network, the one that it is compared with where both are in the run.
        headline, verdict, tiles, columns, notes, answer, glossary: the words of the report.
    """

    name: str
    schema: type[RunConfig]
    network: str
    quality: Metric
    few_images: int
    names: tuple[str, ...]
    results: tuple[str, ...]
    summary: tuple[str, ...]
    open: Callable[[Any], Images]
    load: Callable[[Any, str], Mapping[str, Any]]
    goal: Callable[[AttackConfig, Batch, Tensor], tuple[Objective, Tensor | None]]
    score: Callable[[Tensor, Batch, Tensor], Tensor]
    figures: Callable[[Judged, Sequence[Metric]], dict[str, list[Any]]]
    summarise: Callable[[Sequence[Row]], dict[str, Any]]
    columns: Callable[[Any], list[Column]]
    kicker: str
    also: tuple[str, ...] = ()
    metrics: Callable[[Any], tuple[Sequence[Metric], str]] = lambda config: ([], "")
    check: Callable[[RunConfig, Batch, Any, Tensor], None] = lambda config, batch, network, answer: None
    describe: Callable[[Batch, int], dict[str, Any]] = lambda batch, row: {}
    pictures: Callable[[Judged], dict[str, Tensor]] = lambda judged: {}
    facts: Callable[[Any], dict[str, Any]] = lambda network: {}
    known: Callable[[AttackConfig, Any], Any] = lambda attack, network: network
    family: Callable[[Mapping[str, Any]], Mapping[str, str]] = lambda networks: {name: name for name in networks}
    shown: Pictures = Pictures("view", "view")
    headline: Callable[[Sequence[Any], Sequence[Any]], str] = lambda panels, compared: ""
    verdict: Callable[[Any], str] = lambda panel: ""
    tiles: Callable[[Any], list[Tile]] = lambda panel: []
    notes: Callable[[Sequence[Any]], list[str]] = lambda panels: []
    answer: Callable[[Any, Row], str] = lambda panel, row: ""
    footnotes: Callable[[Sequence[Any]], list[str]] = lambda panels: []
    glossary: Mapping[str, str] = field(default_factory=dict)

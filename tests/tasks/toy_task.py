"""A third task in one file: regression of an image's mean brightness. All that a task must say of itself is here."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import nn

from udc_robust.attacks import Damage
from udc_robust.config_file import Strict
from udc_robust.defences.config import DefenceConfig
from udc_robust.grid.attack_schema import AttackConfig
from udc_robust.grid.images import Images
from udc_robust.grid.schema import RunConfig
from udc_robust.grid.tables import BAD, COSTS, cell_names, mean_of
from udc_robust.grid.task import Column, Task
from udc_robust.limits import Count
from udc_robust.metrics import Metric

_error = lambda output, target: (output - target).abs().flatten(1).mean(1)  # noqa: E731
QUALITY = Metric("nearness", lambda output, target: 1 - _error(output, target), label="Nearness")
NAMES = cell_names("meter")
FIGURES = ("nearness", "nearness_clean", "nearness_noise")


class Named(Strict):
    name: str
    label: ClassVar[str] = "squares"


class Attack(AttackConfig):
    plain_objectives: ClassVar = ("error",)
    objective: str = "error"
    sources: list[Named] | None = None


class Defence(DefenceConfig):
    network_key: ClassVar[str] = "meters"
    meters: list[str] | None = None


class ToyConfig(RunConfig):
    network_key: ClassVar[str] = "meters"
    short_forms: ClassVar = {"data": "name", "meters": "name"}
    task: Literal["brightness"] = "brightness"
    name: str = "toy"
    batch_size: Count = 2
    data: list[Named]
    meters: list[Named]
    defences: list[Defence]
    attacks: list[Attack]


class Meter(nn.Module):
    name, domain, min_size, trained, origin = "meter", "srgb", 1, True, "by hand"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((1, 2, 3), keepdim=True) + 3 * x[:, :1, :1, :1]

    network = property(lambda self: self)


def _images(block: Named) -> Images:
    pictures = [torch.full((3, 8, 8), 0.2 + 0.1 * i) for i in range(3)]
    load = lambda i: (pictures[i], (0.8 + 0.4 * i) * torch.ones(1, 1, 1))  # noqa: E731
    return Images(block.label, ["a", "b", "c"], [(8, 8)] * 3, "srgb", load, lambda: "toy", truth=True)


def _figures(judged, metrics):
    of = lambda y: QUALITY.draws(y, judged.batch.target).mean(0).tolist()  # noqa: E731
    noise = {} if judged.noise is None else {"nearness_noise": of(judged.noise)}
    return {"nearness": of(judged.outputs), "nearness_clean": of(judged.clean), **noise}


TOY = Task(
    name="brightness", schema=ToyConfig, network="meter", quality=QUALITY, few_images=3,
    names=NAMES, results=(*NAMES, "image", *FIGURES, *COSTS), summary=(*NAMES, "images", *FIGURES, *COSTS, BAD),
    open=_images, load=lambda config, domain: {m.name: Meter() for m in config.meters}, figures=_figures,
    goal=lambda attack, batch, clean: (Damage("error", _error, 0.1), batch.target), kicker="Brightness meters",
    score=lambda outputs, batch, clean: QUALITY.draws(outputs, batch.target),
    summarise=lambda rows: {name: mean_of([row.get(name) for row in rows]) for name in FIGURES},
    columns=lambda panel: [Column("Nearness", lambda row: f"{row['nearness']:.3f}")],
)  # fmt: skip

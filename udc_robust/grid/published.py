"""Figures that papers publish, and the block of a config that puts a victim of ours beside them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import Field, ValidationInfo, model_validator

from udc_robust.config_file import Strict, may_load, told
from udc_robust.errors import unknown_name
from udc_robust.grid.attack_schema import Eps


class Figure(Strict):
    """One published figure, higher being better.

    Attributes:
        head: of its column. ``attack``: a method of ours, ``clean``, or ``lpips``.
        figure: the column of ours that is like it; ``factor``: from that to the ``unit``.
        value: as printed.
    """

    head: str
    attack: str
    figure: str
    unit: str
    factor: float = 1.0
    value: float


class System(Strict):
    """A published system.

    Attributes:
        theirs: the setting of its figures, and what of it is not told.
        figures: none where none is known.
    """

    name: str
    paper: str
    theirs: str
    figures: list[Figure] = Field(default_factory=list)


@functools.cache
def systems() -> Mapping[str, System]:
    """All published systems by name."""
    read = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return {name: System.model_validate(block) for name, block in read.items()}


class PublishedConfig(Strict):
    """Ours beside a paper's.

    Attributes:
        system: a name of ``grid/published.yaml``.
        victim: of the run, as its tables call it: ``halftone + resnet20_hybrid``.
        eps: the budget at which ours is told; attacks without a limit count too.
        differs: what else is different in this run; the paper's own setting is told anyway.
    """

    system: str
    victim: str
    eps: Eps
    differs: str = ""

    @model_validator(mode="after")
    def _known(self, info: ValidationInfo) -> PublishedConfig:
        if may_load("", info) and self.system not in systems():
            raise ValueError(str(told(lambda: unknown_name("published system", self.system, systems()))))
        return self

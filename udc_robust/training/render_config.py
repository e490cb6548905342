"""The ``train:`` block of trainings whose pairs are rendered as they go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from udc_robust.config_file import Number
from udc_robust.data.pair_settings import PairSettings
from udc_robust.limits import Count


class Renders(PairSettings):
    """The ``train:`` block of a training whose pairs are rendered as it goes.

    Attributes:
        sources: folder of panoramas, HDR stills or photographs (``kind``), as ``udc-robust synth`` takes it.
        only, exclude: names of sources, without endings.
        tolerances: how far each render's display may be off, by the parameters of `optics.variation`, see
            ``udc-robust tolerance``; a display is drawn for each.
        window: renders that a step draws its crops from; every step the oldest gives way to a new one.
    """

    sources: Path
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    tolerances: dict[str, Number] = Field(default_factory=dict)
    window: Count = Field(default=256, le=4096)

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.sources.name


def _sort(value: Any) -> str:
    return "a block" if isinstance(value, Mapping | Renders) else "a folder"


TrainingPairs = Annotated[Annotated[Path, Tag("a folder")] | Annotated[Renders, Tag("a block")], Discriminator(_sort)]
"""What ``train:`` may be: a folder with ``lq`` and ``gt`` in it, or a block of `Renders`."""

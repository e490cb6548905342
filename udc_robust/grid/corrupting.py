"""Corruptions in a run: which a config asks for, and what becomes of a batch. They are no attacks: nobody aims."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from udc_robust.config_file import Strict, as_lists
from udc_robust.corruptions import CORRUPTIONS, SEVERITIES, SceneChange, chance, corrupted_capture
from udc_robust.errors import unknown_name
from udc_robust.grid.images import Batch, Images, stacked

Place = Literal["before", "after"]
ALL = "all"


class CorruptionConfig(Strict):
    """A kind of corruption, see `CORRUPTIONS`.

    Attributes:
        kind: its name, or ``all``.
        severity: of 1 to 5, those wanted.
        place: ``after`` the optics, in the capture, or ``before`` them, in the scene: of data whose scenes are known,
            and of kinds that scenes know.
    """

    kind: str
    severity: list[int] = Field(default=list(SEVERITIES), min_length=1)
    place: list[Place] = Field(default=["after"], min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _one_is_a_list(cls, values: Any) -> Any:
        return as_lists(values, {"severity": None, "place": None})

    @field_validator("severity")
    @classmethod
    def _in_range(cls, values: list[int]) -> list[int]:
        if wrong := next((value for value in values if value not in SEVERITIES), None):
            raise ValueError(f"must be of 1 to 5, not {wrong}")
        return values

    @model_validator(mode="after")
    def _known(self) -> CorruptionConfig:
        if self.kind not in (ALL, *CORRUPTIONS):
            raise ValueError(str(unknown_name("kind of corruption", self.kind, [ALL, *CORRUPTIONS])))
        if self.place == ["before"] and self.kind != ALL and not CORRUPTIONS[self.kind].of_scenes:
            scenes = ", ".join(name for name, kind in CORRUPTIONS.items() if kind.of_scenes)
            raise ValueError(f"{self.kind} does not happen before the optics; these do: {scenes}")
        return self

    def cells(self) -> Iterator[Corrupted]:
        """Each kind at each place and severity."""
        for kind in CORRUPTIONS if self.kind == ALL else [self.kind]:
            for place in self.place:
                if place == "after" or CORRUPTIONS[kind].of_scenes:
                    yield from (Corrupted(kind, place, severity) for severity in self.severity)


@dataclass(frozen=True)
class Corrupted:
    """One corruption at one place in one severity: a cell of the grid beside those of attacks."""

    kind: str
    place: Place
    severity: int

    @property
    def key(self) -> str:
        """Name in units."""
        return f"corruption-{self.kind}-{self.place}-{self.severity}"

    @property
    def title(self) -> str:
        """For people who wait."""
        return f"{self.kind} {self.severity} {self.place} the optics"

    def applied(self, batch: Batch, round_8_bit: bool) -> Batch:
        """The batch, changed; before the optics its truths change with the scenes."""
        if self.place == "before":
            assert batch.images.load_changed is not None
            change = SceneChange(self.kind, self.severity, min(batch.x.shape[-2:]), batch.run_seed)
            x, target = stacked([batch.images.load_changed(i, change) for i in batch.indices])
            return replace(batch, x=x.to(batch.x), target=None if target is None else target.to(batch.x))
        names = [f"{batch.images.label}/{key}" for key in batch.keys]
        changed = [
            corrupted_capture(image, self.kind, self.severity, batch.domain, chance(batch.run_seed, name, self.kind))
            for image, name in zip(batch.x, names, strict=True)
        ]
        x, target = stacked([(image, None) for image in changed])
        return replace(batch, x=(x * 255).round() / 255 if round_8_bit else x)


def possible(blocks: Sequence[CorruptionConfig], images: Images) -> list[Corrupted]:
    """The corruptions that a set can be shown: before the optics only where its scenes are known."""
    cells = [cell for block in blocks for cell in block.cells()]
    return [cell for cell in cells if cell.place == "after" or images.load_changed is not None]


def impossible(blocks: Sequence[CorruptionConfig], sets: Sequence[Images]) -> Iterator[str]:
    """Lines on the sets to which some corruptions cannot be done."""
    for images in sets:
        if len(possible(blocks, images)) < sum(1 for block in blocks for _ in block.cells()):
            yield (
                f"data {images.label}: its scenes and optics are not known (only those of embedded data are), so "
                "nothing is changed before the optics"
            )

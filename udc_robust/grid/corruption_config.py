"""The block of a config that asks for corruptions. Reading it loads nothing heavy until there is one."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from udc_robust.config_file import Strict, as_lists
from udc_robust.errors import unknown_name

Place = Literal["before", "after"]
ALL = "all"
SEVERITIES = (1, 2, 3, 4, 5)


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
        if wrong := [value for value in values if value not in SEVERITIES]:
            raise ValueError(f"must be of 1 to 5, not {wrong[0]}")
        return values

    @model_validator(mode="after")
    def _known(self) -> CorruptionConfig:
        from udc_robust.corruptions import CORRUPTIONS

        if self.kind not in (ALL, *CORRUPTIONS):
            raise ValueError(str(unknown_name("kind of corruption", self.kind, [ALL, *CORRUPTIONS])))
        if self.place == ["before"] and self.kind != ALL and not CORRUPTIONS[self.kind].of_scenes:
            scenes = ", ".join(name for name, kind in CORRUPTIONS.items() if kind.of_scenes)
            raise ValueError(f"{self.kind} does not happen before the optics; these do: {scenes}")
        return self

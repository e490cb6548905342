"""The keys of data whose scenes are known: how they are photographed, and what an attacker may change of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from udc_robust.config_file import Number, Strict
from udc_robust.names import Domain


class SceneKeys(Strict):
    """What a block of data says of scenes.

    Attributes:
        hdr: of kind ``scenes``: a folder, or several folders and files.
        space: where budgets live: in the ``capture``, or in the ``scene`` before the optics.
        shot, read: noise of the photographs of scenes, see `optics.capture`.
        shift_px: the camera stands up to so many px off its place at each photograph.
        white: radiance of the whitest that an attacker can show in the scene; what is brighter never changes.
        region: top, left, height and width in px of all that he can change; empty: the whole frame.
    """

    hdr: list[Path] | None = None
    space: Literal["capture", "scene"] = "capture"
    shot: Annotated[Number, Field(ge=0)] = 0.0
    read: Annotated[Number, Field(ge=0)] = 0.0
    shift_px: Annotated[Number, Field(ge=0, le=16)] = 0.0
    white: Annotated[Number, Field(gt=0, le=500)] = 1.0
    region: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _for_scenes(self) -> SceneKeys:
        """Keys of scenes and of attacks on them, where there are none."""
        kind = self._said("kind")
        if self.space == "scene" and kind not in ("embedded", "scenes"):
            raise ValueError(
                f"data of kind {kind!r} are captures, whose linear light before the optics nobody knows: "
                "`space: scene` needs kind `scenes` (HDR files) or `embedded`"
            )
        of_photographs = {"shot", "read"} if not self.of_scenes else set()
        of_attackers = {"shift_px", "white", "region"} if self.space == "capture" else set()
        for key in sorted(of_photographs | of_attackers):
            if getattr(self, key) != SceneKeys.model_fields[key].default:
                raise ValueError(f"`{key}` is for attacks on scenes: say `space: scene`, or leave it out")
        domain: Domain | None = self._said("domain")
        if kind == "scenes" and self.space == "capture" and domain not in (None, "tonemapped"):
            raise ValueError(f"`domain: {domain}` of scenes is for `space: scene`: captures are tonemapped")
        if self.space == "scene" and self._said("bits") not in (None, 8, 10):
            raise ValueError(f"`bits: {self._said('bits')}`: photographs of scenes have 8 or 10")
        if self.of_scenes and self._said("crop") is not None:
            raise ValueError("`crop` cuts captures: scenes have a `size`")
        if self.of_scenes and self._said("whole"):
            raise ValueError("`whole` is of embedded captures: scenes have a `size`")
        return self

    def _said(self, key: str) -> Any:
        """A key of the block that these are part of."""
        return getattr(self, key, None)

    @property
    def of_scenes(self) -> bool:
        """Whether scenes are photographed on the way."""
        return self._said("kind") == "scenes" or self.space == "scene"

"""What a pair of scene and capture is made with, in a file of its own: schemas are read without PyTorch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from udc_robust.config_file import Number, Strict
from udc_robust.limits import Count, Side

NATIVE = 90.0
"""Degrees of view at which 256 pixels show a panorama of 1024 at its own resolution."""

Angle = Annotated[Number, Field(ge=20, le=150)]


class PairSettings(Strict):
    """How a pair is made of a source.

    Attributes:
        psfs: simulated displays by name, or PSF files; each pair draws one, a name given twice twice as often.
        size: side of the crops in pixels.
        difficulty: range of the degraded PSNR in dB that a pair must have; the true SYNTH samples lie at 19 to 28.
        field_of_view: range of the angles of view of panoramas, in degrees; each view draws one. At 90 a panorama of
            1024 px is shown at its own resolution; narrower views are smoother, wider ones have more texture a pixel.
        tries: how many views are drawn before a pair is given up.
        shot, read: noise of the capture (see ``optics.capture``).
        edge: what lies beyond the scene's border.
    """

    kind: Literal["panorama", "hdr", "photo"] = "panorama"
    psfs: Annotated[tuple[str, ...], Field(min_length=1)] = ("phone",)
    size: Side = 256
    difficulty: tuple[Number, Number] = (19.0, 28.0)
    field_of_view: tuple[Angle, Angle] = (NATIVE, NATIVE)
    tries: Count = 12
    shot: Annotated[Number, Field(ge=0)] = 0.0
    read: Annotated[Number, Field(ge=0)] = 0.0
    edge: Literal["replicate", "zero"] = "replicate"

    @field_validator("difficulty", "field_of_view")
    @classmethod
    def _rises(cls, values: tuple[float, float]) -> tuple[float, float]:
        if values[0] > values[1]:
            raise ValueError(f"must rise from the first number to the second, not {values[0]:g} {values[1]:g}")
        return values

    @model_validator(mode="after")
    def _panoramas_have_angles(self) -> Self:
        if self.kind != "panorama" and self.field_of_view != (NATIVE, NATIVE):
            raise ValueError(f"field_of_view is of panoramas, not of kind: {self.kind}: leave it out")
        return self

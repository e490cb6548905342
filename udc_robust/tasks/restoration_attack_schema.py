"""The schema of restorers and of the attacks that push a restoration off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from udc_robust.config_file import Number, Strict, may_load, told
from udc_robust.grid.attack_schema import AttackConfig
from udc_robust.names import Domain, Flips
from udc_robust.networks.short_names import named_by_file

if TYPE_CHECKING:
    from udc_robust.metrics import Metric

DETAILS = ("line", "erase")
"""Wanted pictures that are no file: the restoration with a line drawn into a detail, or without the detail."""


class RestorerConfig(Strict):
    """A restorer: a shipped checkpoint, a network of ours or of basicsr, or the user's own class.

    Attributes:
        flips: answer with the mean over the eight flips and quarter turns of an image, at eight times the cost; 2: over
            the image and its half turn, at twice.
    """

    name: str
    network: str | None = None
    options: dict[str, Any] | None = None
    weights: str | None = None
    domain: Domain | None = None
    flips: Flips = False

    @field_validator("flips", mode="before")
    @classmethod
    def _some_flips(cls, value: Any) -> Any:
        if value not in (False, True, 2):
            raise ValueError(f"true (all eight of them), 2 (the image and its half turn) or false, not {value!r}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _a_file_is_a_name(cls, values: Any) -> Any:
        return named_by_file(values)


class RestorationAttack(AttackConfig):
    """An attack on restorers.

    Attributes:
        objective: a distance of two images that the attacker makes large; or ``towards``: the nearness to ``target``.
        against: ``gt`` or ``clean``: what the objective measures distance from; None: gt where the data has one.
        drop_db: an image counts as broken when its objective is this many dB worse than clean (nearer to the target).
        target: the picture that ``towards`` wants: a file, or the restoration with a ``line`` drawn into ``detail``, or
            with ``erase``: without what stands there.
        detail: top, left, height and width in px of what counts for ``towards``; None: the whole picture.
    """

    plain_objectives: ClassVar[tuple[str, ...]] = ("mse", "psnr")

    sources: list[RestorerConfig] | None = Field(default=None, min_length=1)
    objective: str = "mse"
    against: Literal["gt", "clean"] | None = None
    drop_db: Annotated[Number, Field(gt=0, allow_inf_nan=False)] = 6.0
    target: str | None = None
    detail: tuple[int, ...] = ()

    @property
    def climbs(self) -> tuple[str, ...]:
        """The LPIPS columns whose backbones it follows."""
        from udc_robust.attacks.objectives import LPIPS_OBJECTIVES

        parts = (LPIPS_OBJECTIVES["alex"] if part == "lpips" else part for part in self.objective.split("+"))
        return tuple(part for part in parts if part in LPIPS_OBJECTIVES.values())

    def aims_at(self, metric: Metric) -> bool:
        """PSNR ranks as the mean squared error does, and what looks far off to one backbone ought to for another."""
        if metric.learned:
            return bool(self.climbs)
        if metric.name == "psnr":
            return self.objective in self.plain_objectives
        return self.objective.rpartition(":")[2] == metric.name

    @model_validator(mode="after")
    def _for_images(self, info: ValidationInfo) -> RestorationAttack:
        if not may_load(self.objective, info):
            return self
        from udc_robust.attacks.classification import CLASSIFICATION
        from udc_robust.attacks.objectives import DISTANCES
        from udc_robust.grid.named import find_objective

        if self.objective in CLASSIFICATION:
            raise ValueError(
                f"objective {self.objective!r} of attack {self.label!r} is for classifiers (`task: classification`): "
                f"restorers take {', '.join(DISTANCES)}"
            )
        self._check_target()
        if self.objective != "towards":
            told(lambda: find_objective(self.objective, DISTANCES))
        return self

    def _check_target(self) -> None:
        """What `towards` needs, and nothing else takes."""
        if self.objective != "towards":
            if self.target or self.detail:
                raise ValueError("`target` and `detail` belong to `objective: towards`")
            return
        if self.target is None:
            raise ValueError(f"objective towards needs `target`: a picture, {' or '.join(DETAILS)}")
        if self.against:
            raise ValueError("objective towards takes no `against`: it goes towards its `target`")
        if self.target in DETAILS and not self.detail:
            raise ValueError(f"target {self.target} needs `detail`: [top, left, height, width]")

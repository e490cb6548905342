"""The schema of a restoration run: pairs or captures, restorers, and attacks that push a restoration off."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from udc_robust.config_file import FileName, Number, Strict, may_load, told
from udc_robust.defences.config import DefenceConfig
from udc_robust.errors import UserError
from udc_robust.grid.attack_schema import AttackConfig, Eps
from udc_robust.grid.schema import RunConfig
from udc_robust.limits import Count, Side, SideOrNone
from udc_robust.names import Domain
from udc_robust.networks.short_names import named_by_file
from udc_robust.terminal import shown

if TYPE_CHECKING:
    from udc_robust.metrics import Metric

Backbone = Literal["alex", "vgg", "squeeze"]
DETAILS = ("line", "erase")
"""Wanted pictures that are no file: the restoration with a line drawn into a detail, or without the detail."""


Gain = Annotated[Number, Field(gt=0, le=16)]
_HALVES = ("lq", "degraded", "input", "low", "blur")


class DataConfig(Strict):
    """Where images come from.

    Attributes:
        kind: ``embedded`` (photographs that ship with scikit-image, made into UDC pairs), ``pairs`` (folders ``lq`` and
            ``gt``), ``folder`` (``lq`` alone: damage is measured against the clean restoration), ``raw`` (RAW captures,
            with ``gt`` or without; ``lq`` may be a split of UDC-SIT, see `data.raw`).
        lq: a folder, or several folders and image files.
        domain: colour domain of the images on disk; None: what the files say (``.hdr`` and ``.exr`` are linear, the
            rest sRGB).
        subject, size, whole: of embedded images: what they show, see `subject_of`; the side of crops in px; or whole
            photographs, whose shorter side it is.
        attacks, restorers: labels of those of the run that these images meet; None, or where it has none of them: all.
        crop: centre crop in pixels; None keeps the whole image.
        limit: use the first so many images.
        scene: a regular expression with one group, which is what the names of images of one scene share, such as
            ``(.+)_\\d+``: intervals draw scenes and not images. None: what the set's manifest says.
        annotations: a CSV that says what each image is, see `read_annotations`: the report tells results by it.
        names: by its column what values are called: ``{Day/Night: {1: day, 2: night}}``.
        bits, pattern, white_balance: of RAW captures, see `Sensor`.
        develop: make pictures of RAW captures; false: restorers get the four planes.
    """

    kind: Literal["embedded", "pairs", "folder", "raw"] = "embedded"
    name: str | None = None
    lq: list[Path] | None = None
    gt: Path | None = None
    domain: Domain | None = None
    psf: str = "phone"
    size: Annotated[Side, Field(ge=2)] = 128
    subject: Literal["photographs", "night", "highlights"] = "photographs"
    whole: bool = False
    attacks: list[str] | None = None
    restorers: list[str] | None = None
    crop: Side | None = None
    limit: Count | None = None
    scene: str | None = None
    annotations: Path | None = None
    names: dict[str, dict[str, str]] | None = None
    bits: Annotated[int, Field(ge=8, le=16)] | None = None
    pattern: tuple[Literal["GR", "R", "B", "GB"], ...] | None = None
    white_balance: tuple[Gain, Gain, Gain] | None = None
    develop: bool | None = None

    @model_validator(mode="after")
    def _for_raw(self) -> DataConfig:
        for key in ("bits", "pattern", "white_balance", "develop"):
            if self.kind != "raw" and getattr(self, key) is not None:
                raise ValueError(f"`{key}` is for RAW captures: set `kind: raw`")
        if self.kind == "raw" and self.domain is not None:
            raise ValueError("RAW captures take no `domain`: with `develop: false` it is raw, else srgb")
        if self.pattern is not None and sorted(self.pattern) != ["B", "GB", "GR", "R"]:
            raise ValueError("`pattern` must name GR, R, B and GB once each, in the order of the planes")
        if self.names and self.annotations is None:
            raise ValueError("`names` are of the columns of `annotations`: give that file too")
        return self

    @field_validator("scene")
    @classmethod
    def _one_group(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                groups = re.compile(value).groups
            except re.error as error:
                raise ValueError(f"{value!r} is no regular expression ({error}): write e.g. '(.+)_\\d+'") from None
            if groups != 1:
                raise ValueError(f"{value!r} needs one group, in brackets, that is the scene: write e.g. '(.+)_\\d+'")
        return value

    def scenes(self, keys: Sequence[str], known: Sequence[str]) -> dict[str, str]:
        """By image its scene, where some share one: by the pattern, else as ``known``.

        Raises:
            UserError: a name that the pattern does not fit.
        """
        found = dict(zip(keys, known, strict=True))
        if self.scene is not None:
            for key in keys:
                fit = re.search(self.scene, key)
                if fit is None or not fit[1]:
                    raise UserError(f"data {self.label!r}: `scene: {self.scene}` does not fit the image {key!r}")
                found[key] = fit[1]
        return found if len(set(found.values())) < len(found) else {}

    @model_validator(mode="before")
    @classmethod
    def _one_path_is_a_list(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and isinstance(values.get("lq"), str | Path):
            values = {**values, "lq": [values["lq"]]}
        if isinstance(values, Mapping) and isinstance(values.get("names"), Mapping):  # YAML reads {1: day} as a number
            names = values["names"].items()
            values = {**values, "names": {
                column: {str(value): name for value, name in known.items()} if isinstance(known, Mapping) else known
                for column, known in names
            }}  # fmt: skip
        return values

    @model_validator(mode="after")
    def _folders(self) -> DataConfig:
        needs = {"embedded": (), "pairs": ("lq", "gt"), "folder": ("lq",), "raw": ("lq",)}[self.kind]
        for key in ("lq",) if self.kind == "raw" else ("lq", "gt"):
            if key in needs and not getattr(self, key):
                raise ValueError(f"data of kind {self.kind!r} needs `{key}`: a folder of images")
            if key not in needs and getattr(self, key) is not None:
                raise ValueError(f"data of kind {self.kind!r} takes no `{key}`")
        return self

    @property
    def label(self) -> str:
        """Name of the data in tables."""
        if self.name or self.lq is None:
            return self.name or self.kind
        folder = Path(os.path.realpath(self.lq[0]))
        # Of `sets/validation/lq` the set is meant, and not what its half is called in every set.
        return shown(folder.parent.name if folder.name in _HALVES and folder.parent.name else folder.name)


class RestorerConfig(Strict):
    """A restorer: a shipped checkpoint, a network of ours or of basicsr, or the user's own class."""

    name: str
    network: str | None = None
    options: dict[str, Any] | None = None
    weights: str | None = None
    domain: Domain | None = None

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


class RestorationDefence(DefenceConfig):
    """What stands before the restorers; ``restorers``: only before these; None: before all."""

    network_key: ClassVar[str] = "restorers"

    restorers: list[str] | None = None


class RestorationConfig(RunConfig):
    """One run: data x restorers x defences x attacks x eps.

    Attributes:
        round_8_bit: score attacks that a PNG can hold (switch off for linear data).
        save_images: keep the attacked images as PNG (or ``.npy`` when they are not rounded).
        lpips: backbones of LPIPS columns, one or several; None: no such column.
        tile, overlap: side of the tiles in px in which larger images go through restorers, and of what neighbours share
            to each side; tile 0: whole images. An overlap of None is as far as a restorer looks.
    """

    network_key: ClassVar[str] = "restorers"
    short_forms: ClassVar[Mapping[str, str | None]] = {"data": "kind", "restorers": "name"}

    task: Literal["restoration"] = "restoration"
    name: FileName = "evaluation"
    batch_size: Count = 4
    data: list[DataConfig] = Field(default_factory=lambda: [DataConfig()], min_length=1)
    validation: DataConfig | None = None
    restorers: list[RestorerConfig] = Field(min_length=1)
    defences: list[RestorationDefence] = Field(default_factory=lambda: [RestorationDefence(kind="none")], min_length=1)
    attacks: list[RestorationAttack] = Field(default_factory=list)
    eps: list[Eps] = Field(default_factory=lambda: [k / 255 for k in (1, 2, 4, 8)], min_length=1)
    lpips: list[Backbone] = Field(default=["squeeze"])  # 5 MB, where AlexNet has 233
    tile: SideOrNone = 0
    overlap: SideOrNone | None = None

    @model_validator(mode="after")
    def _what_data_meets(self) -> RestorationConfig:
        """Of what a data block is to meet, that which the run has; all of it where a user's run has none of that."""
        known = {
            "attacks": [attack.label for attack in self.attacks],
            "restorers": [restorer.name for restorer in self.restorers],
        }
        for i, block in enumerate(self.data):
            wanted = {"attacks": block.attacks or (), "restorers": block.restorers or ()}
            met = {key: [name for name in labels if name in wanted[key]] for key, labels in known.items()}
            self.data[i] = block.model_copy(update={key: names or None for key, names in met.items()})
        return self

    @field_validator("lpips", mode="before")
    @classmethod
    def _one_or_none(cls, value: Any) -> Any:
        return [] if value is None else [value] if isinstance(value, str) else value

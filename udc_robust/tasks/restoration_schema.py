"""The schema of a restoration run: pairs or captures, restorers, and attacks that push a restoration off."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from udc_robust.config_file import FileName, Number, twice_in
from udc_robust.defences.config import DefenceConfig
from udc_robust.detectors.config import DetectorBlock
from udc_robust.errors import UserError
from udc_robust.grid.attack_schema import Eps
from udc_robust.grid.schema import RunConfig
from udc_robust.limits import Count, Side, SideOrNone
from udc_robust.names import Domain
from udc_robust.tasks.restoration_attack_schema import DETAILS as DETAILS
from udc_robust.tasks.restoration_attack_schema import RestorationAttack as RestorationAttack
from udc_robust.tasks.restoration_attack_schema import RestorerConfig as RestorerConfig
from udc_robust.tasks.restoration_scene_schema import SceneKeys
from udc_robust.terminal import shown

Backbone = Literal["alex", "vgg", "squeeze"]
Gain = Annotated[Number, Field(gt=0, le=16)]
_HALVES = ("lq", "degraded", "input", "low", "blur")


class DataConfig(SceneKeys):
    """Where images come from.

    Keys of scenes are those of `SceneKeys`.

    Attributes:
        kind: ``embedded`` (photographs that ship with scikit-image, made into UDC pairs), ``pairs`` (folders ``lq`` and
            ``gt``), ``folder`` (``lq`` alone: damage is measured against the clean restoration), ``raw`` (RAW captures,
            with ``gt`` or without; ``lq`` may be a split of UDC-SIT, see `data.raw`), ``scenes`` (HDR panoramas and
            stills ``hdr``, captured through ``psf``).
        lq: a folder, or several folders and image files.
        domain: colour domain of the images on disk; None: what the files say (``.hdr`` and ``.exr`` are linear, the
            rest sRGB). Of scenes what budgets are stated in, tonemapped unless said; ``srgb``: what a screen that fills
            the frame shows, and takes plain photographs.
        subject, size, whole: of embedded images: what they show, see `subject_of`; the side of crops in px; or whole
            photographs, whose shorter side it is.
        attacks, restorers: labels of those of the run that these images meet; None, or where it has none of them: all.
        crop: centre crop in pixels; None keeps the whole image.
        limit: use the first so many images.
        scene: a regular expression with one group, which is what the names of images of one scene share, such as
            ``(.+)_\\d+``: intervals draw scenes and not images. None: what the set's manifest says.
        annotations: a CSV that says what each image is, see `read_annotations`: the report tells results by it.
        names: by its column what values are called: ``{Day/Night: {1: day, 2: night}}``.
        bits, pattern, white_balance: of RAW captures, see `Sensor`; ``bits`` of photographs of scenes: 8 or 10.
        develop: make pictures of RAW captures; false: restorers get the four planes.
    """

    kind: Literal["embedded", "pairs", "folder", "raw", "scenes"] = "embedded"
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
            if self.kind != "raw" and getattr(self, key) is not None and (key, self.space) != ("bits", "scene"):
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
        if isinstance(values, Mapping):
            single = {key: [values[key]] for key in ("lq", "hdr") if isinstance(values.get(key), str | Path)}
            values = {**values, **single}
        if isinstance(values, Mapping) and isinstance(values.get("names"), Mapping):  # YAML reads {1: day} as a number
            names = values["names"].items()
            values = {**values, "names": {
                column: {str(value): name for value, name in known.items()} if isinstance(known, Mapping) else known
                for column, known in names
            }}  # fmt: skip
        return values

    @model_validator(mode="after")
    def _folders(self) -> DataConfig:
        needs = {"embedded": (), "pairs": ("lq", "gt"), "folder": ("lq",), "raw": ("lq",), "scenes": ("hdr",)}[
            self.kind
        ]
        for key in ("lq", "hdr") if self.kind == "raw" else ("lq", "gt", "hdr"):
            if key in needs and not getattr(self, key):
                raise ValueError(f"data of kind {self.kind!r} needs `{key}`: a folder of images")
            if key not in needs and getattr(self, key) is not None:
                raise ValueError(f"data of kind {self.kind!r} takes no `{key}`")
        return self

    @property
    def label(self) -> str:
        """Name of the data in tables."""
        files = self.lq or self.hdr
        if self.name or files is None:
            return self.name or self.kind
        folder = Path(os.path.realpath(files[0]))
        # Of `sets/validation/lq` the set is meant, and not what its half is called in every set.
        return shown(folder.parent.name if folder.name in _HALVES and folder.parent.name else folder.name)


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
        detectors: that look at the captures which every restorer is shown; nobody who attacks knows of them.
        clean: captures that nobody attacked and nobody judges, for detectors to learn from and to set their levels on.
    """

    network_key: ClassVar[str] = "restorers"
    short_forms: ClassVar[Mapping[str, str | None]] = {
        "data": "kind", "restorers": "name", "detectors": "kind",
    }  # fmt: skip

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

    detectors: list[DetectorBlock] = Field(default_factory=list)
    clean: DataConfig | None = None

    @model_validator(mode="after")
    def _detectors_know_what_is_clean(self) -> RestorationConfig:
        names = [block.name for block in self.detectors]
        if twice := twice_in(names):
            raise ValueError(f"two detector blocks are called {twice!r}: give them different names")
        if self.detectors and self.clean is None:
            raise ValueError(f"detector {names[0]!r} has no `clean` captures: name some that are not in `data`")
        return self

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

    @field_validator("validation", "clean")
    @classmethod
    def _of_captures(cls, block: DataConfig | None) -> DataConfig | None:
        if block is not None and block.space == "scene":
            raise ValueError("defences are tuned on captures: leave `space: scene` out")
        return block

    @field_validator("lpips", mode="before")
    @classmethod
    def _one_or_none(cls, value: Any) -> Any:
        return [] if value is None else [value] if isinstance(value, str) else value

"""The schema of every YAML file.

Numbers may be written as people write them: ``eps: 4/255``. ``step_size: eps/4`` is relative to each eps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from udc_robust.config_file import Number, Size, Strict, number
from udc_robust.errors import UserError, unknown_name


class DataConfig(Strict):
    """Where images come from.

    Attributes:
        kind: ``embedded`` (photographs that ship with scikit-image, made into UDC pairs), ``pairs`` (folders ``lq`` and
            ``gt``), ``folder`` (``lq`` alone: damage is measured against the clean restoration).
        lq: a folder, or several folders and image files.
        domain: light of the images on disk; None: what the files say (``.hdr`` and ``.exr`` are linear, the rest sRGB).
        crop: centre crop in pixels; None keeps the whole image.
        limit: use the first so many images.
    """

    kind: Literal["embedded", "pairs", "folder"] = "embedded"
    name: str | None = None
    lq: list[Path] | None = None
    gt: Path | None = None
    domain: Literal["srgb", "tonemapped", "linear"] | None = None
    psf: str = "phone"
    size: Size = 128
    crop: Size | None = None
    limit: Size | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_path_is_a_list(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and isinstance(values.get("lq"), str | Path):
            return {**values, "lq": [values["lq"]]}
        return values

    @model_validator(mode="after")
    def _folders(self) -> DataConfig:
        needs = {"embedded": (), "pairs": ("lq", "gt"), "folder": ("lq",)}[self.kind]
        for key in ("lq", "gt"):
            if key in needs and getattr(self, key) is None:
                raise ValueError(f"data of kind {self.kind!r} needs `{key}`: a folder of images")
            if key not in needs and getattr(self, key) is not None:
                raise ValueError(f"data of kind {self.kind!r} takes no `{key}`")
        return self

    @property
    def label(self) -> str:
        """Name of the data in tables."""
        return self.name or (self.kind if self.lq is None else self.lq[0].resolve().name)


class RestorerConfig(Strict):
    """A restorer: a shipped checkpoint, a network of ours or of basicsr, or the user's own class."""

    name: str
    network: str | None = None
    options: dict[str, Any] | None = None
    weights: str | None = None
    domain: Literal["srgb", "tonemapped", "linear"] | None = None


class AttackConfig(BaseModel):
    """An attack at one or more budgets; further keys are the method's own options.

    Attributes:
        eps: budgets in the units of the data's domain, Linf per value, L2 over the whole image; None: the run's list.
        against: ``gt`` or ``clean``: what the objective measures distance from; None: gt where the data has one.
        drop_db: an image counts as broken when its objective is this many dB worse than clean.
        name: label in tables; None: the method's name (with the objective where it is not mse).
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    method: str
    norm: Literal["linf", "l2"] = "linf"
    eps: list[Number] | None = None
    objective: str = "mse"
    against: Literal["gt", "clean"] | None = None
    drop_db: Annotated[Number, Field(gt=0)] = 6.0
    name: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_eps_is_a_list(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and not isinstance(values.get("eps"), list | None):
            return {**values, "eps": [values["eps"]]}
        return values

    @model_validator(mode="after")
    def _known(self) -> AttackConfig:
        from udc_robust.attacks import METHODS, OBJECTIVES

        try:
            if self.method not in METHODS:
                raise unknown_name("attack method", self.method, METHODS)
            if self.objective not in OBJECTIVES:
                raise unknown_name("objective", self.objective, OBJECTIVES)
            chosen = METHODS[self.method]
            for key in self.model_extra or {}:
                if key not in chosen.options():
                    raise unknown_name(
                        f"key of attack {self.method!r}", key, [*chosen.options(), *AttackConfig.model_fields]
                    )
        except UserError as error:
            raise ValueError(str(error)) from error
        if self.norm not in chosen.norms:
            raise ValueError(f"attack {self.method!r} is defined for norm {' or '.join(chosen.norms)}, not {self.norm}")
        for eps in self.eps or []:
            if not 0 <= eps < math.inf:
                raise ValueError(f"eps must be finite and 0 or more, not {eps} (minimum-norm attacks take none)")
        self.options_at(1.0)
        return self

    def options_at(self, eps: float) -> dict[str, Any]:
        """The method's options at one budget, with ``eps`` known to their formulas and types as the defaults have."""
        from udc_robust.attacks import METHODS

        defaults = METHODS[self.method].options()
        options = {}
        for key, value in (self.model_extra or {}).items():
            default = defaults[key]
            if isinstance(default, str):
                options[key] = value
                continue
            found = number(value, eps=eps)
            if isinstance(default, bool) != isinstance(found, bool) or isinstance(found, str):
                raise ValueError(f"{key} of attack {self.method!r} must be like {default!r}, not {value!r}")
            if isinstance(default, int) and not isinstance(default, bool) and (found != int(found) or found < 1):
                raise ValueError(f"{key} of attack {self.method!r} must be a whole number from 1, not {value!r}")
            if isinstance(default, float | None) and not found > 0 and key != "confidence":
                raise ValueError(f"{key} of attack {self.method!r} must be positive, not {value!r}")
            options[key] = int(found) if isinstance(default, int) and not isinstance(default, bool) else found
        return options

    @property
    def label(self) -> str:
        """Name of the attack in tables."""
        extra = "" if self.objective in ("mse", "psnr") else f"-{self.objective}"
        return self.name or f"{self.method}{extra}"


class EvaluateConfig(Strict):
    """One run: data x restorers x attacks x eps.

    Attributes:
        round_8_bit: score attacks that a PNG can hold (switch off for linear data).
        save_images: keep the attacked images as PNG (or ``.npy`` when they are not rounded).
        lpips: backbone of the LPIPS column; None leaves the column out.
    """

    name: str = "evaluation"
    out: Path | None = None
    seed: int = 0
    device: str = "cpu"
    batch_size: Size = 4
    data: list[DataConfig] = Field(default_factory=lambda: [DataConfig()], min_length=1)
    restorers: list[RestorerConfig] = Field(min_length=1)
    attacks: list[AttackConfig] = Field(min_length=1)
    eps: list[Number] = Field(default_factory=lambda: [k / 255 for k in (1, 2, 4, 8)], min_length=1)
    round_8_bit: bool = True
    save_images: bool = True
    gallery: Annotated[int, Field(ge=0)] = 4
    lpips: Literal["alex", "vgg", "squeeze"] | None = "alex"

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, values: Any) -> Any:
        """``restorers: [nafnet_mini]`` and a single block of data are fine."""
        if not isinstance(values, Mapping):
            return values
        values = dict(values)
        values.pop("fingerprint", None)  # so that the config.yaml of a run is a config again
        for key in ("data", "restorers", "attacks", "eps"):
            if key in values and not isinstance(values[key], list):
                values[key] = [values[key]]
        for key, main in (("restorers", "name"), ("attacks", "method"), ("data", "kind")):
            values[key] = [{main: v} if isinstance(v, str) else v for v in values[key]] if key in values else []
        if not values["data"]:
            del values["data"]
        return values

    @model_validator(mode="after")
    def _distinct(self) -> EvaluateConfig:
        for what, labels in (
            ("data", [d.label for d in self.data]),
            ("restorer", [r.name for r in self.restorers]),
            ("attack", [f"{a.label} ({a.norm})" for a in self.attacks]),
        ):
            twice = {label for label in labels if labels.count(label) > 1}
            if twice:
                raise ValueError(f"two {what} blocks are called {twice.pop()!r}: give them different names")
        for attack in self.attacks:
            for eps in self.eps if attack.eps is None else attack.eps:
                if attack.norm == "linf" and eps > 1 and all(d.domain != "linear" for d in self.data):
                    raise ValueError(f"eps {eps:g} is over the range of an image [0,1]: did you mean {eps:g}/255?")
        return self


class TrainConfig(Strict):
    """Training of a restorer on paired folders (``udc-robust synth`` makes them).

    Attributes:
        train, validation: folders with ``lq`` and ``gt`` in them.
        steps: optimiser steps; ``batch_size`` is the global batch over all processes.
        ema: decay of the averaged weights, which are validated and shipped.
        psf: what the card says about the captures' PSF.
    """

    name: str
    out: Path | None = None
    seed: int = 0
    network: str
    options: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    domain: Literal["srgb", "tonemapped", "linear"] = "tonemapped"
    train: Path
    validation: Path
    patch_size: Size = 64
    batch_size: Size = 8
    steps: Size = 4000
    lr: Annotated[Number, Field(gt=0)] = 1e-3
    warmup: Annotated[int, Field(ge=0)] = 100
    weight_decay: Annotated[Number, Field(ge=0)] = 0.0
    loss: Literal["l1", "charbonnier", "psnr"] = "charbonnier"
    ema: Annotated[Number, Field(ge=0, lt=1)] = 0.999
    clip_grad: Annotated[Number, Field(gt=0)] = 1.0
    validate_every: Size = 500
    save_every: Size = 200
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    licence: str = "Apache-2.0"
    about: str = ""


class DiffusionConfig(Strict):
    """Training of a purifier's diffusion model on a folder of images, best degraded ones: what it will purify.

    Attributes:
        train, validation: folders of images in [0,1].
        block_out_channels: width of each level of the U-Net; it has no attention, so it takes any size.
        max_noise_level: timesteps are drawn from 0 to here only: the little noise that purification uses.
        noise_level: what a purification uses that names no level.
        steps: optimiser steps; ``batch_size`` is the global batch over all processes.
        ema: decay of the averaged weights, which are validated and shipped.
    """

    name: str
    out: Path | None = None
    seed: int = 0
    train: Path
    validation: Path
    block_out_channels: list[Size] = Field(default_factory=lambda: [16, 32, 48, 64], min_length=1)
    layers_per_block: Size = 1
    norm_num_groups: Size = 8
    ddpm_num_steps: Size = 1000
    ddpm_beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    max_noise_level: Annotated[int, Field(ge=0)] = 150
    noise_level: Annotated[int, Field(ge=0)] = 20
    patch_size: Size = 64
    batch_size: Size = 16
    steps: Size = 2000
    lr: Annotated[Number, Field(gt=0)] = 1e-3
    warmup: Annotated[int, Field(ge=0)] = 50
    weight_decay: Annotated[Number, Field(ge=0)] = 1e-6
    ema: Annotated[Number, Field(ge=0, lt=1)] = 0.995
    clip_grad: Annotated[Number, Field(gt=0)] = 1.0
    validate_every: Size = 500
    save_every: Size = 200
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    licence: str = "Apache-2.0"
    about: str = ""

    @model_validator(mode="after")
    def _fits(self) -> DiffusionConfig:
        multiple = 2 ** (len(self.block_out_channels) - 1)
        for width in self.block_out_channels:
            if width % self.norm_num_groups:
                raise ValueError(
                    f"block_out_channels: {width} must be a multiple of norm_num_groups {self.norm_num_groups}"
                )
        if self.patch_size % multiple:
            raise ValueError(f"patch_size {self.patch_size} must be a multiple of {multiple}, one halving a level")
        if self.max_noise_level >= self.ddpm_num_steps:
            raise ValueError(f"max_noise_level {self.max_noise_level} must be below ddpm_num_steps")
        if self.noise_level > self.max_noise_level:
            raise ValueError(f"noise_level {self.noise_level} must not be above max_noise_level {self.max_noise_level}")
        return self

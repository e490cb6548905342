"""The schema of an evaluation's YAML file; those of the trainings are in `training.config`.

Numbers may be written as people write them: ``eps: 4/255``. ``step_size: eps/4`` is relative to each eps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from udc_robust.config_file import Number, Size, Strict, as_lists, number
from udc_robust.errors import UserError, unknown_name


class DataConfig(Strict):
    """Where images come from.

    Attributes:
        kind: ``embedded`` (photographs that ship with scikit-image, made into UDC pairs), ``pairs`` (folders ``lq`` and
            ``gt``), ``folder`` (``lq`` alone: damage is measured against the clean restoration).
        lq: a folder, or several folders and image files.
        domain: colour domain of the images on disk; None: what the files say (``.hdr``, ``.exr``: linear; else sRGB).
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
        access: what a gradient attack knows of a defence: ``blind`` (nothing: it attacks the bare restorer), ``bpda``
            (the identity's gradient), ``surrogate`` (a shorter chain's or a stand-in's), ``adaptive`` (the best there
            is). None: adaptive. Accesses that a defence does not have are left out, and bare restorers know none of it.
        eot: answers of a random defence that are averaged for each gradient.
        known_seed: True gives away the seeds of random defences, and only those are attacked: an upper bound.
        defences: only behind these defences (``none``: bare restorers); None: behind all.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    plain_objectives: ClassVar[tuple[str, ...]] = ("mse", "psnr")

    method: str
    access: list[Literal["blind", "bpda", "surrogate", "adaptive"]] | None = None
    eot: Size = 1
    known_seed: bool = False
    defences: list[str] | None = None
    norm: Literal["linf", "l2"] = "linf"
    eps: list[Number] | None = None
    objective: str = "mse"
    against: Literal["gt", "clean"] | None = None
    drop_db: Annotated[Number, Field(gt=0)] = 6.0
    name: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_is_a_list(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            single = (key for key in ("eps", "access", "defences") if not isinstance(values.get(key), list | None))
            values = {**values, **{key: [values[key]] for key in single}}
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
                        f"key of attack {self.method!r}", key, [*chosen.options(), *type(self).model_fields]
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
        extra = "" if self.objective in self.plain_objectives else f"-{self.objective}"
        return self.name or f"{self.method}{extra}"


class DefenceConfig(BaseModel):
    """What stands before the restorers; further keys are the kind's own options.

    Attributes:
        kind: ``purifier``, or a control such as ``blur`` or ``jpeg``; ``none``: the bare restorer.
        name: label in tables; None: the kind.
        match: another defence's name: this one's strength is tuned, for each restorer, to the same clean PSNR on the
            run's ``validation`` images.
        restorers: only before these restorers; None: before all.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str
    name: str | None = None
    match: str | None = None
    restorers: list[str] | None = None

    @model_validator(mode="after")
    def _known(self) -> DefenceConfig:
        from udc_robust.defences.registry import check_defence

        try:
            check_defence(self.kind, self.options, matched=self.match is not None)
        except UserError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The kind's own options."""
        return dict(self.model_extra or {})

    @property
    def label(self) -> str:
        """Name of the defence in tables."""
        return self.name or self.kind


class EvaluateConfig(Strict):
    """One run: data x restorers x defences x attacks x eps.

    Attributes:
        draws: answers of a random defence that are judged: their mean, the worst, and the average image count.
        validation: images on which strengths of defences with ``match`` are tuned; never those of ``data``.
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
    validation: DataConfig | None = None
    restorers: list[RestorerConfig] = Field(min_length=1)
    defences: list[DefenceConfig] = Field(default_factory=lambda: [DefenceConfig(kind="none")], min_length=1)
    draws: Size = 8
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
        mains = {"data": "kind", "restorers": "name", "defences": "kind", "attacks": "method", "eps": None}
        return as_lists(values, mains)

    @model_validator(mode="after")
    def _distinct(self) -> EvaluateConfig:
        for what, labels in (
            ("data", [d.label for d in self.data]),
            ("restorer", [r.name for r in self.restorers]),
            ("defence", [d.label for d in self.defences]),
            ("attack", [f"{a.label} ({a.norm})" for a in self.attacks]),
        ):
            twice = {label for label in labels if labels.count(label) > 1}
            if twice:
                raise ValueError(f"two {what} blocks are called {twice.pop()!r}: give them different names")
        self._check_names()
        self._check_objectives()
        for attack in self.attacks:
            for eps in self.eps if attack.eps is None else attack.eps:
                if attack.norm == "linf" and eps > 1 and all(d.domain != "linear" for d in self.data):
                    raise ValueError(f"eps {eps:g} is over the range of an image [0,1]: did you mean {eps:g}/255?")
        return self

    def _check_objectives(self) -> None:
        """Restorations have no classes."""
        from udc_robust.attacks.classification import CLASSIFICATION

        for attack in self.attacks:
            if attack.objective in CLASSIFICATION:
                raise ValueError(
                    f"objective {attack.objective!r} of attack {attack.label!r} is for classifiers, which "
                    "`udc-robust classify` attacks: restorers take mse, ssim, lpips, charbonnier or edge"
                )

    def _check_names(self) -> None:
        """Blocks that name other blocks must find them."""
        defences, restorers = [d.label for d in self.defences], [r.name for r in self.restorers]
        unmatched = [d.label for d in self.defences if d.match is None]
        named = [(f"defence of attack {a.label!r}", name, defences) for a in self.attacks for name in a.defences or []]
        for defence in self.defences:
            named += [(f"restorer of defence {defence.label!r}", name, restorers) for name in defence.restorers or []]
            if defence.match is not None:
                named.append((f"match of defence {defence.label!r}", defence.match, unmatched))
                if self.validation is None:
                    raise ValueError(
                        f"defence {defence.label!r} has `match`: give the `validation` images to tune it on"
                    )
        for what, name, known in named:
            if name not in known:
                raise ValueError(str(unknown_name(what, name, known)))

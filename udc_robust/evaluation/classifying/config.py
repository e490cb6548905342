"""The schema of a classifier study's YAML file: what differs from a restorer's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from udc_robust.attacks.classification import CLASSIFICATION
from udc_robust.config import AttackConfig, DefenceConfig
from udc_robust.config_file import Number, Size, Strict, as_lists
from udc_robust.errors import unknown_name


class ImagesConfig(Strict):
    """Labelled images.

    Attributes:
        source: a folder with a folder for each class, an archive, ``digits:test``, or ``torchvision:CIFAR10:test:ROOT``
            (see `classifiers.data.load_images`).
        name: label in tables; None: the set's own.
        side: bring images to this side in pixels.
        limit: use so many images, evenly over the set.
    """

    source: str
    name: str | None = None
    side: Size | None = None
    limit: Size | None = None


class ClassifierConfig(Strict):
    """A classifier: a shipped checkpoint, a network of ours or torchvision's, or the user's own class."""

    name: str
    network: str | None = None
    options: dict[str, Any] | None = None
    weights: str | None = None
    mean: list[float] | None = None
    std: list[float] | None = None


class ClassifierAttackConfig(AttackConfig):
    """An attack on classifiers.

    Attributes:
        objective: ``margin``, ``cross_entropy``, ``dlr``, ``divergence`` or a ``targeted_`` form, which wants the class
            after the label (the first after the last).
        jitter: deviation of Gaussian noise, in [0,1] units, that the attacker adds to what it shows a defence, so that
            its gradients are the mean over ``eot`` places near by; the attack is then judged without. This is for
            defences whose answer jumps at the smallest change.
    """

    plain_objectives: ClassVar[tuple[str, ...]] = ("margin",)

    objective: str = "margin"
    jitter: Annotated[Number, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _for_classes(self) -> ClassifierAttackConfig:
        if self.objective not in CLASSIFICATION:
            raise ValueError(
                f"objective {self.objective!r} compares images: classifiers take {', '.join(CLASSIFICATION)}"
            )
        if self.against is not None or self.drop_db != 6.0:
            raise ValueError("`against` and `drop_db` belong to restorers: a classifier is wrong or it is not")
        if self.method == "cw" and self.objective.removeprefix("targeted_") not in ("margin", "dlr"):
            raise ValueError(f"cw needs an objective that tells success: margin or dlr, not {self.objective}")
        if self.jitter and (self.known_seed or self.access == ["blind"]):
            raise ValueError("`jitter` is for gradients through a defence: leave out known_seed and access blind")
        return self


class ClassifierDefenceConfig(DefenceConfig):
    """What stands before the classifiers; ``classifiers``: only before these; None: before all."""

    classifiers: list[str] | None = None

    @model_validator(mode="after")
    def _for_classes(self) -> ClassifierDefenceConfig:
        if self.restorers is not None:
            raise ValueError("`restorers` is for `udc-robust evaluate`: write `classifiers`")
        if self.match is not None:
            raise ValueError("`match` tunes to a PSNR, which classifiers do not have: give the strength itself")
        return self


class ClassifyConfig(Strict):
    """One run: data x classifiers x defences x attacks x eps. The first classifier, undefended, is the baseline.

    Attributes:
        draws: answers of a random defence that are judged. Their averaged scores vote, as crop and padding ensembles
            are published; a single answer and the worst one are told beside.
        save_images: keep all attacked images as PNG.
        gallery: images, evenly over the data, whose pictures are kept for the report.
    """

    name: str = "classifying"
    out: Path | None = None
    seed: int = 0
    device: str = "cpu"
    batch_size: Size = 100
    data: list[ImagesConfig] = Field(min_length=1)
    classifiers: list[ClassifierConfig] = Field(min_length=1)
    defences: list[ClassifierDefenceConfig] = Field(
        default_factory=lambda: [ClassifierDefenceConfig(kind="none")], min_length=1
    )
    draws: Size = 8
    attacks: list[ClassifierAttackConfig] = Field(min_length=1)
    eps: list[Number] = Field(default_factory=lambda: [k / 255 for k in (2, 4, 8)], min_length=1)
    save_images: bool = True
    gallery: Annotated[int, Field(ge=0)] = 4

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, values: Any) -> Any:
        """``classifiers: [resnet20_clean]`` and a path as data are fine."""
        mains = {"data": "source", "classifiers": "name", "defences": "kind", "attacks": "method", "eps": None}
        return as_lists(values, mains)

    @model_validator(mode="after")
    def _consistent(self) -> ClassifyConfig:
        classifiers, defences = [c.name for c in self.classifiers], [d.label for d in self.defences]
        labels = {"classifier": classifiers, "defence": defences}
        labels["attack"] = [f"{a.label} ({a.norm})" for a in self.attacks]
        for what, found in labels.items():
            if twice := next((label for label in found if found.count(label) > 1), None):
                raise ValueError(f"two {what} blocks are called {twice!r}: give them different names")
        named = [(f"defence of attack {a.label!r}", name, defences) for a in self.attacks for name in a.defences or []]
        for defence in self.defences:
            wanted = defence.classifiers or []
            named += [(f"classifier of defence {defence.label!r}", name, classifiers) for name in wanted]
        for what, name, known in named:
            if name not in known:
                raise ValueError(str(unknown_name(what, name, known)))
        for attack in self.attacks:
            for eps in self.eps if attack.eps is None else attack.eps:
                if attack.norm == "linf" and eps > 1:
                    raise ValueError(f"eps {eps:g} is over the range of an image [0,1]: did you mean {eps:g}/255?")
        return self

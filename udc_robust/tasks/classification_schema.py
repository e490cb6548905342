"""The schema of a classification run: labelled images, classifiers, and attacks that want a wrong answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, model_validator

from udc_robust.config_file import FileName, Strict, may_load, told
from udc_robust.defences.config import DefenceConfig
from udc_robust.grid.attack_schema import AttackConfig, Eps
from udc_robust.grid.schema import RunConfig
from udc_robust.limits import Count, Side
from udc_robust.networks.short_names import named_by_file

if TYPE_CHECKING:
    from udc_robust.metrics import Metric


class ImagesConfig(Strict):
    """Labelled images.

    Attributes:
        source: a folder with a folder for each class (``{source: photos, side: 224}`` of ``photos/cat/1.png``,
            ``photos/dog/2.png``; ``udc-robust init mine.yaml --classes photos --network torchvision.models:resnet18
            --weights net.pth`` writes the whole config), an archive, ``digits:test``, or
            ``torchvision:CIFAR10:test:ROOT`` (see `classifiers.data.load_images`).
        name: label in tables; None: the set's own.
        side: bring images to this side in pixels.
        limit: use so many images, evenly over the set.
    """

    source: str
    name: str | None = None
    side: Side | None = None
    limit: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _not_of_restorers(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and {"kind", "lq", "gt"} & set(values):
            raise ValueError(
                "`kind`, `lq` and `gt` are for restorers: labelled images are `{source: FOLDER, side: 224}`, where "
                "FOLDER holds a folder of images for each class"
            )
        return values

    @property
    def label(self) -> str | None:
        """Name in tables, where it was given."""
        return self.name


class ClassifierConfig(Strict):
    """A classifier: a shipped checkpoint, a network of ours or torchvision's, or the user's own class."""

    name: str
    network: str | None = None
    options: dict[str, Any] | None = None
    weights: str | None = None
    mean: list[float] | None = None
    std: list[float] | None = None

    @model_validator(mode="before")
    @classmethod
    def _a_file_is_a_name(cls, values: Any) -> Any:
        return named_by_file(values)


class ClassificationAttack(AttackConfig):
    """An attack on classifiers.

    Attributes:
        objective: ``margin``, ``cross_entropy``, ``dlr``, ``divergence`` or a ``targeted_`` form, which wants the class
            after the label (the first after the last).
    """

    plain_objectives: ClassVar[tuple[str, ...]] = ("margin",)

    sources: list[ClassifierConfig] | None = Field(default=None, min_length=1)
    objective: str = "margin"

    def aims_at(self, metric: Metric) -> bool:
        """A label among the five best may be wrong."""
        return metric.name == "top1"

    @model_validator(mode="before")
    @classmethod
    def _not_of_images(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and {"against", "drop_db"} & set(values):
            raise ValueError("`against` and `drop_db` belong to restorers: a classifier is wrong or it is not")
        return values

    @model_validator(mode="after")
    def _for_classes(self, info: ValidationInfo) -> ClassificationAttack:
        if not may_load(self.objective, info):
            return self
        from udc_robust.attacks.classification import CLASSIFICATION
        from udc_robust.attacks.objectives import OBJECTIVES
        from udc_robust.grid.named import find_objective

        if (self.objective in OBJECTIVES and self.objective not in CLASSIFICATION) or ":" in self.objective:
            raise ValueError(
                f"objective {self.objective!r} compares images: classifiers take {', '.join(CLASSIFICATION)}"
            )
        told(lambda: find_objective(self.objective, CLASSIFICATION))
        if self.chosen.images_only:
            raise ValueError(f"attack {self.method!r} looks at the pixels of an answer: it is for restorers")
        if self.method == "cw" and self.objective.removeprefix("targeted_") not in ("margin", "dlr"):
            raise ValueError(f"cw needs an objective that tells success: margin or dlr, not {self.objective}")
        return self


class ClassificationDefence(DefenceConfig):
    """What stands before the classifiers; ``classifiers``: only before these; None: before all."""

    network_key: ClassVar[str] = "classifiers"

    classifiers: list[str] | None = None


class ClassificationConfig(RunConfig):
    """One run: data x classifiers x defences x attacks x eps. The first classifier, undefended, is the baseline.

    Attributes:
        draws: answers of a random defence that are judged. Their averaged scores vote, as crop and padding ensembles
            are published; a single answer and the worst one are told beside.
    """

    network_key: ClassVar[str] = "classifiers"
    short_forms: ClassVar[Mapping[str, str | None]] = {"data": "source", "classifiers": "name"}

    task: Literal["classification"] = "classification"
    name: FileName = "classifying"
    batch_size: Count = 100
    data: list[ImagesConfig] = Field(min_length=1)
    validation: ImagesConfig | None = None
    classifiers: list[ClassifierConfig] = Field(min_length=1)
    defences: list[ClassificationDefence] = Field(
        default_factory=lambda: [ClassificationDefence(kind="none")], min_length=1
    )
    attacks: list[ClassificationAttack] = Field(default_factory=list)
    eps: list[Eps] = Field(default_factory=lambda: [k / 255 for k in (2, 4, 8)], min_length=1)

"""The schema of a detection run: images, clean ones to learn from, detectors, and attackers who know them or do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, model_validator

from udc_robust.config_file import FileName, Number, as_lists, may_load, told
from udc_robust.detectors.config import DetectorBlock
from udc_robust.grid.attack_schema import AttackConfig, Eps
from udc_robust.grid.schema import RunConfig
from udc_robust.limits import Count
from udc_robust.names import NONE
from udc_robust.tasks.classification_schema import ClassificationDefence, ClassifierConfig, ImagesConfig
from udc_robust.tasks.restoration_schema import DataConfig, RestorerConfig

if TYPE_CHECKING:
    from udc_robust.metrics import Metric

UNDETECTED = "undetected"
_OWN = {"classifier": "margin", "restorer": "mse"}


def _labelled(block: Any) -> str:
    return "labelled" if isinstance(block, ImagesConfig) or "source" in dict(block) else "captures"


Shown = Annotated[
    Annotated[ImagesConfig, Tag("labelled")] | Annotated[DataConfig, Tag("captures")], Discriminator(_labelled)
]
"""``{source: ...}`` are labelled images for classifiers, ``{kind: ...}`` captures for restorers."""


class DetectorConfig(DetectorBlock):
    """A detector and the network that it watches.

    Attributes:
        classifier, restorer: what it watches, one of the two, as in a run of that task.
    """

    classifier: ClassifierConfig | None = None
    restorer: RestorerConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {**values, **{key: {"name": values[key]} for key in _OWN if isinstance(values.get(key), str)}}

    @model_validator(mode="after")
    def _watches_one(self) -> DetectorConfig:
        if (self.classifier is None) == (self.restorer is None):
            raise ValueError("a detector watches one network: give it `classifier` or `restorer`")
        return self

    @property
    def beside(self) -> Literal["classifier", "restorer"]:
        """What kind of network it watches."""
        return "restorer" if self.classifier is None else "classifier"


class DetectionAttack(AttackConfig):
    """An attack on what a detector watches.

    Attributes:
        objective: as for the network: ``margin``, ``cross_entropy``, ``dlr`` or ``mse``, ``ssim`` ... The attacker
            knows of no detector; with ``+undetected`` he knows it and keeps it quiet too.
        evade: how much the score counts beside the objective (for ``+undetected``): a unit of it, from the median clean
            image to the one in twenty that is flagged, against a logit or a dB.
    """

    plain_objectives: ClassVar[tuple[str, ...]] = tuple(_OWN.values())

    sources: list[ClassifierConfig] | list[RestorerConfig] | None = Field(default=None, min_length=1)
    objective: str
    evade: Annotated[Number, Field(gt=0, allow_inf_nan=False)] = 1.0

    @property
    def knows(self) -> bool:
        """Whether the attacker knows the detector."""
        return self.objective.endswith(f"+{UNDETECTED}")

    @property
    def of_network(self) -> str:
        """The objective on the network's own answer."""
        return self.objective.removesuffix(f"+{UNDETECTED}")

    def aims_at(self, metric: Metric) -> bool:
        """What stays safe falls to who knows the detector."""
        return self.knows

    @model_validator(mode="after")
    def _evading(self, info: ValidationInfo) -> DetectionAttack:
        if may_load(self.method, info) and self.knows and self.chosen.unbounded:
            raise ValueError(f"attack {self.method!r} seeks the smallest change: it takes no `+{UNDETECTED}`")
        return self


class DetectionConfig(RunConfig):
    """One run: data x detectors x attacks x eps.

    Attributes:
        clean: images that nobody attacked and nobody judges: of detectors that learn every second one is learnt from,
            the others set the levels of 1 % and 5 % of false alarms.
    """

    network_key: ClassVar[str] = "detectors"
    short_forms: ClassVar[Mapping[str, str | None]] = {"data": "source", "detectors": "kind"}

    task: Literal["detection"] = "detection"
    name: FileName = "detecting"
    batch_size: Count = 50
    data: list[Shown] = Field(min_length=1)
    clean: Shown | None = None
    detectors: list[DetectorConfig] = Field(min_length=1)
    defences: list[ClassificationDefence] = Field(
        default_factory=lambda: [ClassificationDefence(kind=NONE)], min_length=1
    )
    attacks: list[DetectionAttack] = Field(default_factory=list)
    eps: list[Eps] = Field(default_factory=lambda: [k / 255 for k in (2, 4, 8)], min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _usual_objective(cls, values: Any) -> Any:
        """An attack without `objective` climbs that of its task, and ``undetected`` alone stands for it and that."""
        values = as_lists(values, {**RunConfig.short_forms, **cls.short_forms})
        if not isinstance(values, Mapping):
            return values
        if values.get("preset") or not (values.get("attacks") or values.get("corruptions")):
            raise ValueError("a detection run takes no preset: name its `attacks`")
        blocks = [block for block in values.get("data") or [] if isinstance(block, Mapping)]
        own = _OWN["restorer" if blocks and _labelled(blocks[0]) == "captures" else "classifier"]

        def filled(block: Any) -> Any:
            if not isinstance(block, Mapping):
                return block
            said = block.get("objective") or own
            return {**block, "objective": f"{own}+{UNDETECTED}" if said == UNDETECTED else said}

        return {**values, "attacks": [filled(block) for block in values.get("attacks") or []]}

    @property
    def all_defences(self) -> list[tuple[str, dict[str, Any]]]:
        """Those that detectors are made of too."""
        return super().all_defences + [found for detector in self.detectors for found in detector.defences]

    @property
    def beside(self) -> Literal["classifier", "restorer"]:
        """What kind of network all detectors of the run watch."""
        return "classifier" if isinstance(self.data[0], ImagesConfig) else "restorer"

    @model_validator(mode="after")
    def _of_one_kind(self, info: ValidationInfo) -> DetectionConfig:
        kinds = {type(block) for block in [*self.data, *([self.clean] if self.clean else [])]}
        if len(kinds) > 1:
            raise ValueError(
                "`data` and `clean` mix labelled images (`source`) with captures (`kind`): one run, one kind"
            )
        known: dict[str, Any] = {}
        for detector in self.detectors:
            if getattr(detector, "beside", self.beside) != self.beside:
                raise ValueError(f"detector {detector.name!r} watches no {self.beside}, which the data is for")
            beside = getattr(detector, self.beside, None)
            if beside is not None and known.setdefault(beside.name, beside) != beside:
                raise ValueError(f"two different {self.beside}s are called {beside.name!r}: give them different names")
            if self.clean is None and getattr(detector, "kind", NONE) != NONE:
                raise ValueError(
                    f"detector {detector.name!r} has no `clean` images to learn from and to set its levels on: name "
                    "some that are not in `data`"
                )
        if any("before" in block.place for block in self.corruptions):
            raise ValueError(
                "a detection run takes corruptions after the optics only: whether an answer holds is told by the truth "
                "of the image as it was"
            )
        if any(block.kind != NONE for block in self.defences) or self.metrics:
            raise ValueError(
                "a detection run takes no `defences` and no `metrics`: make a defence a `residual` detector"
            )
        if may_load("", info):
            self._check_objectives()
        return self

    def _check_objectives(self) -> None:
        from udc_robust.attacks.classification import CLASSIFICATION
        from udc_robust.attacks.objectives import DISTANCES
        from udc_robust.grid.named import find_objective

        known = tuple(name for name in CLASSIFICATION if name != "divergence")
        known = known if self.beside == "classifier" else DISTANCES
        for attack in self.attacks:
            if ":" in attack.objective:
                raise ValueError(f"objective {attack.objective!r}: a detection run takes those of ours")
            told(lambda name=attack.of_network: find_objective(name, known))

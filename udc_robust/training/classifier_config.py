"""The schema of a classifier's training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from udc_robust.config_file import Number
from udc_robust.defences.config import DefenceConfig
from udc_robust.limits import Count, CountOrNone, Side
from udc_robust.training.config import Training


class ClassifierConfig(Training):
    """Training of a classifier.

    Attributes:
        train, validation: labelled images: a folder with a folder a class, ``.npz`` (`classifiers.data.read_archive`),
            ``digits:train``, or ``torchvision:CIFAR10:train:ROOT``; of the latter ``validation_limit``, evenly chosen.
        patch_size: side of the images in pixels; others are resized and cut to their middle.
        pad, flip: shifts by up to so many pixels, and mirroring.
        network, options, weights, mean, std: see `classifiers.zoo.ClassifierSpec`; the classes are counted.
        mode: ``clean``; ``transformed`` (on images in the first of ``transforms``); ``hybrid`` (originals and every
            transform, in equal parts); ``hybrid_adversarial`` (those attacked); ``madry`` (2018); ``trades`` (Zhang et
            al. 2019); ``sat`` (Sinkhorn, arXiv 2102.03156); ``xat`` and ``xvat`` (masks, arXiv 1912.01810).
        transforms: defences whose output is learnt, such as ``{kind: halftone}``; validation shows all of them.
        eps, inner_steps, step_size: of the inner PGD, Linf; None: 2.5 eps / inner_steps, at least eps/4.
        beta: weight of TRADES' divergence.
        mask_share, mask_penalty: weight of the masked images' loss, and of the pixels that masks keep.
    """

    train: Path | str  # type: ignore[assignment]
    validation: Path | str  # type: ignore[assignment]
    validation_limit: Count | None = None
    patch_size: Side = 32
    pad: CountOrNone = 4
    flip: bool = True
    network: str = "resnet20"
    options: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    mean: tuple[Number, Number, Number] | None = None
    std: tuple[Number, Number, Number] | None = None
    mode: Literal["clean", "transformed", "hybrid", "hybrid_adversarial", "madry", "trades", "sat", "xat", "xvat"] = (
        "clean"
    )
    transforms: list[DefenceConfig] = Field(default_factory=list)
    eps: Annotated[Number, Field(ge=0, le=1)] = 8 / 255
    inner_steps: Count = 7
    step_size: Annotated[Number, Field(gt=0)] | None = None
    beta: Annotated[Number, Field(gt=0)] = 6.0
    mask_share: Annotated[Number, Field(ge=0, le=1)] = 0.5
    mask_penalty: Annotated[Number, Field(ge=0)] = 1.0
    batch_size: Count = 128
    steps: Count = 3000
    lr: Annotated[Number, Field(gt=0)] = 5e-3
    weight_decay: Annotated[Number, Field(ge=0)] = 0.05
    ema: Annotated[Number, Field(ge=0, lt=1)] = 0.99

    @model_validator(mode="after")
    def _fits(self) -> ClassifierConfig:
        learns_transforms = self.mode in ("transformed", "hybrid", "hybrid_adversarial")
        if learns_transforms and not self.transforms:
            raise ValueError(f"mode {self.mode!r} needs `transforms`, for example [{{kind: halftone}}]")
        if self.mode == "transformed" and len(self.transforms) > 1:
            raise ValueError("mode 'transformed' learns one of `transforms`: name one, or choose hybrid")
        if self.patch_size <= self.pad:
            raise ValueError(f"pad {self.pad} must be below patch_size {self.patch_size}")
        return self

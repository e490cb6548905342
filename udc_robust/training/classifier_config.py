"""The schema of the YAML files that train classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from udc_robust.config_file import Number, twice_in
from udc_robust.defences.config import DefenceConfig
from udc_robust.limits import Count, CountOrNone, Side
from udc_robust.training.config import Training

ADVERSARIAL = ("hybrid_adversarial", "madry", "trades", "sat", "on_manifold")
TAUGHT = ("distilled", "student")


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
            al. 2019); ``sat`` (Sinkhorn, arXiv 2102.03156); ``xat`` and ``xvat`` (masks, arXiv 1912.01810);
            ``on_manifold`` (attacks through the first of ``transforms``, after arXiv 1912.07458, OMADA); ``gccs``
            (Gaussians at a simplex's corners, after arXiv 2010.15487); ``distilled`` (the scores of ``teacher`` under
            noise, after arXiv 2408.10647, DUCD); ``student`` (a copy of ``teacher`` with noise in its features, after
            Adaptive Noise Injection, ICPR 2020).
        transforms: defences whose output is learnt, such as ``{kind: halftone}``; validation shows all of them.
        eps, inner_steps, step_size: of the inner PGD, Linf; None: 2.5 eps / inner_steps, at least eps/4.
        imperceptible: SSIM in place of ``eps``: of random signs the largest that keep so much of it on these very
            training images.
        focal: exponent of the weight ``(1 - exp(-loss))^focal`` of an attacked image (after TAFL, ICPR 2020); 0: none.
        label_smoothing: share of an attacked image's label that is spread over all classes; not of ``trades``.
        teacher: the classifier that a ``distilled`` one or a ``student`` learns from, shipped or a file.
        temperature: at which a ``student`` is told the teacher's answer.
        sigma: noise on the images of a ``distilled`` classifier, in [0,1] image units; what it is to be smoothed with.
        target, spread: of ``gccs``: height of the corners, and standard deviation of the Gaussians at them.
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
    mode: Literal[
        "clean", "transformed", "hybrid", "hybrid_adversarial", "madry", "trades", "sat", "xat", "xvat", "on_manifold",
        "gccs", "distilled", "student",
    ] = "clean"  # fmt: skip
    transforms: list[DefenceConfig] = Field(default_factory=list)
    eps: Annotated[Number, Field(ge=0, le=1)] = 8 / 255
    inner_steps: Count = 7
    step_size: Annotated[Number, Field(gt=0)] | None = None
    imperceptible: Annotated[Number, Field(gt=0, lt=1)] | None = None
    focal: Annotated[Number, Field(ge=0, le=10)] = 0.0
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    teacher: str | None = None
    temperature: Annotated[Number, Field(gt=0)] = 4.0
    sigma: Annotated[Number, Field(ge=0, le=2)] = 0.25
    target: Annotated[Number, Field(gt=0)] = 10.0
    spread: Annotated[Number, Field(gt=0)] = 1.0
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
        learns_transforms = self.mode in ("transformed", "hybrid", "hybrid_adversarial", "on_manifold")
        if learns_transforms and not self.transforms:
            raise ValueError(f"mode {self.mode!r} needs `transforms`, for example [{{kind: halftone}}]")
        if self.mode in ("transformed", "on_manifold") and len(self.transforms) > 1:
            raise ValueError(f"mode {self.mode!r} learns one of `transforms`: name one, or choose hybrid")
        labels = ["original", *(block.label for block in self.transforms)]
        if twice := twice_in(labels):
            raise ValueError(f"two transforms are called {twice!r}: give them different names")
        if self.patch_size <= self.pad:
            raise ValueError(f"pad {self.pad} must be below patch_size {self.patch_size}")
        return self

    @model_validator(mode="after")
    def _belongs_to_its_mode(self) -> ClassifierConfig:
        if self.mode in TAUGHT and self.teacher is None:
            raise ValueError(f"mode {self.mode!r} needs a `teacher`: a shipped classifier, or the file of one")
        if self.mode not in TAUGHT and self.teacher is not None:
            raise ValueError(f"mode {self.mode!r} takes no `teacher`: remove it, or choose distilled or student")
        if self.mode == "student" and (self.weights is not None or not self.options.get("noise")):
            raise ValueError("mode 'student' begins as its `teacher`: give no `weights`, and `options: {noise: 0.2}`")
        for key, on in (("focal", self.focal > 0), ("imperceptible", self.imperceptible is not None)):
            if on and self.mode not in ADVERSARIAL:
                raise ValueError(f"{key} belongs to adversarial training, not to mode {self.mode!r}: remove it")
        if self.label_smoothing and (self.mode not in ADVERSARIAL or self.mode == "trades"):
            raise ValueError(
                f"label_smoothing is of attacked images, of which mode {self.mode!r} learns no label: remove it"
            )
        return self

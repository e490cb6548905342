"""The schema of the YAML files that train filters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from udc_robust.config_file import Number
from udc_robust.limits import Count, CountOrNone, Side
from udc_robust.training.config import Training

STRIDE = 4


class FilterConfig(Training):
    """Training of a filter: a small autoencoder that stands before classifiers.

    Attributes:
        train, validation: labelled images, as of a classifier; of the latter ``validation_limit``, evenly chosen.
        kind: ``lq_vae`` (binary latents, after arXiv 1903.09940; labels are not used) or ``atop`` (what noise and a
            mask hide, learnt against attacks through the filter and a classifier that stays; after Lin et al. 2024).
        options: of the network: ``latents``, ``width`` and ``tau`` of ``lq_vae``; ``width`` of ``atop``.
        classifier: a shipped one or a file: validation tells what it recognises; ``atop`` is attacked through it.
        patch_size, pad, flip: of the images, as of a classifier.
        lipschitz: what the ``lq_vae`` encoder's slope is drawn to.
        hidden, patch, sigma: of ``atop``: see `defences.filters.defence.MaskedFilter`.
        eps, inner_steps, step_size: of ``atop``'s inner PGD, Linf.
        warm_steps: of ``atop``: it only reconstructs until then.
        reconstruction: weight of the squared error beside ``atop``'s cross-entropy.
    """

    train: Path | str  # type: ignore[assignment]
    validation: Path | str  # type: ignore[assignment]
    validation_limit: Count | None = None
    kind: Literal["lq_vae", "atop"]
    options: dict[str, Any] = Field(default_factory=dict)
    classifier: str | None = None
    patch_size: Side = 32
    pad: CountOrNone = 2
    flip: bool = True
    lipschitz: Annotated[Number, Field(gt=0)] = 0.1
    hidden: Annotated[Number, Field(ge=0, lt=1)] = 0.2
    patch: Count = 4
    sigma: Annotated[Number, Field(ge=0, le=2)] = 0.1
    eps: Annotated[Number, Field(ge=0, le=1)] = 8 / 255
    inner_steps: Count = 2
    step_size: Annotated[Number, Field(gt=0)] | None = None
    warm_steps: CountOrNone = 0
    reconstruction: Annotated[Number, Field(ge=0)] = 20.0
    batch_size: Count = 64
    steps: Count = 1500
    lr: Annotated[Number, Field(gt=0)] = 2e-3
    ema: Annotated[Number, Field(ge=0, lt=1)] = 0.99

    @model_validator(mode="after")
    def _fits(self) -> FilterConfig:
        if self.patch_size % STRIDE:
            raise ValueError(
                f"patch_size {self.patch_size} does not divide into latents of {STRIDE} pixels: "
                f"give a multiple of {STRIDE}"
            )
        if self.patch_size <= self.pad:
            raise ValueError(f"pad {self.pad} must be below patch_size {self.patch_size}")
        if self.kind == "atop" and self.classifier is None:
            raise ValueError("kind 'atop' needs the `classifier` that it is attacked through")
        return self

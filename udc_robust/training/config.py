"""The schemas of the trainings' YAML files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from udc_robust.config_file import Number, Size, Strict


class Training(Strict):
    """What every training has.

    Attributes:
        out: folder of its state, curves and result; None: ``runs/train/NAME``.
        train, validation: folders of the data.
        steps: optimiser steps; ``batch_size`` is the global batch over all processes.
        warmup: steps in which the learning rate rises to ``lr``; a half cosine follows.
        betas: of AdamW.
        ema: decay of the averaged weights, which are validated and shipped.
        clip_grad: largest norm of the gradient.
        save_every: a training that was killed goes on from the last multiple of this.
        about: text of the model card.
    """

    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)

    name: str
    out: Path | None = None
    seed: int = 0
    train: Path
    validation: Path
    patch_size: Size = 64
    batch_size: Size = 8
    steps: Size = 4000
    lr: Annotated[Number, Field(gt=0)] = 1e-3
    warmup: Annotated[int, Field(ge=0)] = 100
    weight_decay: Annotated[Number, Field(ge=0)] = 0.0
    ema: Annotated[Number, Field(ge=0, lt=1)] = 0.999
    clip_grad: Annotated[Number, Field(gt=0)] = 1.0
    validate_every: Size = 500
    save_every: Size = 200
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    licence: str = "Apache-2.0"
    about: str = ""


class TrainConfig(Training):
    """Training of a restorer on paired folders (``udc-robust synth`` makes them).

    Attributes:
        train, validation: folders with ``lq`` and ``gt`` in them.
        weights: a file to begin with.
        domain: light the network works in.
    """

    betas: ClassVar[tuple[float, float]] = (0.9, 0.9)

    network: str
    options: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    domain: Literal["srgb", "tonemapped", "linear"] = "tonemapped"
    loss: Literal["l1", "charbonnier", "psnr"] = "charbonnier"


class DiffusionConfig(Training):
    """Training of a purifier's diffusion model on a folder of images, best degraded ones: what it will purify.

    Attributes:
        train, validation: folders of images in [0,1].
        block_out_channels: width of each level of the U-Net; it has no attention, so it takes any size.
        max_noise_level: timesteps are drawn from 0 to here only: the little noise that purification uses.
        noise_level: what a purification uses that names no level.
    """

    betas: ClassVar[tuple[float, float]] = (0.9, 0.99)

    block_out_channels: list[Size] = Field(default_factory=lambda: [16, 32, 48, 64], min_length=1)
    layers_per_block: Size = 1
    norm_num_groups: Size = 8
    ddpm_num_steps: Size = 1000
    ddpm_beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    max_noise_level: Annotated[int, Field(ge=0)] = 150
    noise_level: Annotated[int, Field(ge=0)] = 20
    batch_size: Size = 16
    steps: Size = 2000
    warmup: Annotated[int, Field(ge=0)] = 50
    weight_decay: Annotated[Number, Field(ge=0)] = 1e-6
    ema: Annotated[Number, Field(ge=0, lt=1)] = 0.995

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

"""What every training has, and the schemas of those of restorers and diffusion models; other kinds have a file each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from udc_robust.config_file import FileName, Number, Strict, told
from udc_robust.defences.config import DefenceConfig
from udc_robust.limits import Count, CountOrNone, Seed, Side, SideOrNone, require_memory
from udc_robust.names import Domain
from udc_robust.training.render_config import TrainingPairs


def _written_no(value: Any) -> Any:
    """YAML reads a plain ``no`` as false."""
    return "no" if value is False else value


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
        mixed_precision: of the arithmetic where the processor has it, see `precision`; the weights stay in float32.
        channels_last: layout of the weights; with ``bf16`` a step of NAFNet takes less than half the time on a CPU that
            has bfloat16, others gain little, and a network that calls ``view`` may refuse it.
        licence: of the weights, which follows from that of the data and the parent.
        about: text of the model card; empty: what was trained on what.
    """

    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)

    name: FileName
    out: Path | None = None
    seed: Seed = 0
    train: Path
    validation: Path
    patch_size: Side = 64
    batch_size: Count = 8
    steps: Count = 4000
    lr: Annotated[Number, Field(gt=0)] = 1e-3
    warmup: CountOrNone = 100
    weight_decay: Annotated[Number, Field(ge=0)] = 0.0
    ema: Annotated[Number, Field(ge=0, lt=1)] = 0.999
    clip_grad: Annotated[Number, Field(gt=0)] = 1.0
    validate_every: Count = 500
    save_every: Count = 200
    mixed_precision: Annotated[Literal["no", "fp16", "bf16"], BeforeValidator(_written_no)] = "no"
    channels_last: bool = False
    licence: str = "unknown"
    about: str = ""

    @model_validator(mode="after")
    def _fits_into_memory(self) -> Self:
        numbers = 4 * 3 * self.batch_size * self.patch_size**2  # the batch, its target, an answer and a gradient
        told(lambda: require_memory(numbers, f"a batch_size of {self.batch_size} with patch_size {self.patch_size}"))
        return self


class PairTraining(Training):
    """What trainings on paired folders (``udc-robust synth`` makes them) have.

    Attributes:
        train, validation: folders with ``lq`` and ``gt`` in them; ``train`` may be a block of `Renders`.
        loss: between restoration and ground truth; ``psnr`` is NAFNet's own.
        tile: side of the tiles in px in which validation takes larger images through the restorer; 0: whole.
    """

    betas: ClassVar[tuple[float, float]] = (0.9, 0.9)

    train: TrainingPairs  # type: ignore[assignment]
    loss: Literal["l1", "l2", "charbonnier", "psnr"] = "charbonnier"
    tile: SideOrNone = 0

    @model_validator(mode="after")
    def _tiles_overlap(self) -> Self:
        if 0 < self.tile < 64:
            raise ValueError(
                f"tile {self.tile} leaves no middle between its overlaps: 0 for whole images, or 64 and more"
            )
        return self

    @property
    def tile_overlap(self) -> int:
        """A quarter, in steps of 16 px: how far a network looks is not known before it has learnt."""
        return self.tile // 64 * 16


class TrainConfig(PairTraining):
    """Training of a restorer.

    Attributes:
        weights: a file to begin with.
        domain: colour domain the network works in.
        degradation: a defence such as ``{kind: halftone}`` that makes the degraded images from ``gt``, in place of
            ``lq``: the network learns to undo it.
    """

    network: str
    options: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    domain: Domain = "tonemapped"
    degradation: DefenceConfig | None = None


class DiffusionConfig(Training):
    """Training of a purifier's diffusion model on a folder of images, best degraded ones: what it will purify.

    Attributes:
        train, validation: folders of images in [0,1], or archives of labelled ones (`.npz`, see
            `classifiers.data.read_archive`); of the latter ``validation_limit``, evenly chosen.
        block_out_channels: width of each level of the U-Net; it has no attention, so it takes any size.
        max_noise_level: timesteps are drawn from 0 to here only: the little noise that purification uses.
        noise_level: what a purification uses that names no level.
    """

    betas: ClassVar[tuple[float, float]] = (0.9, 0.99)

    validation_limit: Count | None = None
    block_out_channels: list[Annotated[Count, Field(le=2048)]] = Field(
        default_factory=lambda: [16, 32, 48, 64], min_length=1, max_length=12
    )
    layers_per_block: Annotated[Count, Field(le=16)] = 1
    norm_num_groups: Count = 8
    ddpm_num_steps: Count = 1000
    ddpm_beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    max_noise_level: CountOrNone = 150
    noise_level: CountOrNone = 20
    batch_size: Count = 16
    steps: Count = 2000
    warmup: CountOrNone = 50
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

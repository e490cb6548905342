"""The schemas of the YAML files of trainings on pictures; that of classifiers is `classifier_config`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from udc_robust.config_file import FileName, Number, Strict, may_load, told
from udc_robust.defences.config import DefenceConfig
from udc_robust.limits import Count, CountOrNone, Seed, Side, require_memory
from udc_robust.names import LEARNT, Domain
from udc_robust.training.render_config import Renders, TrainingPairs


def _range(value: Any) -> Any:
    """A single number is a range of itself."""
    return value if isinstance(value, list | tuple) else [value, value]


def _written_no(value: Any) -> Any:
    """YAML reads a plain ``no`` as false."""
    return "no" if value is False else value


Range = Annotated[tuple[Number, Number], BeforeValidator(_range)]
LevelRange = Annotated[tuple[CountOrNone, CountOrNone], BeforeValidator(_range)]


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
        mixed_precision: of the arithmetic; the weights stay in float32.
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
    """

    betas: ClassVar[tuple[float, float]] = (0.9, 0.9)

    train: TrainingPairs  # type: ignore[assignment]
    loss: Literal["l1", "l2", "charbonnier", "psnr"] = "charbonnier"


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


class PurifierConfig(Strict):
    """The purifier in front of a restorer that is fine-tuned.

    Attributes:
        name: a shipped purifier, or the folder of one.
        noise_level: timestep, or the range from which each step draws one.
        samples: purified draws that are averaged.
        access: how the inner attack's gradient gets through: ``adaptive`` (exact) or ``bpda`` (identity).
    """

    name: str = "purifier_mini"
    noise_level: LevelRange = (20, 20)
    samples: Count = 1
    access: Literal["adaptive", "bpda"] = "adaptive"

    @property
    def deployed_level(self) -> int:
        """The middle of the range: what validation, card and users take."""
        return sum(self.noise_level) // 2


class FinetuneConfig(PairTraining):
    """Fine-tuning of a restorer against attacks.

    Attributes:
        parent: a shipped checkpoint or a weights file; ``network`` and ``options`` where the file does not say them.
        domain: colour domain the network works in; None: what the parent says.
        recipe: ``purified`` (Sensors 2025, 25(11), 3386: learn the purifier's images), ``adversarial`` (Madry et al.
            2018), ``trades`` (Zhang et al. 2019), ``both`` (attacks made and learnt through the purifier), ``purifier``
            (it learns, the restorer stays), ``gradient_norm`` (first-order damage), ``noise`` (its norm: the control),
            ``optics`` (renders through displays within ``train.tolerances``),
            ``jammer`` (captures after a ``channel``: what is reached there bounds what any attack training can hold).
        channel: of ``jammer``, see `attacks.channels`: ``blur``, ``fields``, ``signs``, ``bins``, ``learnt`` beside the
            restorer, or the file of a learnt one.
        norm, eps: the budget, or the range from which each step draws one.
        inner_steps, step_size: of the inner PGD; None: 2.5 eps / inner_steps, at least eps/4.
        beta: weight of the distance between clean and attacked restoration (``trades``), or of the first-order damage
            (``gradient_norm``).
        focal: exponent of the weight ``(1 - exp(-loss))^focal`` of an attacked image (after TAFL, ICPR 2020); 0: none.
        plain_share: share of the rows that stay as they are.
        perceptual: weight of the distance of VGG-19 features.
        colour_jitter: largest relative change of a colour channel, the same for capture and ground truth.
        validation_eps, validation_crops, validation_size: the PGD-10 of each validation.
    """

    parent: str
    network: str | None = None
    options: dict[str, Any] | None = None
    domain: Domain | None = None
    recipe: Literal[
        "purified", "adversarial", "trades", "both", "purifier", "gradient_norm", "noise", "jammer", "optics"
    ]
    channel: str | None = None
    purifier: PurifierConfig | None = None
    norm: Literal["linf", "l2"] = "linf"
    eps: Range = (4 / 255, 4 / 255)
    inner_steps: Count = 3
    step_size: Annotated[Number, Field(gt=0)] | None = None
    beta: Annotated[Number, Field(gt=0)] = 1.0
    focal: Annotated[Number, Field(ge=0, le=10)] = 0.0
    plain_share: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    perceptual: Annotated[Number, Field(ge=0)] = 0.0
    colour_jitter: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    patch_size: Side = 128
    batch_size: Count = 4
    steps: Count = 800
    lr: Annotated[Number, Field(gt=0)] = 5e-4
    warmup: CountOrNone = 50
    ema: Annotated[Number, Field(ge=0, lt=1)] = 0.995
    validation_eps: Annotated[Number, Field(gt=0)] = 4 / 255
    validation_crops: Count = 8
    validation_size: Side = 128

    @model_validator(mode="before")
    @classmethod
    def _one_purifier(cls, values: Any) -> Any:
        """``purifier: purifier_mini`` is fine."""
        if isinstance(values, Mapping) and isinstance(values.get("purifier"), str):
            return {**values, "purifier": {"name": values["purifier"]}}
        return values

    @model_validator(mode="after")
    def _fits(self, info: ValidationInfo) -> FinetuneConfig:
        through = self.recipe in ("purified", "both", "purifier")
        if through and self.purifier is None:
            raise ValueError(f"recipe {self.recipe!r} needs a `purifier`: purifier_mini or the folder of one")
        if not through and self.purifier is not None:
            raise ValueError(f"recipe {self.recipe!r} takes no `purifier`: remove it, or choose purified or both")
        if self.purifier and self.recipe == "purifier" and len(set(self.purifier.noise_level)) > 1:
            raise ValueError("recipe 'purifier' trains at one `purifier.noise_level`, the one to deploy: give a number")
        self._check_channel(info)
        if self.focal and (self.recipe not in ("adversarial", "trades", "both", "purifier") or self.loss == "psnr"):
            raise ValueError("focal weights attacked images of loss l1, l2 or charbonnier: leave it out here")
        if self.recipe == "optics" and not (isinstance(self.train, Renders) and self.train.tolerances):
            raise ValueError("recipe 'optics' needs `train: {sources: hdr, tolerances: {turn: 2}}`, or more tolerances")
        if self.recipe == "trades" and self.loss == "psnr":
            raise ValueError("recipe 'trades' takes loss l1, l2 or charbonnier: psnr has no value for equal images")
        ranges = [("eps", self.eps)] + ([("purifier.noise_level", self.purifier.noise_level)] if self.purifier else [])
        for key, (low, high) in ranges:
            if not 0 <= low <= high < float("inf"):
                raise ValueError(f"{key} must rise from its first number to its second, not [{low:g}, {high:g}]")
        highest = self.eps[1]
        if self.norm == "linf" and highest > 1:
            raise ValueError(f"eps {highest:g} is over the range of an image [0,1]: did you mean {highest:g}/255?")
        return self

    def _check_channel(self, info: ValidationInfo) -> None:
        """A jammer has one, and nobody else."""
        if (self.channel is None) == (self.recipe == "jammer"):
            raise ValueError(
                "recipe 'jammer' needs a `channel`: blur, fields, signs, bins, learnt or the file of a learnt one"
                if self.channel is None
                else f"`channel` belongs to recipe 'jammer': leave it out of recipe {self.recipe!r}"
            )
        if self.channel is None:
            return
        if self.norm != "linf" or self.eps[0] != self.eps[1]:
            raise ValueError("recipe 'jammer' has one budget, `norm: linf` and one `eps`: a channel is fixed")
        if self.channel == LEARNT and self.plain_share:
            raise ValueError("channel 'learnt' sees every row: leave out `plain_share`")
        if self.channel != LEARNT and may_load(self.channel, info):
            from udc_robust.attacks.channels import find_channel

            find_channel(self.channel)

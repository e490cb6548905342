"""The schema of the YAML files of fine-tunings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from udc_robust.config_file import Number, Strict, may_load
from udc_robust.limits import Count, CountOrNone, Side
from udc_robust.names import LEARNT, Domain
from udc_robust.training.config import PairTraining
from udc_robust.training.render_config import Renders


def _range(value: Any) -> Any:
    """A single number is a range of itself."""
    return value if isinstance(value, list | tuple) else [value, value]


Range = Annotated[tuple[Number, Number], BeforeValidator(_range)]
LevelRange = Annotated[tuple[CountOrNone, CountOrNone], BeforeValidator(_range)]


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


Objectives = Annotated[
    list[Literal["mse", "ssim", "charbonnier", "edge", "lpips_alex", "lpips_squeeze"]],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    Field(min_length=1),
]


ATTACKING = ("adversarial", "distilled", "trades", "both", "purifier")
"""The recipes with an inner attack."""

BELONGS: dict[str, tuple[tuple[str, ...], str]] = {
    "purifier": (("purified", "both", "purifier"), "purifier_mini or the folder of one"),
    "channel": (("jammer",), "blur, fields, signs, bins, jammer_mini, learnt or the file of a learnt one"),
    "teacher": (("distilled",), "a shipped checkpoint or mean, or a weights file"),
}
"""Keys that some recipes need and the others do not know: which, and what to write there."""


class FinetuneConfig(PairTraining):
    """Fine-tuning of a restorer against attacks.

    Attributes:
        parent: a shipped checkpoint or a weights file; ``network`` and ``options`` where the file does not say them.
        grow: options of a larger network that begins as the parent, which is smaller: see `training.grown`.
        domain: colour domain the network works in; None: what the parent says.
        recipe: ``purified`` (Sensors 2025, 25(11), 3386: learn the purifier's images), ``adversarial`` (Madry et al.
            2018), ``distilled`` (the same, and the answers of a ``teacher``: Goldblum et al. 2020), ``trades`` (Zhang
            et al. 2019), ``both`` (attacks made and learnt through the purifier), ``purifier`` (it learns, the restorer
            stays), ``gradient_norm`` (first-order damage), ``noise`` (its norm: the control), ``optics`` (renders
            through displays within ``train.tolerances``), ``jammer`` (captures after a ``channel``: what is reached
            there bounds what any attack training can hold).
        channel: of ``jammer``, see `attacks.channels`: ``blur``, ``fields``, ``signs``, ``bins``, ``learnt`` beside the
            restorer, a learnt one that ships or the file of one.
        norm, eps: the budget, or the range from which each step draws one.
        inner_steps, step_size: of the inner PGD; None: 2.5 eps / inner_steps, at least eps/4.
        objectives: what the inner PGD climbs; of several, each step draws one.
        teacher: of ``distilled``: a shipped checkpoint or mean, or a weights file, larger or hardened for longer.
        beta: weight of the distance between clean and attacked restoration (``trades``), to the teacher's answers
            (``distilled``), or of the first-order damage (``gradient_norm``, whose loss is PSNR).
        focal: exponent of the weight ``(1 - exp(-loss))^focal`` of an attacked image (after TAFL, ICPR 2020); 0: none.
        plain_share: share of the rows that stay as they are.
        perceptual: weight of a perceptual distance.
        features: whose: of VGG-19 (the paper's; left out with a word where it is not on disk), or LPIPS' AlexNet or
            SqueezeNet. Judge by another one.
        colour_jitter: largest relative change of a colour channel, the same for capture and ground truth.
        validation_eps, validation_crops, validation_size: the PGD-10 of each validation.
    """

    parent: str
    network: str | None = None
    options: dict[str, Any] | None = None
    grow: dict[str, Any] | None = None
    domain: Domain | None = None
    recipe: Literal[
        "purified", "adversarial", "distilled", "trades", "both", "purifier", "gradient_norm", "noise", "jammer",
        "optics",
    ]  # fmt: skip
    teacher: str | None = None
    channel: str | None = None
    purifier: PurifierConfig | None = None
    norm: Literal["linf", "l2"] = "linf"
    eps: Range = (4 / 255, 4 / 255)
    inner_steps: Count = 3
    step_size: Annotated[Number, Field(gt=0)] | None = None
    beta: Annotated[Number, Field(gt=0)] = 1.0
    objectives: Objectives = ["mse"]  # noqa: RUF012  pydantic copies it
    focal: Annotated[Number, Field(ge=0, le=10)] = 0.0
    plain_share: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    perceptual: Annotated[Number, Field(ge=0)] = 0.0
    features: Literal["vgg19", "alex", "squeeze"] = "vgg19"
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

    @property
    def lpips_objectives(self) -> list[str]:
        """The backbones of LPIPS that inner attacks climb."""
        return [name.removeprefix("lpips_") for name in self.objectives if name.startswith("lpips_")]

    @model_validator(mode="before")
    @classmethod
    def _one_purifier(cls, values: Any) -> Any:
        """``purifier: purifier_mini`` is fine."""
        if isinstance(values, Mapping) and isinstance(values.get("purifier"), str):
            return {**values, "purifier": {"name": values["purifier"]}}
        return values

    @model_validator(mode="after")
    def _fits(self, info: ValidationInfo) -> FinetuneConfig:
        self._has_what_belongs()
        if self.grow and self.recipe == "purifier":
            raise ValueError("recipe 'purifier' leaves the restorer as it is: leave out `grow`")
        if self.purifier and self.recipe == "purifier" and len(set(self.purifier.noise_level)) > 1:
            raise ValueError("recipe 'purifier' trains at one `purifier.noise_level`, the one to deploy: give a number")
        self._check_channel(info)
        attacks = self.recipe in ATTACKING
        if self.objectives != ["mse"] and not attacks:
            raise ValueError(f"recipe {self.recipe!r} makes no attack: leave out `objectives`")
        if self.recipe == "gradient_norm" and self.mixed_precision != "no":
            raise ValueError(
                "recipe 'gradient_norm' takes `mixed_precision: no`: torch may crash in its second derivative"
            )
        own_loss = self.loss == "psnr" or "loss" not in self.model_fields_set
        if self.recipe == "gradient_norm" and (self.perceptual or not own_loss):
            raise ValueError("recipe 'gradient_norm' has a loss of its own, in dB: leave out `perceptual` and `loss`")
        if self.recipe in ("gradient_norm", "optics") and self.plain_share:
            raise ValueError(f"recipe {self.recipe!r} treats every row alike: leave out `plain_share`")
        if self.focal and (not attacks or self.loss == "psnr"):
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

    def _has_what_belongs(self) -> None:
        for key, (recipes, what) in BELONGS.items():
            if (getattr(self, key) is None) == (self.recipe in recipes):
                raise ValueError(
                    f"recipe {self.recipe!r} needs a `{key}`: {what}"
                    if self.recipe in recipes
                    else f"recipe {self.recipe!r} takes no `{key}`: leave it out, or choose {' or '.join(recipes)}"
                )

    def _check_channel(self, info: ValidationInfo) -> None:
        """A jammer's is fixed, and exists."""
        if self.channel is None:
            return
        if self.norm != "linf" or self.eps[0] != self.eps[1]:
            raise ValueError("recipe 'jammer' has one budget, `norm: linf` and one `eps`: a channel is fixed")
        if self.channel == LEARNT and self.plain_share:
            raise ValueError("channel 'learnt' sees every row: leave out `plain_share`")
        if self.channel != LEARNT and may_load(self.channel, info):
            from udc_robust.attacks.channels import find_channel

            find_channel(self.channel)

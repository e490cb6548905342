"""What a user may ask of a purification, checked as it is read, and what that comes to for one diffusion model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from udc_robust.config_file import Number, Strict, check_config
from udc_robust.defences.purifier.schedule import NoiseSchedule
from udc_robust.limits import Count, CountOrNone

Sampler = Literal["one_step", "ddim", "ancestral"]


class PurifyOptions(Strict):
    """How much noise is added, and how it is taken away again.

    Attributes:
        noise_level: timestep up to which the image is noised; None (and no other): the model's own.
        sigma: the noise in [0,1] image units instead.
        strength: the share of the whole chain instead.
        sampler: ``one_step`` (posterior mean), ``ddim`` or ``ancestral`` (every level with fresh noise).
        steps: model calls of a sample; None: 1, 5 or all levels, by the sampler.
        samples: purified draws to average; four gain about 3 dB over one.
        eta: fresh noise of ``ddim``.
    """

    noise_level: CountOrNone | None = None
    sigma: Annotated[Number, Field(gt=0)] | None = None
    strength: Annotated[Number, Field(ge=0, lt=1)] | None = None
    sampler: Sampler = "one_step"
    steps: Count | None = None
    samples: Count = 1
    eta: Annotated[Number, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="after")
    def _go_together(self) -> PurifyOptions:
        if sum(value is not None for value in (self.noise_level, self.sigma, self.strength)) > 1:
            raise ValueError("give one of noise_level, sigma and strength")
        if self.sampler == "one_step" and self.steps not in (None, 1):
            raise ValueError(f"sampler one_step takes one step, not {self.steps}: choose ddim")
        if self.eta > 0 and self.sampler != "ddim":
            raise ValueError(f"eta belongs to ddim, not to {self.sampler}")
        return self

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> PurifyOptions:
        """Check options.

        Raises:
            UserError: an unknown one, or values that do not go together.
        """
        return check_config(options, cls, "purification")

    def plan(self, schedule: NoiseSchedule, usual_level: int = 0) -> Plan:
        """The plan for one model.

        Raises:
            UserError: more noise than its schedule has, or more steps than there are levels.
        """
        if self.sigma is not None:
            level = schedule.level_of_sigma(self.sigma)
        elif self.strength is not None:
            level = schedule.level_of_strength(self.strength)
        else:
            level = usual_level if self.noise_level is None else self.noise_level
        schedule.checked(level)
        usual_steps = {"one_step": 1, "ddim": min(5, level + 1), "ancestral": level + 1}[self.sampler]
        steps = usual_steps if self.steps is None else self.steps
        schedule.timesteps(level, steps)  # tells impossible ones
        return Plan(level, self.sampler, steps, self.samples, 1.0 if self.sampler == "ancestral" else self.eta)


@dataclass(frozen=True)
class Plan:
    """What a purifier does with each image: `PurifyOptions` with everything filled in; ``ancestral`` has eta 1."""

    noise_level: int
    sampler: Sampler
    steps: int
    samples: int
    eta: float

    @property
    def nfe(self) -> int:
        """Model calls for one purified image."""
        return self.steps * self.samples

    @property
    def draws(self) -> int:
        """Noise fields of one sample: one for the noising, and one a noisy step; the last step adds none."""
        return 1 + (self.steps - 1 if self.eta > 0 else 0)


class PurifierOptions(PurifyOptions):
    """A purifier as a defence, also with guidance.

    Attributes:
        purifier: a shipped one by name, or the folder of one.
        low_frequency: keep the input's frequencies under this radius in pixels; they carry their perturbation along.
        gdmp: pull each noisy step toward the input by this distance; only a sampler with fresh noise has any.
        gdmp_eps, gdmp_scale: see `guidance.gdmp`.
        agdm: pull each noisy step toward the input in the features of this robust network instead: a shipped
            classifier or restorer, or a weights file that a training of ours wrote.
        agdm_scale, agdm_classes: see `guidance.agdm`; only a classifier has classes.
    """

    purifier: str
    low_frequency: Annotated[Number, Field(gt=0)] | None = None
    gdmp: Literal["mse", "ssim"] | None = None
    gdmp_eps: Annotated[Number, Field(gt=0)] = 4 / 255
    gdmp_scale: Annotated[Number, Field(gt=0)] = 60_000.0
    agdm: str | None = None
    agdm_scale: Annotated[Number, Field(ge=0)] = 100.0
    agdm_classes: Annotated[Number, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _guides_noise(self) -> PurifierOptions:
        for guide in filter(None, ("gdmp" if self.gdmp else "", "agdm" if self.agdm else "")):
            if self.sampler != "ancestral" and not self.eta:
                raise ValueError(f"{guide} guides noisy steps: use sampler ancestral, or ddim with eta above 0")
        if self.gdmp and self.agdm:
            raise ValueError("give one of gdmp and agdm")
        return self

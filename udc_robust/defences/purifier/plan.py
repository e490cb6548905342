"""What a purifier does with each image: how much noise, which sampler, how many steps and samples."""

from __future__ import annotations

from dataclasses import dataclass

from udc_robust.errors import UserError, unknown_name

SAMPLERS = ("one_step", "ddim", "ancestral")


@dataclass(frozen=True)
class Plan:
    """What a purifier does with each image.

    Attributes:
        noise_level: timestep up to which the image is noised.
        sampler: ``one_step``, ``ddim`` or ``ancestral`` (eta 1).
        steps: model calls of a sample.
        samples: purified draws that are averaged.
        eta: fresh noise of ``ddim``, 0..1.
    """

    noise_level: int
    sampler: str = "one_step"
    steps: int = 1
    samples: int = 1
    eta: float = 0.0

    @classmethod
    def of(
        cls, noise_level: int, sampler: str = "one_step", steps: int | None = None, samples: int = 1, eta: float = 0.0
    ) -> Plan:
        """Fill in the steps (all levels for ``ancestral``, 5 for ``ddim``) and check that the parts go together.

        Raises:
            UserError: an unknown sampler, or numbers that it cannot use.
        """
        if sampler not in SAMPLERS:
            raise unknown_name("sampler", sampler, SAMPLERS)
        if steps is None:
            steps = {"one_step": 1, "ddim": min(5, noise_level + 1), "ancestral": noise_level + 1}[sampler]
        if sampler == "one_step" and steps != 1:
            raise UserError(f"sampler one_step takes one step, not {steps}: choose ddim")
        if not 1 <= steps <= noise_level + 1:
            raise UserError(f"steps must be in 1..{noise_level + 1} for noise_level {noise_level}, not {steps}")
        if samples < 1:
            raise UserError(f"samples must be 1 or more, not {samples}")
        if not 0 <= eta <= 1 or (eta > 0 and sampler != "ddim"):
            raise UserError(f"eta must be in [0,1] and belongs to ddim, not {eta:g} with {sampler}")
        return cls(noise_level, sampler, steps, samples, 1.0 if sampler == "ancestral" else eta)

    @property
    def nfe(self) -> int:
        """Model calls for one purified image."""
        return self.steps * self.samples

    @property
    def draws(self) -> int:
        """Noise fields of one sample: one for the noising, and one a noisy step; the last step adds none."""
        return 1 + (self.steps - 1 if self.eta > 0 else 0)

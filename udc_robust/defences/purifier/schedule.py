"""How much noise a purifier adds, in the three ways people say it, and which timesteps it walks back.

``noise_level`` is a timestep (an index of ``alphas_cumprod``), ``sigma`` the noise's standard deviation in [0,1] image
units, ``strength`` the share of the whole chain. The same integer means another noise under another schedule: sigma is
what compares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from udc_robust.errors import UserError


@dataclass(frozen=True)
class NoiseSchedule:
    """The product of (1 - beta) up to each timestep, as plain numbers: no device, no state.

    Attributes:
        alphas_cumprod: falling, in (0,1]; index 0 is the least noisy timestep. Index -1 stands for the clean image.
    """

    alphas_cumprod: tuple[float, ...]

    @classmethod
    def of(cls, alphas_cumprod: Sequence[float]) -> NoiseSchedule:
        """Take the values of a diffusers scheduler's ``alphas_cumprod``."""
        return cls(tuple(float(alpha) for alpha in alphas_cumprod))

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def alpha(self, timestep: int) -> float:
        """``alphas_cumprod`` at a timestep; 1 for the clean image (-1)."""
        return 1.0 if timestep < 0 else self.alphas_cumprod[timestep]

    def sigma(self, noise_level: int) -> float:
        """Noise of a level in [0,1] image units; the model's own range [-1,1] is twice as wide, hence the half."""
        alpha = self.alpha(noise_level)
        return 0.5 * math.sqrt((1 - alpha) / alpha)

    def strength(self, noise_level: int) -> float:
        """Share of the chain that a level stands for, as diffusers' image-to-image pipelines count it."""
        return noise_level / len(self)

    def level_of_sigma(self, sigma: float) -> int:
        """The smallest level with at least this noise (Carlini et al. 2023, "(Certified!!)", Algorithm 1).

        Raises:
            UserError: not a positive number, or more noise than the schedule has.
        """
        if not 0 < sigma < math.inf:
            raise UserError(f"sigma must be positive and finite, in [0,1] image units, not {sigma}")
        for level in range(len(self)):
            if self.sigma(level) >= sigma * (1 - 1e-9):  # a sigma that `sigma()` printed must come back to its level
                return level
        raise UserError(f"sigma {sigma:g} is more noise than the schedule's {self.sigma(len(self) - 1):g}: lower it")

    def level_of_strength(self, strength: float) -> int:
        """The level nearest to a share of the chain.

        Raises:
            UserError: not in [0,1).
        """
        if not 0 <= strength < 1:
            raise UserError(f"strength must be in [0,1), not {strength}")
        return min(round(strength * len(self)), len(self) - 1)

    def checked(self, noise_level: int) -> int:
        """The level itself.

        Raises:
            UserError: the schedule has no such level.
        """
        if not 0 <= noise_level < len(self):
            raise UserError(f"noise_level must be in 0..{len(self) - 1}, not {noise_level}")
        return noise_level

    def timesteps(self, noise_level: int, steps: int) -> tuple[int, ...]:
        """``steps`` timesteps, evenly spread from ``noise_level`` down to the clean image, which is left out.

        All levels are walked when ``steps`` is ``noise_level + 1``. Where it divides evenly, the steps are those of
        diffusers' "trailing" spacing.

        Raises:
            UserError: fewer than one step, or more than there are levels.
        """
        levels = noise_level + 1
        if not 1 <= steps <= levels:
            raise UserError(f"steps must be in 1..{levels} for noise_level {noise_level}, not {steps}")
        return tuple(round(levels * (steps - i) / steps) - 1 for i in range(steps))

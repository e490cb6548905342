"""A scene photographed through a display, differentiable from end to end: shift of the camera, blur, noise, bits.

What an attacker who works in the scene (a poster, a screen) must get through. Rounding has no slope: its gradient is
that of the identity (straight-through estimator, Bengio et al. 2013), and nothing else is approximated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from udc_robust.optics.capture import MAX_RADIANCE, Blur, recorded, tone_map

BITS = (8, 10)


@dataclass(frozen=True)
class Exposure:
    """What differs between two photographs of one scene.

    Attributes:
        normal: ``(B,3,H,W)`` standard normal numbers, of which the sensor's noise is made; None: no noise.
        shift: ``(B,2)`` where the camera stands, down and right in px; None: at its place.
    """

    normal: Tensor | None = None
    shift: Tensor | None = None


@dataclass(frozen=True)
class Photograph:
    """A camera behind a display.

    Attributes:
        blur: the display's; the scene's border stands for what lies beyond it.
        shot, read: noise, see `capture.capture`.
        bits: of a tone-mapped value in the file, 8 or 10; None: no rounding.
        shift_px: the camera stands up to so many pixels off its place, down and right each.
    """

    blur: Blur
    shot: float = 0.0
    read: float = 0.0
    bits: int | None = 8
    shift_px: float = 0.0

    @property
    def noisy(self) -> bool:
        """Whether the sensor has noise."""
        return self.shot > 0 or self.read > 0

    @property
    def random(self) -> bool:
        """Whether two photographs of one scene differ."""
        return self.noisy or self.shift_px > 0

    def __call__(self, scene: Tensor, exposure: Exposure) -> tuple[Tensor, Tensor]:
        """The capture, and the true picture of what the camera looked at: both tone-mapped ``(B,3,H,W)``.

        Args:
            scene: radiance ``(B,3,H,W)`` in [0,500].
        """
        seen = scene if exposure.shift is None else shifted(scene, exposure.shift)
        light = self.blur(seen).clamp(min=0)
        capture = tone_map(recorded(light, exposure.normal, self.shot, self.read))
        return capture if self.bits is None else rounded(capture, self.bits), tone_map(seen.clamp(0, MAX_RADIANCE))


def shifted(scene: Tensor, shift: Tensor) -> Tensor:
    """Images ``(B,C,H,W)`` seen from ``(B,2)`` px further down and right, bilinear; the border stands for what is new.

    Interpolation and a display's blur commute: to move the scene is to move the camera, but at the border.
    """
    height, width = scene.shape[-2:]
    rows = torch.arange(height, dtype=scene.dtype, device=scene.device)[None] + shift[:, :1]
    columns = torch.arange(width, dtype=scene.dtype, device=scene.device)[None] + shift[:, 1:]
    down, right = (2 * rows + 1) / height - 1, (2 * columns + 1) / width - 1
    grid = torch.stack([right[:, None, :].expand(-1, height, -1), down[:, :, None].expand(-1, -1, width)], -1)
    return F.grid_sample(scene, grid, mode="bilinear", padding_mode="border", align_corners=False)


def rounded(image: Tensor, bits: int) -> Tensor:
    """Values in [0,1] at ``2**bits`` levels, with the gradient of the identity (straight through)."""
    levels = 2**bits - 1
    return image + (torch.round(image * levels) / levels - image).detach()

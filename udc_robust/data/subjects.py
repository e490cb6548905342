"""What the embedded photographs show: as they are, at night, or with small bright lights in them.

Both are made: a display in front of a camera shows where little light stands beside much, and photographs of eight bits
have no such places. Lamps are discs whose places, sizes, colours and radiances come from the photograph's name.
"""

from __future__ import annotations

import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor

from udc_robust.optics.capture import MAX_RADIANCE, expand_highlights

SUBJECTS = ("photographs", "night", "highlights")
_MOONLIGHT = (0.06, 0.075, 0.1)  # of the day's red, green and blue


def subject_of(photo: Tensor, subject: str, name: str) -> Tensor:
    """The light ``(3,H,W)`` in [0,500] of a photograph ``(3,H,W)`` of linear light in [0,1].

    Args:
        subject: one of `SUBJECTS`: ``night`` keeps less than a tenth of the day's light, bluish, and has a dozen lamps;
            ``highlights`` adds eight small and very bright ones to the day.
        name: of the photograph: it places the lamps.
    """
    if subject == "night":
        dark = photo * photo.new_tensor(_MOONLIGHT).view(3, 1, 1)
        return (dark + _lamps(photo, 12, (2.0, 40.0), name)).clamp(max=MAX_RADIANCE)
    day = expand_highlights(photo)
    if subject == "highlights":
        return (day + _lamps(photo, 8, (60.0, 300.0), name)).clamp(max=MAX_RADIANCE)
    return day


def _lamps(like: Tensor, count: int, radiances: tuple[float, float], name: str) -> Tensor:
    """So many discs of 1 to 4 px radius, from white to orange."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
    generator = torch.Generator().manual_seed(seed)
    height, width = like.shape[-2:]
    rows, columns = torch.arange(height).view(-1, 1), torch.arange(width).view(1, -1)
    light = torch.zeros_like(like)
    for top, left, size, power, warmth in torch.rand(count, 5, generator=generator).tolist():
        radius = 1 + 3 * size
        apart = ((rows - top * (height - 1)) ** 2 + (columns - left * (width - 1)) ** 2).sqrt()
        disc = (radius + 0.5 - apart).clamp(0, 1)  # its rim is smooth over a pixel
        low, high = radiances
        colour = torch.tensor([1.0, 1 - 0.4 * warmth, 1 - 0.8 * warmth]).view(3, 1, 1)
        light += low * (high / low) ** power * colour * disc
    return light


def smaller(photo: Tensor, side: int) -> Tensor:
    """A photograph of linear light whose shorter side has so many px: the mean of the light that falls on each."""
    height, width = photo.shape[-2:]
    scale = side / min(height, width)
    size = (round(height * scale), round(width * scale))
    return F.interpolate(photo[None], size, mode="area")[0] if scale < 1 else photo

"""The colour domain an image is stated in, and the conversions between them.

``linear``: scene radiance 0..500. ``tonemapped``: x / (x + 0.25), the domain of the UDC networks. ``srgb``: an 8-bit
photograph / 255 (IEC 61966-2-1), where 1 is linear 1. ``raw``: the planes GR, R, B, GB of a Bayer sensor as shares of
full scale, which are no colours yet and convert to nothing else. All conversions are differentiable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from udc_robust.names import Domain
from udc_robust.optics.capture import MAX_RADIANCE, inverse_tone_map, tone_map

DOMAINS: tuple[str, ...] = get_args(Domain)
RAW_PLANES = ("GR", "R", "B", "GB")
"""The planes of RAW images, in the order of UDC-SIT."""


def value_range(domain: str) -> tuple[float, float]:
    """Smallest and largest value of an image in a domain."""
    return (0.0, MAX_RADIANCE) if domain == "linear" else (0.0, 1.0)


def convert(x: Tensor, source: str, target: str) -> Tensor:
    """Convert ``(B,3,H,W)`` from one domain to another; values outside the source's range are clamped first.

    sRGB cannot hold light above 1: brighter values become 1.
    """
    if source == target:
        return x
    if "raw" in (source, target):
        raise ValueError(f"RAW planes convert to no colours: {source} to {target}")
    x = x.clamp(*value_range(source))
    if source == "tonemapped":
        linear = inverse_tone_map(x)
    elif source == "srgb":
        linear = srgb_to_linear(x)
    else:
        linear = x
    if target == "tonemapped":
        return tone_map(linear)
    return linear_to_srgb(linear) if target == "srgb" else linear


def srgb_to_linear(x: Tensor) -> Tensor:
    """IEC 61966-2-1 decoding of values in [0,1]."""
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(x: Tensor) -> Tensor:
    """IEC 61966-2-1 encoding; light above 1 becomes 1."""
    x = x.clamp(0, 1)
    return torch.where(x <= 0.0031308, x * 12.92, 1.055 * x.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)


def for_metrics(x: Tensor, domain: str) -> Tensor:
    """Linear light is tone-mapped before it is measured, as the UDC literature does; other domains stay."""
    return convert(x, domain, "tonemapped") if domain == "linear" else x


def for_eyes(x: Tensor, domain: str) -> Tensor:
    """What is shown of ``(B,C,H,W)``: RAW planes are developed, and linear light is tone-mapped."""
    return developed(x) if domain == "raw" else for_metrics(x, domain)


def developed(planes: Tensor, white_balance: Sequence[float] = (2.0, 1.0, 1.7)) -> Tensor:
    """A simple sRGB picture ``(...,3,H,W)`` of RAW planes ``(...,4,H,W)``, a pixel for each Bayer cell.

    Red, the mean of both greens, and blue, each times its gain, cut at full scale, with the sRGB curve. No demosaicing,
    colour matrix, denoising or tone mapping: what differs between two pictures differs between their planes.
    """
    gr, r, b, gb = planes.unbind(-3)
    light = torch.stack([r, (gr + gb) / 2, b], dim=-3)
    return linear_to_srgb(light * torch.tensor(white_balance, dtype=light.dtype, device=light.device).view(3, 1, 1))

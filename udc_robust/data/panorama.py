"""Perspective views of equirectangular panoramas."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def perspective_view(panorama: Tensor, yaw: float, pitch: float, *, size: int = 256, field: float = 90.0) -> Tensor:
    """Look into a panorama (3,H,2H) as a pinhole camera does: a square view (3,size,size).

    At 90 degrees and 256 px a 1024x512 panorama is shown at its own resolution.

    Args:
        yaw: degrees to the right of the panorama's centre.
        pitch: degrees above the horizon.
        field: angle of view, degrees.
    """
    half = math.tan(math.radians(field) / 2)
    steps = (torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 - 1
    down, right = torch.meshgrid(steps * half, steps * half, indexing="ij")
    turn, lift = math.radians(yaw), math.radians(pitch)
    # The camera looks along +z; first it is lifted about the x axis, then turned about the vertical.
    up = -down * math.cos(lift) + math.sin(lift)
    ahead = down * math.sin(lift) + math.cos(lift)
    longitude = torch.atan2(right, ahead) + turn
    latitude = torch.atan2(up, torch.hypot(right, ahead))
    height, width = panorama.shape[-2:]
    column = (longitude / (2 * math.pi) + 0.5) % 1 * width + 1  # one column of wrap-around on each side
    row = (0.5 - latitude / math.pi) * height
    wrapped = torch.cat([panorama[..., -1:], panorama, panorama[..., :1]], -1)
    grid = torch.stack([column / (width + 2) * 2 - 1, row / height * 2 - 1], -1)
    view = F.grid_sample(
        wrapped[None], grid[None].to(panorama), mode="bilinear", padding_mode="border", align_corners=False
    )
    return view[0]

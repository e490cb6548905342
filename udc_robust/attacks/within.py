"""Threats with less freedom: a band of spatial frequency, or a region of the picture.

Each wraps a threat and is one itself, so that the same loops run in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from udc_robust.attacks.streams import Streams
from udc_robust.attacks.threat import Threat, round_to_8_bits

_ROUNDS = 3


@dataclass(frozen=True)
class Within:
    """A threat whose changes are those that ``keep`` leaves as they are, which is linear and orthogonal."""

    threat: Threat

    def keep(self, delta: Tensor) -> Tensor:
        """The part of a change that is allowed."""
        raise NotImplementedError

    def project(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """An allowed point of ball and box, near by."""
        return self.threat.project(x, x + self.keep(x_adv - x))

    @property
    def eps(self) -> float:
        """The budget."""
        return self.threat.eps

    def start(self, x: Tensor, streams: Streams) -> Tensor:
        """A random allowed point."""
        return self.project(x, self.threat.start(x, streams))

    def step(self, x_adv: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """Steepest ascent along the allowed part of the gradient."""
        return self.threat.step(x_adv, self.keep(gradient), size)


@dataclass(frozen=True)
class Band(Within):
    """Changes of spatial frequencies from ``first`` to ``last``, as shares of the Nyquist frequency.

    A frequency counts by the larger of its vertical and horizontal part, so that 0 to 1 is all there is.
    """

    first: float
    last: float

    def keep(self, delta: Tensor) -> Tensor:
        """The band of each channel."""
        size = (delta.shape[-2], delta.shape[-1])
        inside = self.inside(size, self.first, self.last).to(delta.device)
        return torch.fft.irfft2(torch.fft.rfft2(delta) * inside, s=size)

    @staticmethod
    def inside(size: tuple[int, int], first: float, last: float) -> Tensor:
        """Which frequencies of a real image belong to a band: ``(H, W // 2 + 1)``, as ``rfft2`` orders them."""
        vertical, horizontal = torch.fft.fftfreq(size[0]).abs() * 2, torch.fft.rfftfreq(size[1]) * 2
        frequency = torch.maximum(vertical[:, None], horizontal[None, :])
        return (frequency >= first) & ((frequency < last) | (last >= 1))

    def project(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Ball and band in turn, then the band, shortened to fit the ball: both hold, but for what the box cuts off."""
        delta = self.keep(x_adv - x)
        for _ in range(_ROUNDS):
            delta = self.keep(self.threat.project(x, x + delta) - x)
        distance = self.threat.distance(x, x + delta).view(-1, 1, 1, 1)
        return (x + delta * (self.eps / distance.clamp_min(1e-12)).clamp_max(1)).clamp(
            self.threat.low, self.threat.high
        )


@dataclass(frozen=True)
class Region(Within):
    """Changes inside a part of the picture: ``inside`` ``(H,W)`` is true there, see `area`."""

    inside: Tensor

    def keep(self, delta: Tensor) -> Tensor:
        """Nothing but that part."""
        return delta * self.inside.to(delta)

    @property
    def place(self) -> tuple[int, int, int, int]:
        """The rectangle around it: top, left, height and width in px."""
        (top, bottom), (left, right) = (
            (int(found.min()), int(found.max())) for found in self.inside.nonzero().unbind(1)
        )
        return top, left, bottom - top + 1, right - left + 1


@dataclass(frozen=True)
class Printable(Within):
    """What a poster or a screen in a scene can show: up to its white, and nothing where the scene itself is brighter.

    Lamps and the sky stay as they are. Without this bound a budget in tone-mapped values would let an attacker turn
    them up without end, for there the tone map is flat.

    Attributes:
        white: the largest value; pixels with a larger one in any channel never change.
        place: top, left, height and width in px of the only part that changes; empty: the whole frame.
    """

    white: float
    place: tuple[int, ...] = ()

    def free(self, x: Tensor) -> Tensor:
        """Which pixels of images may change, ``(B,1,H,W)``; of images within the budget it is the same."""
        return printable(x, self.white, self.place)

    def project(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """What can be shown first, then ball and box, which only shorten the change."""
        return self.threat.project(x, torch.where(self.free(x), x_adv.clamp(max=self.white), x))

    def step(self, x_adv: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """Steepest ascent of the pixels that may change."""
        return self.threat.step(x_adv, gradient * self.free(x_adv), size)

    def noise(self, x: Tensor, streams: Streams) -> Tensor:
        """Noise of the full budget on the pixels that may change."""
        delta = (self.threat.noise(x, streams) - x) * self.free(x)
        if self.norm == "l2":
            delta = delta * (self.eps / torch.linalg.vector_norm(delta, dim=(1, 2, 3), keepdim=True).clamp_min(1e-12))
        return self.project(x, x + delta)

    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Distance of each image in the threat's norm."""
        return self.threat.distance(x, x_adv)

    @property
    def norm(self) -> str:
        """That of the threat."""
        return self.threat.norm

    @property
    def low(self) -> float:
        """Least value of an image."""
        return self.threat.low

    @property
    def high(self) -> float:
        """Largest value of an image."""
        return self.threat.high


def printable(x: Tensor, white: float, place: tuple[int, ...]) -> Tensor:
    """Which pixels of scenes may change, ``(B,1,H,W)``, see `Printable`."""
    dark = x.amax(1, keepdim=True) <= white
    return dark & area((x.shape[-2], x.shape[-1]), region=place, mask="").to(x.device) if place else dark


def on_8_bits(threat: Threat, x: Tensor, x_adv: Tensor) -> Tensor:
    """See `threat.round_to_8_bits`; what a threat leaves alone stays as it is, be it on no level."""
    if not isinstance(threat, Printable):
        return round_to_8_bits(threat, x, x_adv)
    free = threat.free(x)
    return torch.where(free, round_to_8_bits(threat.threat, x * free, x_adv * free), x)


def area(size: tuple[int, int], *, region: tuple[int, ...], mask: str) -> Tensor:
    """Which pixels of images of a size an attack may change: ``(H,W)``, true inside.

    Args:
        region: top, left, height and width of a rectangle in px; empty: there is a mask.
        mask: a picture file of 8 bits, white (128 and more) where pixels may change; empty: there is a region.

    Raises:
        ValueError: both or neither; a rectangle that is none or reaches out; a file that is no picture of 8 bits, of
            another size than the images, or without white.
    """
    if region and mask:
        raise ValueError(f"region {list(region)} and mask {mask} cannot both say what may change: leave one out")
    if not region and not mask:
        raise ValueError(
            "nothing says what may change: give `region: [top, left, height, width]` in px or `mask: FILE`"
        )
    if mask:
        return _drawn(mask, size)
    check_region(size, region=region)
    top, left, rows, columns = region
    inside = torch.zeros(size, dtype=torch.bool)
    inside[top : top + rows, left : left + columns] = True
    return inside


def _drawn(mask: str, size: tuple[int, int]) -> Tensor:
    """The white of a picture file."""
    if not Path(mask).is_file():
        raise ValueError(f"mask {mask} does not exist: it must be a picture, white where pixels may change")
    try:
        with Image.open(mask) as picture:
            if picture.mode.startswith(("I", "F")):
                raise ValueError(f"mask {mask} has more than 8 bits a channel: save it as an 8-bit PNG")
            white = torch.from_numpy(np.array(picture.convert("L"))) >= 128
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ValueError(f"mask {mask} is no picture that can be read ({reason}): save it as an 8-bit PNG") from error
    if tuple(white.shape) != size:
        height, width = white.shape
        raise ValueError(f"mask {mask} is {height}x{width} px, and the images are {size[0]}x{size[1]}: make them one")
    if not white.any():
        raise ValueError(f"mask {mask} is empty: it has no white pixel (128 or more), where pixels may change")
    return white


def check_region(size: tuple[int, int], *, region: tuple[int, ...]) -> None:
    """Raise ValueError for a rectangle that is empty or reaches out of images of this size."""
    if len(region) != 4:
        raise ValueError(f"region {list(region)} must be [top, left, height, width] in px")
    top, left, rows, columns = region
    if rows < 1 or columns < 1:
        raise ValueError(f"region {list(region)} is empty: its height and width must be 1 px or more")
    if top < 0 or left < 0 or top + rows > size[0] or left + columns > size[1]:
        raise ValueError(f"region {list(region)} reaches out of images of {size[0]}x{size[1]} px")

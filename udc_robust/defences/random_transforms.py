"""Random image transformations: rivals of the halftone, with their published numbers.

Each is differentiable for the drawn randomness; an ensemble (thirty crops, thirty paddings) is the mean of a network's
answers over as many draws. Images ``(B,C,H,W)`` in [0,1] keep their size.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from udc_robust.attacks.streams import Streams
from udc_robust.defences.defence import Defence
from udc_robust.defences.haar import wavelet_denoised
from udc_robust.defences.total_variation import tv_minimum
from udc_robust.defences.transforms import MOST_STEPS, blurred, require
from udc_robust.limits import LARGEST_SIDE


class DropAndTotalVariation(Defence):
    """Drop values at random and fill in by total variation minimisation (Guo et al. 2018, "TVM").

    Args:
        drop: probability with which a pixel's channel is dropped, in [0,1); published 0.5.
        weight: lambda of `tv_minimum`; published 0.03.
        steps: of the minimisation, a number of our own: theirs is split Bregman with up to 100 sweeps.
    """

    random = True

    def __init__(self, drop: float = 0.5, weight: float = 0.03, steps: int = 100) -> None:
        super().__init__()
        require(0 <= drop < 1, "drop", "in [0,1)", drop)
        require(0 <= weight <= 1000, "weight", "in 0..1000", weight)
        require(1 <= steps <= MOST_STEPS, "steps", f"in 1..{MOST_STEPS}", steps)
        self.drop, self.weight, self.steps = drop, weight, steps

    def draw(self, x: Tensor, streams: Streams) -> Tensor:
        """Uniform numbers of the images' shape."""
        return streams.uniform(x)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Drop and fill in, starting from the blur of what is kept: nothing of a dropped value is looked at."""
        keep = (noise >= self.drop).to(x.dtype)
        filled = blurred(x * keep, 1.5) / blurred(keep, 1.5).clamp_min(1e-3)
        return tv_minimum(x, self.weight, self.steps, keep, torch.lerp(filled, x, keep))


class RandomCrop(Defence):
    """One crop of Guo et al.'s ensemble, brought back to the images' size (bilinear).

    Args:
        share: side of the crop by the image's side; published 90 pixels of 224.
    """

    random = True

    def __init__(self, share: float = 90 / 224) -> None:
        super().__init__()
        require(0 < share <= 1, "share", "in (0,1]", share)
        self.share = share

    def draw(self, x: Tensor, streams: Streams) -> Tensor:
        """Where the crop lies, ``(B,2)`` uniform numbers for row and column."""
        return streams.uniform(x.new_empty(len(x), 2))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Crop and enlarge."""
        height, width = x.shape[-2:]
        rows, columns = max(1, round(self.share * height)), max(1, round(self.share * width))
        tops, lefts = _place(noise[:, 0], height - rows), _place(noise[:, 1], width - columns)
        crops = [
            image[:, top : top + rows, left : left + columns]
            for image, top, left in zip(x, tops, lefts, strict=True)
        ]  # fmt: skip
        return F.interpolate(torch.stack(crops), (height, width), mode="bilinear")


class ResizeAndPad(Defence):
    """Shrink by a random factor and put the picture at a random place on black (Xie et al. 2018).

    Published: 299 pixels grow to 310..330 on a canvas of 331. Here the canvas has the images' own size, so the picture
    takes the same share of it, and a network sees the size that it expects.

    Args:
        smallest: least side of the picture by the canvas's side; published 310/331.
    """

    random = True

    def __init__(self, smallest: float = 310 / 331) -> None:
        super().__init__()
        require(0 < smallest <= 1, "smallest", "in (0,1]", smallest)
        self.smallest = smallest

    def draw(self, x: Tensor, streams: Streams) -> Tensor:
        """Size, row and column, ``(B,3)`` uniform numbers."""
        return streams.uniform(x.new_empty(len(x), 3))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Resize (nearest pixel, as published) and pad with zeros."""
        return torch.stack([self._one(image, place) for image, place in zip(x, noise.tolist(), strict=True)])

    def _one(self, image: Tensor, place: list[float]) -> Tensor:
        sides = [_side(place[0], self.smallest, side) for side in image.shape[-2:]]
        (above, below), (left, right) = (
            _margins(at, canvas - side) for at, canvas, side in zip(place[1:], image.shape[-2:], sides, strict=True)
        )
        small = F.interpolate(image[None], sides, mode="nearest-exact")[0]
        return F.pad(small, (left, right, above, below))


class PixelDeflection(Defence):
    """Replace a few values by those of near pixels, then shrink wavelet coefficients (Prakash et al. 2018).

    The published map that spares the object needs a classifier's activations and is left out: every pixel is as likely.

    Args:
        deflections: pixels that are replaced; published 200 of 224 x 224. Each channel takes another neighbour.
        window: furthest neighbour in rows and columns; published 10. The image's border stops it.
        sigma: noise level of the wavelet shrinkage in [0,1] units (see `wavelet_denoised`); published 0.04, 0: none.
    """

    random = True

    def __init__(self, deflections: int = 200, window: int = 10, sigma: float = 0.04) -> None:
        super().__init__()
        require(deflections >= 0, "deflections", "0 or more", deflections)
        require(1 <= window <= LARGEST_SIDE, "window", f"in 1..{LARGEST_SIDE} pixels", window)
        require(0 <= sigma <= 100, "sigma", "in 0..100", sigma)
        self.deflections, self.window, self.sigma = deflections, window, sigma

    def draw(self, x: Tensor, streams: Streams) -> Tensor:
        """Uniform fields ``(B,1+2C,H,W)``: the order in which pixels are chosen, then row and column of each source."""
        batch, channels, height, width = x.shape
        return streams.uniform(x.new_empty(batch, 1 + 2 * channels, height, width))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Deflect and denoise."""
        height, width = x.shape[-2:]
        count = min(self.deflections, height * width)
        chosen = torch.zeros_like(noise[:, 0]).flatten(1)
        chosen.scatter_(1, noise[:, 0].flatten(1).topk(count, largest=False).indices, 1.0)
        rows, columns = noise[:, 1:].mul(2 * self.window + 1).floor().sub(self.window).long().chunk(2, 1)
        rows = (rows + torch.arange(height, device=x.device)[:, None]).clamp(0, height - 1)
        columns = (columns + torch.arange(width, device=x.device)).clamp(0, width - 1)
        neighbours = x.flatten(2).gather(2, (rows * width + columns).flatten(2)).view_as(x)
        deflected = torch.where(chosen.view(-1, 1, height, width) > 0, neighbours, x)
        return wavelet_denoised(deflected, self.sigma) if self.sigma else deflected


def _place(uniform: Tensor, room: int) -> list[int]:
    """Whole offsets 0..room from numbers in [0,1)."""
    return uniform.mul(room + 1).floor().long().clamp(0, room).tolist()


def _side(uniform: float, smallest: float, side: int) -> int:
    least = max(1, math.ceil(smallest * side - 1e-9))  # 310/331 of 331 is 310 whatever the rounding
    return min(side, least + math.floor(uniform * (side - least + 1)))


def _margins(uniform: float, room: int) -> tuple[int, int]:
    before = min(room, math.floor(uniform * (room + 1)))
    return before, room - before

"""Fourier mixing: a black box that lends an image the fine detail of another."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from udc_robust.attacks.methods import method
from udc_robust.attacks.oracle import Oracle
from udc_robust.attacks.threat import Threat

_PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")


@method("query")
def fmixup(oracle: Oracle, x: Tensor, threat: Threat, *, steps: int = 100) -> Tensor:
    """F-Mixup (ICPR 2020): frequencies above a radius are mixed with those of another photograph, by random search.

    Each query draws the other photograph (a part of one that comes with scikit-image, as large as the image, mirrored
    or not), the radius (up to 0.7 of Nyquist's frequency) and the share. The paper bounds nothing; here the mixture is
    cut to the budget. Rebuilt from the abstract.
    """
    for _ in range(steps):
        draws = oracle.streams.uniform(x.new_empty(len(x), 6))
        trial = torch.stack([_mixed(image, draw.tolist()) for image, draw in zip(x, draws, strict=True)])
        oracle.values(threat.project(x, trial))
    return oracle.best_x


def _mixed(image: Tensor, draw: list[float]) -> Tensor:
    """One image with the fine detail of a photograph; the draws are uniform in [0,1)."""
    height, width = image.shape[-2:]
    other = _part(draw[:4], len(image), height, width).to(image)
    radius, share = 0.7 * draw[4], draw[5]
    rows, columns = torch.fft.fftfreq(height) * 2, torch.fft.rfftfreq(width) * 2
    high = ((rows[:, None] ** 2 + columns[None, :] ** 2).sqrt() > radius).to(image)
    own, lent = torch.fft.rfft2(image), torch.fft.rfft2(other)
    return torch.fft.irfft2(own + high * share * (lent - own), s=(height, width))


def _part(draw: list[float], channels: int, height: int, width: int) -> Tensor:
    photograph = _photographs()[int(draw[0] * len(_PHOTOGRAPHS))]
    if photograph.shape[-2] < height or photograph.shape[-1] < width:
        photograph = F.interpolate(photograph[None], (height, width), mode="bilinear", align_corners=False)[0]
    top = int(draw[1] * (photograph.shape[-2] - height + 1))
    left = int(draw[2] * (photograph.shape[-1] - width + 1))
    part = photograph[:, top : top + height, left : left + width]
    part = part.flip(-1) if draw[3] < 0.5 else part
    return part if channels == 3 else part.mean(0, keepdim=True).expand(channels, -1, -1)


@functools.cache
def _photographs() -> list[Tensor]:
    from skimage import data

    return [torch.from_numpy(getattr(data, name)()).permute(2, 0, 1).float() / 255 for name in _PHOTOGRAPHS]

"""The halftone defence: images as dots of few levels (after Huang, Liao & Huang 2020), and back as an option.

Error diffusion does not project a perturbation away: any tiny change redraws the dots behind it, so the perturbation is
replaced by fresh dither noise whose size hardly depends on eps. Its own gradient is zero almost everywhere: an attacker
goes straight through, or through a smooth stand-in.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from udc_robust.attacks.streams import Streams
from udc_robust.defences.defence import Defence
from udc_robust.defences.halftone.error_diffusion import KERNELS, error_diffusion, soft_error_diffusion
from udc_robust.defences.total_variation import tv_minimum
from udc_robust.defences.transforms import WIDEST_BLUR, blurred, require
from udc_robust.errors import UserError, unknown_name
from udc_robust.networks.tiles import padded
from udc_robust.networks.weights import facts_of, read_weights
from udc_robust.restorers.zoo import Restorer, RestorerSpec, load_restorer, shipped_checkpoints

METHODS = (*KERNELS, "bayer", "noise")
BAYER_SIZES = (2, 4, 8, 16)
LEARNED_INVERSE = "inverse_halftone_mini"
_TV_STEPS = 50


@cache
def bayer_matrix(size: int) -> Tensor:
    """Ranks 0..size^2-1 of a dispersed-dot screen (Bayer 1973), int64; ``size`` is a power of two."""
    ranks = torch.tensor([[0, 2], [3, 1]])
    while len(ranks) < size:
        ranks = torch.cat([torch.cat([4 * ranks, 4 * ranks + 2], 1), torch.cat([4 * ranks + 3, 4 * ranks + 1], 1)])
    return ranks


def screened(x: Tensor, thresholds: Tensor, levels: int) -> Tensor:
    """The level above where what is over the level below exceeds its threshold, ``thresholds`` in [0,1)."""
    steps = levels - 1
    return torch.ceil(x * steps - thresholds).clamp(0, steps) / steps


def bayer_thresholds(x: Tensor, size: int) -> Tensor:
    """The screen ``(rank + 1/2) / size^2``, repeated over images of any size ``(H,W)``."""
    height, width = x.shape[-2:]
    screen = (bayer_matrix(size) + 0.5) / size**2
    return screen.repeat(-(-height // size), -(-width // size))[:height, :width].to(x)


def check_inverse(weights: str) -> None:
    """Raise UserError unless there is such a shipped checkpoint or file."""
    if weights not in shipped_checkpoints() and not Path(weights).is_file():
        raise unknown_name("inverse halftone", weights, [*shipped_checkpoints(), "a weights file"])


def load_inverse(weights: str) -> Restorer:
    """A restorer of halftones, in the colour domain of whatever image it is given.

    Args:
        weights: a shipped checkpoint, or a file that `udc-robust train restorer` wrote.

    Raises:
        UserError: neither of them, or a file that cannot be read.
    """
    check_inverse(weights)
    file = weights if weights not in shipped_checkpoints() else None
    if file and "network" not in facts_of(read_weights(file)[1], file):
        raise UserError(f"{file} does not say which network it is: `restorer` takes what `train restorer` has written")
    return load_restorer(RestorerSpec(weights, weights=file, domain="srgb"), "srgb")


def _ycbcr(x: Tensor) -> Tensor:
    """Luminance and colour differences of RGB images (BT.601)."""
    from kornia.color import rgb_to_ycbcr

    require(x.shape[1] == 3, "channels of images halftoned by luminance", "1 or 3", x.shape[1])
    return rgb_to_ycbcr(x)


class Halftone(Defence):
    """Halftone, and make a picture of the dots again where asked to.

    Args:
        method: a kernel of error diffusion, ``bayer`` (ordered) or ``noise`` (white-noise dither, random).
        levels: of a channel, 2..256.
        channels: ``each``; ``luminance``: only Y of YCbCr (BT.601) becomes dots, the colour differences stay; ``grey``:
            they go, and all channels are the dots of Y (after Lo & Patel 2021, who show one-bit dots of grey pictures).
        serpentine: turn round at every row; error diffusion only, and slow where few images are done at once.
        size: of the Bayer screen: 2, 4, 8 or 16.
        inverse: ``none``, ``blur`` (of ``sigma`` pixels), ``tv`` (of ``weight``) or ``learned`` (``restorer``).
        surrogate: ``blur``: the attacker's stand-in takes the dots for the picture seen through a blur of ``sigma``
            (through the inverse stage, where there is one; a learned one is differentiated at the dots themselves);
            ``soft``: relaxed error diffusion, for small images.
        restorer: of ``learned``: see `load_inverse`. The default learnt dots of the other defaults.
    """

    def __init__(
        self,
        method: str = "floyd_steinberg",
        levels: int = 2,
        channels: Literal["each", "luminance", "grey"] = "each",
        serpentine: bool = False,
        size: int = 8,
        inverse: Literal["none", "blur", "tv", "learned"] = "none",
        sigma: float = 1.0,
        weight: float = 0.1,
        surrogate: Literal["blur", "soft"] = "blur",
        restorer: str = LEARNED_INVERSE,
    ) -> None:
        super().__init__()
        if method not in METHODS:
            raise unknown_name("halftone method", method, METHODS)
        require(2 <= levels <= 256, "levels", "in 2..256", levels)
        require(size in BAYER_SIZES, "size", "2, 4, 8 or 16", size)
        require(0 <= sigma <= WIDEST_BLUR, "sigma", f"in 0..{WIDEST_BLUR} pixels", sigma)
        require(0 <= weight <= 1000, "weight", "in 0..1000", weight)
        if method not in KERNELS and (serpentine or surrogate == "soft"):
            raise UserError(f"serpentine and surrogate 'soft' belong to error diffusion, not to method {method!r}")
        if serpentine and surrogate == "soft":
            raise UserError("surrogate 'soft' diffuses in raster order: leave out serpentine, or take surrogate 'blur'")
        self.method, self.levels, self.channels, self.serpentine, self.size = method, levels, channels, serpentine, size
        self.inverse, self.sigma, self.weight, self.surrogate = inverse, sigma, weight, surrogate
        self.random = method == "noise"
        self.weights = restorer
        if inverse == "learned":
            check_inverse(restorer)
            self.nfe = 1

    def load(self) -> Halftone:
        """Read the weights of the learned inverse, where there is one."""
        if self.inverse == "learned":
            self.restorer = load_inverse(self.weights)
        return self

    def draw(self, x: Tensor, streams: Streams) -> Tensor:
        """Thresholds in [0,1) of the images' shape for ``noise``, else nothing."""
        return streams.uniform(x) if self.random else super().draw(x, streams)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Halftone and, where asked to, reconstruct."""
        with torch.no_grad():
            dots = self._by_colour(x, noise, soft=False)
        return self._inverse(dots)

    def stand_in(self, x: Tensor, noise: Tensor) -> Tensor:
        """The stand-in that ``surrogate`` names."""
        if self.surrogate == "soft":
            return self._inverse(self._by_colour(x, noise, soft=True))
        picture = self._pictured(x)
        if self.inverse == "learned":  # its slope where it works: what it makes of no dots tells nothing
            with torch.no_grad():
                dots = self._by_colour(x, noise, soft=False)
            return self._inverse(dots + (picture - picture.detach()))
        return blurred(picture, self.sigma) if self.inverse == "none" else self._inverse(picture)

    def _pictured(self, x: Tensor) -> Tensor:
        """What the dots are a picture of: the images, or their Y in all channels."""
        if self.channels != "grey" or x.shape[1] == 1:
            return x
        return _ycbcr(x)[:, :1].expand_as(x)

    def _by_colour(self, x: Tensor, noise: Tensor, *, soft: bool) -> Tensor:
        if self.channels == "each" or x.shape[1] == 1:
            return self._dots(x, noise, soft=soft)
        luminance, colour = _ycbcr(x).split([1, 2], 1)
        dots = self._dots(luminance, noise[:, :1] if self.random else noise, soft=soft)
        if self.channels == "grey":
            return dots.expand_as(x)
        from kornia.color import ycbcr_to_rgb

        # Full dots with the colour of half tones leave the cube.
        return ycbcr_to_rgb(torch.cat([dots, colour], 1)).clamp(0, 1)

    def _dots(self, x: Tensor, noise: Tensor, *, soft: bool) -> Tensor:
        if soft:
            return soft_error_diffusion(x, KERNELS[self.method], self.levels)
        if self.method == "noise":
            return screened(x, noise, self.levels)
        if self.method == "bayer":
            return screened(x, bayer_thresholds(x, self.size), self.levels)
        return error_diffusion(x, KERNELS[self.method], self.levels, serpentine=self.serpentine)

    def _inverse(self, dots: Tensor) -> Tensor:
        if self.inverse == "blur":
            return blurred(dots, self.sigma)
        if self.inverse == "learned":
            require(dots.shape[1] == 3, "channels of images for the learned inverse", "3", dots.shape[1])
            # Not clamped, which would hide the gradient of white and black.
            return padded(self.restorer.network, dots, self.restorer.size_multiple)
        return tv_minimum(dots, self.weight, _TV_STEPS) if self.inverse == "tv" else dots

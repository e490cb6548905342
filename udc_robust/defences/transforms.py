"""Image transformations without a model: the controls that a purifier must beat, and rivals of the halftone.

Images ``(B,C,H,W)`` in [0,1] of any size. Nothing is clamped but where a file format or a quantiser does it, so the
gradient an attacker gets is that of the defence.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from udc_robust.attacks.streams import Streams
from udc_robust.defences.defence import Defence, Gradient, StraightThrough
from udc_robust.defences.purifier.samplers import Denoiser, clean_estimate
from udc_robust.defences.purifier.schedule import NoiseSchedule
from udc_robust.defences.total_variation import tv_minimum
from udc_robust.errors import UserError
from udc_robust.networks.tiles import padded

WIDEST_BLUR = 100
"""Pixels: the window is eight times as wide, and larger than most images."""
MOST_STEPS = 100_000


def require(condition: bool, option: str, needed: str, value: object) -> None:
    """Refuse an option that is out of its range.

    Raises:
        UserError: naming the option, what it must be and what it is.
    """
    if not condition:
        raise UserError(f"{option} must be {needed}, not {value}")


class Identity(Defence):
    """No defence at all: the same image."""

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Return the images."""
        return x


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of ``sigma`` pixels, cut off at 4 sigma, over a replicated border; 0 changes nothing."""
    from kornia.filters import gaussian_blur2d

    if sigma == 0:
        return x
    size = 2 * math.ceil(4 * sigma) + 1
    return gaussian_blur2d(x, (size, size), (sigma, sigma), border_type="replicate")


class GaussianBlur(Defence):
    """Gaussian low-pass.

    Args:
        sigma: standard deviation in pixels, 0 or more.
    """

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__()
        require(0 <= sigma <= WIDEST_BLUR, "sigma", f"in 0..{WIDEST_BLUR} pixels", sigma)
        self.sigma = sigma

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Blur."""
        return blurred(x, self.sigma)


class MedianBlur(Defence):
    """Median of a square window, of each channel; its gradient goes to the pixel that was the median.

    Args:
        size: side of the window, odd.
        mix: share of the median in the answer, 0..1, so that the strength is continuous.
    """

    def __init__(self, size: int = 3, mix: float = 1.0) -> None:
        super().__init__()
        require(1 <= size <= 63 and size % 2 == 1, "size", "odd, in 1..63", size)
        require(0 <= mix <= 1, "mix", "in [0,1]", mix)
        self.size, self.mix = size, mix

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Blend with the median."""
        from kornia.filters import median_blur

        return torch.lerp(x, median_blur(x, self.size, border_type="replicate"), self.mix)


class Jpeg(Defence):
    """A JPEG file written and read by libjpeg (4:2:0, standard tables), which rounds to 8 bits.

    The attacker's stand-in is the differentiable codec of Reich et al. 2024 in kornia: 39 to 50 dB from libjpeg.

    Args:
        quality: 1..100. Guo et al. 2018 use 75.
    """

    def __init__(self, quality: int = 75) -> None:
        super().__init__()
        require(1 <= quality <= 100, "quality", "in 1..100", quality)
        self.quality = quality

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Compress and decompress each image of one or three channels."""
        bytes_ = x.detach().clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        decoded = np.stack([self._through_file(image) for image in bytes_])
        return torch.from_numpy(decoded).to(x).div(255).permute(0, 3, 1, 2)

    def _through_file(self, pixels: np.ndarray) -> np.ndarray:
        require(pixels.shape[-1] in (1, 3), "channels of a JPEG", "1 or 3", pixels.shape[-1])
        file = io.BytesIO()
        Image.fromarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0]).save(file, "JPEG", quality=self.quality)
        return np.asarray(Image.open(file)).reshape(pixels.shape)

    def stand_in(self, x: Tensor, noise: Tensor) -> Tensor:
        """The differentiable codec; grey goes through it as three equal channels."""
        from kornia.enhance.jpeg import jpeg_codec_differentiable

        colour = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
        decoded = jpeg_codec_differentiable(colour, x.new_tensor([float(self.quality)]))
        return decoded.mean(1, keepdim=True) if x.shape[1] == 1 else decoded


def quantised(x: Tensor, levels: float) -> Tensor:
    """The nearest of ``k / (levels - 1)``, ties up, within [0,1]; a fractional ``levels`` is in between."""
    return torch.floor(x * (levels - 1) + 0.5).div(levels - 1).clamp(0, 1)


class BitDepth(Defence):
    """Fewer levels a channel (Xu et al. 2018, "Feature Squeezing"). Its best known gradient is the identity's.

    Args:
        levels: 2 or more, fractions allowed; 8 are the 3 bits that Athalye et al. 2018 attack.
    """

    def __init__(self, levels: float = 8.0) -> None:
        super().__init__()
        require(2 <= levels <= 65536, "levels", "in 2..65536", levels)
        self.levels = levels

    @property
    def gradients(self) -> Mapping[str, Gradient]:
        """Straight through, also for an attacker who knows everything: a staircase is flat almost everywhere."""
        return {"bpda": StraightThrough(), "adaptive": StraightThrough()}

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Round to the levels."""
        return quantised(x, self.levels)


class TotalVariation(Defence):
    """Total variation denoising (Rudin, Osher, Fatemi 1992) of each channel, differentiable through every step.

    Args:
        weight: lambda of `tv_minimum`, 0 or more.
        steps: of the minimisation.
    """

    def __init__(self, weight: float = 0.05, steps: int = 50) -> None:
        super().__init__()
        require(0 <= weight <= 1000, "weight", "in 0..1000", weight)
        require(1 <= steps <= MOST_STEPS, "steps", f"in 1..{MOST_STEPS}", steps)
        self.weight, self.steps = weight, steps

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Smooth, keeping edges."""
        return tv_minimum(x, self.weight, self.steps)


class AdditiveNoise(Defence):
    """Gaussian noise, as randomized smoothing adds it, and nothing that takes it away.

    Args:
        sigma: standard deviation in [0,1] image units, 0 or more.
    """

    random = True

    def __init__(self, sigma: float = 0.05) -> None:
        super().__init__()
        require(0 <= sigma <= 100, "sigma", "in 0..100", sigma)
        self.sigma = sigma

    def draw(self, x: Tensor, streams: Streams) -> Tensor:
        """Standard normal numbers of the images' shape."""
        return streams.normal(x)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Add the noise."""
        return x + self.sigma * noise


class LowResolution(Defence):
    """Down and up again (Liao & Huang 2020 train on such images): bilinear with antialiasing, then bicubic.

    Args:
        factor: how many times smaller, 1 or more, fractions allowed; a side keeps at least one pixel.
    """

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        require(1 <= factor < math.inf, "factor", "1 or more", factor)
        self.factor = factor

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Lose the resolution; bicubic may overshoot [0,1] a little at edges."""
        size = [max(1, round(side / self.factor)) for side in x.shape[-2:]]
        small = F.interpolate(x, size, mode="bilinear", antialias=True)
        return F.interpolate(small, x.shape[-2:], mode="bicubic")


class PlainDenoiser(Defence):
    """A purifier's network as a denoiser without the noise: what its robustness owes to the network alone.

    The image is scaled as one of ``noise_level`` and given to the network as it is.

    Args:
        model: ``(x_t, t) -> eps`` in the [-1,1] range; a module's weights belong to the defence.
        schedule: of the model's training.
        noise_level: timestep that the model is told.
        multiple: sizes are padded (replicated border) to a multiple of this, and cropped back.
    """

    nfe = 1

    def __init__(self, model: Denoiser, schedule: NoiseSchedule, noise_level: int, multiple: int = 1) -> None:
        super().__init__()
        self.model, self.schedule, self.multiple = model, schedule, multiple
        self.noise_level = schedule.checked(noise_level)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Denoise."""
        alpha = self.schedule.alpha(self.noise_level)

        def denoise(u: Tensor) -> Tensor:
            x_t = math.sqrt(alpha) * u
            return clean_estimate(x_t, self.model(x_t, self.noise_level), alpha)

        return (padded(denoise, 2 * x - 1, self.multiple) + 1) / 2

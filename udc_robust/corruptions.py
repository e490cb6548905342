"""Threats that nobody aims: noise, blur, weather, exposure and compression, in five severities.

After Hendrycks & Dietterich (2019), "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations":
the severities of noise, fog, brightness, contrast and JPEG are those of their CIFAR-10-C, the others ours. What has a
length (blurs, drops, flakes) is a share of the image's shorter side, so that a picture looks the same at every size.
Frost and glass are left out, which need pictures or thousands of single swaps; rain and exposure are added.

*After* the optics a capture is changed, in the values that the network is shown. *Before* them the scene is: its light,
which then goes through the display. Then the changed scene is the truth, for a restorer undoes displays, not weather.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from udc_robust.attacks.streams import image_seed
from udc_robust.defences.transforms import Jpeg, blurred
from udc_robust.optics.domains import convert, value_range

_SCENE = ("blur", "weather", "exposure")


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption.

    Attributes:
        family: ``noise``, ``blur``, ``weather``, ``light``, ``exposure`` or ``file``.
        change: ``(image, amount, generator, side) -> image`` of ``(1,3,H,W)`` with white at 1; ``side`` is the length
            in pixels that lengths are a share of.
        amounts: by severity.
    """

    family: str
    change: Callable[[Tensor, float, torch.Generator, int], Tensor]
    amounts: tuple[float, float, float, float, float]

    @property
    def of_scenes(self) -> bool:
        """Whether it may happen before the optics; noise, tone and files come later."""
        return self.family in _SCENE


def _gaussian(x: Tensor, sigma: float, generator: torch.Generator, side: int) -> Tensor:
    return x + sigma * torch.randn(x.shape, generator=generator).to(x)


def _shot(x: Tensor, photons: float, generator: torch.Generator, side: int) -> Tensor:
    """Photons are counted: ``photons`` of white."""
    return torch.poisson(x.cpu() * photons, generator=generator).to(x) / photons


def _impulse(x: Tensor, share: float, generator: torch.Generator, side: int) -> Tensor:
    """Salt and pepper, half each."""
    drawn = torch.rand(x.shape, generator=generator).to(x)
    return torch.where(drawn < share, (drawn < share / 2).to(x), x)


def _defocus(x: Tensor, radius: float, generator: torch.Generator, side: int) -> Tensor:
    """A disk, of which each pixel takes its share by bilinear weights: its radius may be a fraction of a pixel."""
    from kornia.filters import filter2d

    radius *= side
    reach = int(radius) + 1
    places = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    points = torch.linspace(-radius, radius, 8 * reach + 1, dtype=x.dtype, device=x.device)
    inside = (torch.hypot(points[:, None], points) <= radius).to(x)
    near = (1 - (places[:, None] - points).abs()).clamp_min(0)
    return filter2d(x, (near @ inside @ near.T)[None], border_type="replicate", normalized=True)


def _moved(x: Tensor, length: float, angle: float) -> Tensor:
    """The mean along a line of ``length`` pixels, 3 at least, at an angle in degrees."""
    from kornia.filters import motion_blur

    size = 2 * max(1, round(length / 2)) + 1
    reach = size // 2
    padded = F.pad(x, [reach] * 4, mode="replicate")  # kornia's own border must be narrower than the image
    return motion_blur(padded, size, angle, 0.0, "constant", "bilinear")[..., reach:-reach, reach:-reach]


def _motion(x: Tensor, length: float, generator: torch.Generator, side: int) -> Tensor:
    return _moved(x, length * side, 180 * float(torch.rand((), generator=generator)))


def _zoom(x: Tensor, most: float, generator: torch.Generator, side: int) -> Tensor:
    """The mean of the image and of itself, nearer by 1 % each."""
    zooms = [1 + i / 100 for i in range(round(100 * most) + 1)]
    total = x
    for zoom in zooms:
        around = torch.tensor([[[1 / zoom, 0, 0], [0, 1 / zoom, 0]]], dtype=x.dtype, device=x.device)
        grid = F.affine_grid(around, list(x.shape), align_corners=False)
        total = total + F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return total / (len(zooms) + 1)


def _fog(x: Tensor, density: float, generator: torch.Generator, side: int) -> Tensor:
    """White light from a plasma fractal, and less of the scene."""
    from kornia.contrib import diamond_square

    height, width = x.shape[-2:]
    drawn = partial(torch.rand, generator=generator)
    cloud = diamond_square((1, 1, height, width), 0.5, random_fn=drawn, normalize_range=(0.0, 1.0)).to(x)
    return (x + density * cloud) / (1 + density)


def _falling(x: Tensor, share: float, generator: torch.Generator, side: int, *, length: float, size: float) -> Tensor:
    """How much each pixel is covered, [0,1], by drops that fell ``length`` during the exposure."""
    cell = max(side * size, 1.0)
    grid = [max(round(extent / cell), 1) for extent in x.shape[-2:]]
    drops = (torch.rand(1, 1, *grid, generator=generator) < share).to(x)
    cover = F.interpolate(drops, x.shape[-2:], mode="nearest")
    streaks = _moved(cover, length * side, 60 + 60 * float(torch.rand((), generator=generator)))
    whole = max(length * side / cell, 1)  # a streak is as opaque as the drop that made it
    return blurred((whole * streaks).clamp(0, 1), cell / 3)


def _rain(x: Tensor, share: float, generator: torch.Generator, side: int) -> Tensor:
    """Thin streaks that let half of the light through."""
    return torch.lerp(x, torch.ones_like(x), 0.5 * _falling(x, share, generator, side, length=0.12, size=0.008))


def _snow(x: Tensor, share: float, generator: torch.Generator, side: int) -> Tensor:
    """Opaque flakes."""
    return torch.lerp(x, torch.ones_like(x), 0.9 * _falling(x, share, generator, side, length=0.03, size=0.015))


def _brightness(x: Tensor, more: float, generator: torch.Generator, side: int) -> Tensor:
    """More value, in HSV."""
    from kornia.color import hsv_to_rgb, rgb_to_hsv

    hue, saturation, value = rgb_to_hsv(x).unbind(1)
    return hsv_to_rgb(torch.stack([hue, saturation, (value + more).clamp(0, 1)], 1))


def _contrast(x: Tensor, kept: float, generator: torch.Generator, side: int) -> Tensor:
    """Towards the mean of each channel."""
    mean = x.mean((-2, -1), keepdim=True)
    return (x - mean) * kept + mean


def _exposed(x: Tensor, stops: float, generator: torch.Generator, side: int) -> Tensor:
    """Light, times a power of two."""
    return x * 2.0**stops


def _jpeg(x: Tensor, quality: float, generator: torch.Generator, side: int) -> Tensor:
    return Jpeg(int(quality))(x, x)


def _pixelate(x: Tensor, kept: float, generator: torch.Generator, side: int) -> Tensor:
    """Fewer pixels, and as many again."""
    small = [max(int(extent * kept), 1) for extent in x.shape[-2:]]
    return F.interpolate(F.interpolate(x, small, mode="area"), x.shape[-2:], mode="nearest-exact")


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption("noise", _gaussian, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": Corruption("noise", _shot, (500, 250, 100, 75, 50)),
    "impulse_noise": Corruption("noise", _impulse, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus": Corruption("blur", _defocus, (0.009, 0.0125, 0.0155, 0.031, 0.047)),
    "motion": Corruption("blur", _motion, (0.04, 0.06, 0.08, 0.12, 0.16)),
    "zoom": Corruption("blur", _zoom, (0.05, 0.10, 0.15, 0.20, 0.25)),
    "fog": Corruption("weather", _fog, (0.2, 0.5, 0.75, 1.0, 1.5)),
    "rain": Corruption("weather", _rain, (0.002, 0.004, 0.006, 0.009, 0.013)),
    "snow": Corruption("weather", _snow, (0.01, 0.02, 0.03, 0.045, 0.065)),
    "brightness": Corruption("light", _brightness, (0.05, 0.10, 0.15, 0.20, 0.30)),
    "contrast": Corruption("light", _contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "underexposure": Corruption("exposure", _exposed, (-0.5, -1.0, -1.5, -2.0, -3.0)),
    "overexposure": Corruption("exposure", _exposed, (0.5, 1.0, 1.5, 2.0, 3.0)),
    "jpeg": Corruption("file", _jpeg, (80, 65, 58, 50, 40)),
    "pixelate": Corruption("file", _pixelate, (1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6)),
}


def corrupted_capture(image: Tensor, name: str, severity: int, domain: str, generator: torch.Generator) -> Tensor:
    """A capture ``(3,H,W)`` that was changed after the optics, within the range of its domain.

    Args:
        name: of `CORRUPTIONS`; ``severity``: 1 to 5.
        domain: of the image. Linear light is changed as its tone-mapped image; exposure is of light in every domain.
        generator: of the image's own chance.
    """
    kind = CORRUPTIONS[name]
    within = "linear" if kind.family == "exposure" else "tonemapped" if domain == "linear" else domain
    changed = _changed(convert(image[None], domain, within), kind, severity, generator, min(image.shape[-2:]))
    return convert(changed, within, domain)[0].clamp(*value_range(domain))


def corrupted_scene(scene: Tensor, name: str, severity: int, side: int, generator: torch.Generator) -> Tensor:
    """A scene ``(3,H,W)`` of linear light, changed before the optics.

    Args:
        side: in pixels, of the images that are cut from it.

    Raises:
        ValueError: a corruption that no scene knows.
    """
    kind = CORRUPTIONS[name]
    if not kind.of_scenes:
        raise ValueError(f"{name} does not happen before the optics")
    return _changed(scene[None], kind, severity, generator, side)[0].clamp(*value_range("linear"))


@dataclass(frozen=True)
class SceneChange:
    """A corruption of the scenes of a set, as a set can apply it and remember what came of it.

    Attributes:
        side: of the images that are cut from the scenes. ``seed``: of the run; each scene has a chance of its own.
    """

    name: str
    severity: int
    side: int
    seed: int

    def __call__(self, scene: Tensor, source: str) -> Tensor:
        """The changed light of a scene ``(3,H,W)`` called ``source``."""
        return corrupted_scene(scene, self.name, self.severity, self.side, chance(self.seed, source, self.name))


def chance(seed: int, image: str, name: str) -> torch.Generator:
    """What is random of a corruption of one image: the same fog in all severities, more of it in higher ones."""
    return torch.Generator().manual_seed(image_seed(seed, image, f"corruption-{name}"))


@torch.no_grad()
def _changed(x: Tensor, kind: Corruption, severity: int, generator: torch.Generator, side: int) -> Tensor:
    return kind.change(x, kind.amounts[severity - 1], generator, side)

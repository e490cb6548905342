"""Scenes in linear light, and what restorers make of their captures through a display of any PSF."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from udc_robust.attacks import Streams, image_seed
from udc_robust.data.embedded import EmbeddedPairs
from udc_robust.data.images import list_images
from udc_robust.data.panorama import perspective_view
from udc_robust.data.scenes import FIELD, radiance_of
from udc_robust.errors import UserError
from udc_robust.metrics import psnr
from udc_robust.optics.capture import capture, tone_map
from udc_robust.optics.two_scenes import Window
from udc_robust.restorers.zoo import Restorer

NO_RESTORER = "capture"
"""Stands for the capture as it is."""


@dataclass(frozen=True)
class Scene:
    """The light (3,H,W) of a whole scene, and the window of it that is restored and judged."""

    key: str
    light: Tensor
    window: Window

    @property
    def truth(self) -> Tensor:
        """The window, tone-mapped, (3,side,side), on 8-bit levels."""
        return torch.round(tone_map(self.window.of(self.light)) * 255) / 255


def embedded_scenes(count: int, size: int, psf: str) -> list[Scene]:
    """Crops of the photographs that ship, each in the light of its whole photograph.

    Raises:
        UserError: more crops, or larger ones, than they give.
    """
    data = EmbeddedPairs(count=count, size=size, psf=psf)
    return [Scene(key, *data.scene(i)) for i, key in enumerate(data.keys())]


def scenes_in(folder: Path, kind: str, count: int, size: int, seed: int) -> list[Scene]:
    """The middles of views: of panoramas in directions that are drawn, of stills and photographs as they are.

    Raises:
        UserError: no images, none of linear light, or smaller than ``size``.
    """
    found, paths = [], list_images(folder)
    lights = {path: radiance_of(path, kind) for path in paths[:count]}
    if kind != "panorama" and count > len(paths):
        raise UserError(f"{folder} has {len(paths)} scenes, not {count}: lower --limit")
    for i in range(count):
        path = paths[i % len(paths)]
        light = lights[path]
        if kind == "panorama":
            yaw, pitch = Streams([image_seed(seed, path.name, str(i))]).uniform(torch.empty(1, 2))[0].tolist()
            light = perspective_view(light, 360 * yaw - 180, 60 * pitch - 30, size=FIELD)
        top, left = ((side - size) // 2 for side in light.shape[-2:])
        if min(top, left) < 0:
            height, width = light.shape[-2:]
            raise UserError(f"{path} is {height}x{width}, smaller than --crop {size}: lower it")
        found.append(Scene(f"{path.name.split('.')[0]}_{i:03d}", light, Window(top, left, size)))
    return found


def check_fits(scenes: Sequence[Scene], side: int, name: str) -> None:
    """Refuse scenes that a PSF is larger than: most of its light would come from what nobody knows.

    Raises:
        UserError: see above.
    """
    for scene in scenes:
        if min(scene.light.shape[-2:]) < side:
            height, width = scene.light.shape[-2:]
            raise UserError(f"PSF {name} is {side} px, larger than the scene {scene.key} ({height}x{width}): cut the "
                            "PSF, or give larger scenes")  # fmt: skip


def digest_of(scenes: Sequence[Scene]) -> str:
    """Of all light and windows."""
    found = hashlib.sha256()
    for scene in scenes:
        found.update(f"{scene.key} {scene.window}".encode() + scene.light.numpy().tobytes())
    return found.hexdigest()[:16]


@dataclass(frozen=True)
class Bench:
    """Scenes, noise and restorers.

    Attributes:
        shot, read: noise of captures, see `optics.capture`.
    """

    scenes: Sequence[Scene]
    restorers: Mapping[str, Restorer]
    shot: float = 0.0
    read: float = 0.0
    seed: int = 0
    device: str = "cpu"

    def captured(self, scene: Scene, psf: Tensor, draw: int = 0, *, rounded: bool = True) -> Tensor:
        """The window (1,3,side,side) behind a PSF, tone-mapped; differentiable in the PSF unless rounded to 8 bits.

        Args:
            draw: number of the draw of noise.
        """
        light, window = _around(scene, psf.shape[-1] // 2)
        stream = torch.Generator().manual_seed(image_seed(self.seed, scene.key, str(draw)))
        seen = tone_map(capture(light[None], psf, shot=self.shot, read=self.read, generators=[stream]))
        seen = window.of(seen)
        return (torch.round(seen * 255) / 255 if rounded else seen).to(self.device)

    @torch.no_grad()
    def figures(self, psf: Tensor, names: Sequence[str]) -> dict[str, dict[str, float]]:
        """PSNR in dB by restorer (and of the capture itself) and scene."""
        found: dict[str, dict[str, float]] = {name: {} for name in (NO_RESTORER, *names)}
        for scene in self.scenes:
            seen, truth = self.captured(scene, psf), scene.truth[None].to(self.device).double()
            for name, of_scene in found.items():
                answer = seen if name == NO_RESTORER else self.restorers[name](seen)
                of_scene[scene.key] = psnr(answer.double(), truth).item()
        return found

    def damage(self, psf: Tensor, name: str, draw: int, draws: int) -> tuple[float, Tensor]:
        """What an adversary makes large, and its gradient by the PSF; memory stays that of one scene.

        It is the mean over scenes, and over ``draws`` of noise from number ``draw`` on, of the squared error in dB.
        """
        psf = psf.detach().requires_grad_(True)
        total, slope, count = 0.0, torch.zeros_like(psf), len(self.scenes) * draws
        for scene in self.scenes:
            truth = scene.truth[None].to(self.device)
            for number in range(draw, draw + draws):
                answer = self.restorers[name](self.captured(scene, psf, number, rounded=False))
                error = 10 * torch.log10((answer - truth).square().mean().clamp_min(1e-10)) / count
                (part,) = torch.autograd.grad(error, psf)
                total, slope = total + error.item(), slope + part
        return total, slope


def _around(scene: Scene, reach: int) -> tuple[Tensor, Window]:
    """The light that reaches a window, and where the window lies in it."""
    top, left, side = scene.window.top, scene.window.left, scene.window.side
    first = [max(at - reach, 0) for at in (top, left)]
    light = scene.light[:, first[0] : top + side + reach, first[1] : left + side + reach]
    return light, Window(top - first[0], left - first[1], side)

"""Scene space: the attacker changes the light before the optics, and a camera behind the display photographs it.

A victim becomes *scene in, restoration out*; attacks, threats and the grid see a network as always. What a restorer
ought to answer is the scene as it was when the photograph was taken, the changed one: to show what is there is its
work, and an attack that only paints the scene has not fooled it. So its answers bring along the true picture, by which
quality is measured, and which `against: gt` climbs away from; `against: clean` climbs away from the restoration of the
scene as it was before. How far an answer is from the scene before the change stands beside (`psnr_to_original`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from udc_robust.attacks import Streams, Threat
from udc_robust.attacks import Victim as Answering
from udc_robust.attacks.within import Printable, printable
from udc_robust.grid.attacking import Judged
from udc_robust.grid.images import Batch
from udc_robust.metrics import records
from udc_robust.optics.capture import tone_map
from udc_robust.optics.domains import convert
from udc_robust.optics.photograph import Exposure, Photograph

CAPTURE_DOMAIN = "tonemapped"
SURVIVAL = ("scene_rms", "capture_rms", "capture_linf", "survives")
"""RMS of the change in the scene and in the capture, its largest value there, and the ratio of both RMS."""
FIGURES = (*SURVIVAL, "psnr_to_original")


@dataclass(frozen=True)
class SceneSpace:
    """Scenes in which budgets live, and the camera that photographs them, see `grid.images.Space`.

    Attributes:
        domain: of the scenes: ``tonemapped``, ``linear``, or ``srgb``: what a screen of this white shows.
        white: radiance of the brightest that a poster can show.
        place: the rectangle that an attacker may change; empty: the whole frame.
    """

    camera: Photograph
    domain: str
    white: float
    place: tuple[int, ...] = ()

    @property
    def random(self) -> bool:
        """Whether two photographs of one scene differ."""
        return self.camera.random

    def light(self, scenes: Tensor) -> Tensor:
        """Radiance of scenes ``(B,3,H,W)``; differentiable."""
        light = convert(scenes, self.domain, "linear")
        return self.white * light if self.domain == "srgb" else light

    def stated(self, light: Tensor) -> Tensor:
        """Radiance as scenes of this domain: on 8-bit levels where there are such, but for what nobody may change."""
        scenes = convert(light / self.white if self.domain == "srgb" else light, "linear", self.domain)
        if self.domain == "linear":
            return scenes
        return torch.where(printable(scenes[None], self.limit, ())[0], (scenes * 255).round() / 255, scenes)

    @property
    def limit(self) -> float:
        """White in the units of the scenes: the 8-bit level of it or below."""
        if self.domain == "linear":
            return self.white
        return 1.0 if self.domain == "srgb" else int(float(tone_map(torch.tensor(self.white))) * 255 + 1e-3) / 255

    def toned(self, scenes: Tensor) -> Tensor:
        """Scenes as tone-mapped pictures."""
        return tone_map(self.light(scenes))

    def bounded(self, threat: Threat) -> Threat:
        """What a poster or screen can show within a budget."""
        return Printable(threat, self.limit, self.place)

    def photographed(self, victim: Answering, *, plainly: bool = False) -> Photographed:
        """A victim behind this camera; ``plainly``: behind one without noise, at its place."""
        if not plainly:
            return Photographed(self, victim)
        return Photographed(replace(self, camera=replace(self.camera, shot=0.0, read=0.0, shift_px=0.0)), victim)

    def captures(self, scenes: Tensor, seeds: Sequence[int]) -> Tensor:
        """The photograph of each scene that the first answer to it is made of."""
        with torch.no_grad():
            return self.camera(self.light(scenes), self.exposure(scenes, Streams(seeds)))[0]

    def exposure(self, scenes: Tensor, streams: Streams) -> Exposure:
        """The chance of a photograph, from each image's own stream."""
        reach = self.camera.shift_px
        shift = reach * (2 * streams.uniform(scenes.new_empty(len(scenes), 2)) - 1) if reach else None
        return Exposure(streams.normal(scenes) if self.camera.noisy else None, shift)

    def without_chance(self, scenes: Tensor) -> Tensor:
        """Captures without noise, shift or rounding: what the optics alone leave of a scene."""
        return replace(self.camera, shot=0.0, read=0.0, shift_px=0.0, bits=None)(self.light(scenes), Exposure())[0]


class Photographed(nn.Module):
    """A victim that is shown scenes ``(B,3,H,W)``: it answers ``(B,6,H,W)``, its restoration and the true picture.

    Attributes:
        random: True when it must be called with streams.
    """

    def __init__(self, space: SceneSpace, victim: Answering) -> None:
        super().__init__()
        self.space, self.victim = space, victim
        self._of_victim = bool(getattr(victim, "random", False))
        self.random = space.random or self._of_victim

    def forward(self, scenes: Tensor, streams: Streams | None = None) -> Tensor:
        """Photograph scenes, each with its own chance, and restore the captures; lamps get no gradient."""
        free = printable(scenes.detach(), self.space.limit, self.space.place)
        light = self.space.light(torch.where(free, scenes, scenes.detach()))
        chance = self.space.exposure(scenes, streams) if streams is not None else Exposure()
        capture, truth = self.space.camera(light, chance)
        answer = self.victim(capture, streams) if self._of_victim else self.victim(capture)
        return torch.cat([answer, truth], 1)


def scene_told(facts: Mapping[str, Any]) -> str:
    """Where budgets live, and how the scene is photographed, in a sentence."""
    where = f"region {facts['region']} of the scene" if facts["region"] else "the whole scene"
    chance = [f"noise of shot {facts['shot']:g} and read {facts['read']:g}"] if facts["shot"] or facts["read"] else []
    chance += [f"shifts of up to {facts['shift_px']:g} px"] if facts["shift_px"] else []
    return (
        f"budgets live in {where}, {facts['scene_domain']}, up to a white of radiance {facts['white']:g}; it is "
        f"photographed through {facts['psf']} in {facts['bits']} bits, with {' and '.join(chance) or 'no noise'}"
    )


def told_apart(outputs: Tensor, batch: Batch, otherwise: Tensor) -> tuple[Tensor, Tensor]:
    """Answers ``(draws,B,...)`` as restorations and what they ought to be: of scenes the truth that came along.

    Args:
        otherwise: ``(B,3,H,W)`` what answers to captures ought to be.
    """
    if batch.images.space is None:
        return outputs, otherwise
    restored, truth = outputs.chunk(2, 2)
    return restored, truth


@torch.no_grad()
def survival(judged: Judged, restored: Tensor, original: Tensor) -> dict[str, list[Any]]:
    """What of a change of the scenes is left in the captures, and how far answers are from the scenes before it.

    Both changes are of tone-mapped values; the capture's is without noise and rounding, so that nothing else is in it.

    Args:
        restored: ``(draws,B,3,H,W)``; ``original``: the true pictures before the change, of the same photographs.
    """
    space, batch = judged.batch.images.space, judged.batch
    if space is None:
        return {}
    assert isinstance(space, SceneSpace)
    scene, capture = (seen(judged.inputs) - seen(batch.x) for seen in (space.toned, space.without_chance))
    rms = [change.flatten(1).square().mean(1).sqrt().tolist() for change in (scene, capture)]
    ratios = [after / before if before else None for before, after in zip(*rms, strict=True)]
    values = (*rms, capture.flatten(1).abs().amax(1).tolist(), ratios)
    to_original = records.PSNR.draws(restored.double(), original.double()).mean(0)
    return {**dict(zip(SURVIVAL, values, strict=True)), "psnr_to_original": to_original.tolist()}

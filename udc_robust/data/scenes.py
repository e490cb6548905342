"""Pairs of a scene and its capture: views of panoramas, crops of HDR stills and photographs, behind a display."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from udc_robust.data.images import read_image
from udc_robust.data.pair_settings import NATIVE, PairSettings
from udc_robust.data.panorama import perspective_view
from udc_robust.errors import UserError, nearest, unknown_name
from udc_robust.metrics import psnr
from udc_robust.optics.capture import MAX_RADIANCE, capture, expand_highlights, tone_map
from udc_robust.optics.domains import convert
from udc_robust.progress import note

FIELD = 256
"""Pixels of the camera's view for which the simulated PSFs are made; smaller crops are cut from such views."""

MISSPELT = 0.8
"""How alike a name must be to one that is there to be taken for a mistake and not for a source that one lacks."""


@dataclass(frozen=True)
class Drawn:
    """The last pair that was drawn of a source: ``lq`` and ``gt`` (3,size,size), where it lies, and if it will do."""

    lq: Tensor
    gt: Tensor
    view: dict[str, Any]
    kept: bool


def make_pair(
    linear: Tensor,
    psf: Tensor,
    *,
    shot: float = 0.0,
    read: float = 0.0,
    generator: torch.Generator | None = None,
    edge: str = "replicate",
    round_8_bit: bool = True,
) -> tuple[Tensor, Tensor]:
    """Capture a scene (3,H,W) of radiance 0..500 through a display: the tone-mapped pair (degraded, clean) in [0,1]."""
    scene = linear.clamp(0, MAX_RADIANCE)[None]
    generators = None if generator is None else [generator]
    captured = capture(scene, psf, shot=shot, read=read, generators=generators, edge=edge)  # type: ignore[arg-type]
    lq, gt = tone_map(captured)[0], tone_map(scene)[0]
    return (torch.round(lq * 255) / 255, torch.round(gt * 255) / 255) if round_8_bit else (lq, gt)


def draw_pair(source: Tensor, psfs: Mapping[str, Tensor], settings: PairSettings, stream: torch.Generator) -> Drawn:
    """Draw views of a source's linear light (3,H,W) until one is as hard as asked.

    Raises:
        UserError: the source is smaller than ``size``.
    """
    low, high = settings.difficulty
    for _ in range(settings.tries):
        psf_name = settings.psfs[int(torch.randint(len(settings.psfs), (), generator=stream))]
        scene, view = draw_view(source, settings.kind, settings.size, stream, settings.field_of_view)
        lq, gt = make_pair(
            scene, psfs[psf_name], shot=settings.shot, read=settings.read, generator=stream, edge=settings.edge
        )
        degraded = psnr(lq[None].double(), gt[None].double()).item()
        drawn = Drawn(lq, gt, view | {"psf": psf_name, "degraded_psnr": round(degraded, 3)}, low <= degraded <= high)
        if drawn.kept:
            break
    return drawn


def chosen_sources(paths: Sequence[Path], only: Sequence[str], exclude: Sequence[str]) -> list[Path]:
    """The sources that ``only`` and ``exclude`` leave, by names without endings.

    What is to be excluded need not be there: collections differ, and one list of test scenes serves them all.

    Raises:
        UserError: two sources of one name, a name of ``only`` that is not there, one of ``exclude`` that is not there
            but nearly so, or nothing left.
    """
    by_stem: dict[str, Path] = {}
    for path in paths:
        stem = path.name.split(".")[0]
        if stem in by_stem:
            raise UserError(f"{path} and {by_stem[stem].name} have the same name: rename or remove one of them")
        by_stem[stem] = path
    for name in (*only, *exclude):
        if name not in by_stem and (name in only or nearest(name, by_stem, MISSPELT)):
            raise unknown_name("source", name, by_stem)
    if absent := [name for name in exclude if name not in by_stem]:
        note(f"not among the sources, so not left out: {', '.join(absent)}")
    chosen = [path for stem, path in by_stem.items() if stem not in exclude and (not only or stem in only)]
    if not chosen:
        raise UserError(f"--only and --exclude leave none of the {len(by_stem)} sources: name fewer to exclude")
    return chosen


def radiance_of(path: Path, kind: str) -> Tensor:
    """The linear light (3,H,W) of a source; a photograph becomes pseudo-HDR.

    Raises:
        UserError: it cannot be read, or is no source of this ``kind``.
    """
    picture = read_image(path)
    if kind == "photo":
        return expand_highlights(convert(picture.pixels, picture.domain, "linear"))
    if picture.domain != "linear":
        raise UserError(f"{path} is a photograph without HDR data: use --kind photo")
    return at_native_size(picture.pixels, path) if kind == "panorama" else picture.pixels


def at_native_size(panorama: Tensor, path: Path) -> Tensor:
    """Average a larger panorama down to the resolution at which a view of 90 degrees has ``FIELD`` pixels."""
    height, width = panorama.shape[-2:]
    if width != 2 * height or width < 1000:
        raise UserError(f"{path} is {height}x{width}: a panorama is twice as wide as high, and at least 1000 px wide")
    return F.interpolate(panorama[None], (2 * FIELD, 4 * FIELD), mode="area")[0] if width > 4 * FIELD else panorama


def draw_view(
    source: Tensor, kind: str, size: int, stream: torch.Generator, angles: tuple[float, float] = (NATIVE, NATIVE)
) -> tuple[Tensor, dict[str, Any]]:
    """A random view of a panorama, or a random crop of a picture: ``(3,size,size)``, and where it is.

    Args:
        angles: range of a panorama's angles of view, in degrees.
    """

    def draw(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=stream))

    place: dict[str, Any] = {}
    height, width = source.shape[-2:]
    if kind == "panorama":
        place, height, width = {"yaw": round(draw(-180, 180), 2), "pitch": round(draw(-30, 30), 2)}, FIELD, FIELD
        if angles != (NATIVE, NATIVE):
            place["field_of_view"] = round(draw(*angles), 2)
    if min(height, width) < size:
        raise UserError(f"a source is {height}x{width}, smaller than --size {size}")
    if kind != "panorama" or size < FIELD:
        place["top"], place["left"] = (int(draw(0, length - size + 1 - 1e-6)) for length in (height, width))
    return view_at(source, kind, size, place), place


def view_at(source: Tensor, kind: str, size: int, place: Mapping[str, Any]) -> Tensor:
    """The light of a view ``(3,size,size)``, at the place that a manifest has of it."""
    if kind == "panorama":
        angle = place.get("field_of_view", NATIVE)
        finer = math.ceil(math.tan(math.radians(angle) / 2) - 1e-9)  # a coarser view would skip pixels of the panorama
        source = perspective_view(source, place["yaw"], place["pitch"], size=FIELD * finer, field=angle)
        source = F.avg_pool2d(source, finer)
    if "top" not in place:
        return source
    return source[:, place["top"] : place["top"] + size, place["left"] : place["left"] + size]

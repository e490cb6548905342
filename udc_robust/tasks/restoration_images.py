"""The images of a restoration run: captures, with ground truths where there are any, or scenes to be captured."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from udc_robust.attacks import image_seed
from udc_robust.attacks.within import check_region
from udc_robust.corruptions import SceneChange
from udc_robust.data.annotations import read_annotations
from udc_robust.data.psf_files import load_psf, psf_told
from udc_robust.data.raw import RawCaptures, Sensor
from udc_robust.data.samples import PairedFolders, Sample, SingleFolder
from udc_robust.data.scene_light import EmbeddedScenes, SceneFiles
from udc_robust.errors import UserError
from udc_robust.grid.images import Images
from udc_robust.optics.capture import Blur
from udc_robust.optics.photograph import Photograph
from udc_robust.tasks.restoration_scenes import CAPTURE_DOMAIN, SceneSpace, scene_told
from udc_robust.tasks.restoration_schema import DataConfig


def open_images(block: DataConfig) -> Images:
    """Open a data block and check what can be checked before any work is done.

    Raises:
        UserError: an empty or missing folder, a pair of different sizes, an image smaller than the crop.
    """
    if block.of_scenes:
        return open_scenes(block)
    samples, told = _samples(block)
    keys, sizes = list(samples.keys())[: block.limit], list(samples.sizes())[: block.limit]
    for key, size in zip(keys, sizes, strict=True):
        if block.crop is not None and min(size) < block.crop:
            raise UserError(
                f"image {key} of data {block.label!r} is {size[0]}x{size[1]}, smaller than crop {block.crop}"
            )
    sizes = sizes if block.crop is None else [(block.crop, block.crop)] * len(sizes)

    first = samples[0]
    source, domain = first.source, first.domain

    def load(index: int) -> tuple[Tensor, Tensor | None]:
        sample = cropped(samples[index], block.crop)
        if sample.domain != domain:
            raise UserError(
                f"{source} is {domain} but {sample.source} is {sample.domain}: state `domain` of data "
                f"{block.label!r}, or leave one of them out"
            )
        return sample.lq, sample.gt

    def load_changed(index: int, change: SceneChange) -> tuple[Tensor, Tensor | None]:
        sample = cropped(samples.of_changed_scene(index, change), block.crop)
        return sample.lq, sample.gt

    facts: dict[str, Any] = {"kind": block.kind}
    if scenes := block.scenes(keys, samples.scenes()[: block.limit]):
        facts["scenes"] = scenes
    if block.restorers is not None:
        facts["networks"] = block.restorers
    for what, names in (("attacks", block.attacks), ("restorers", block.restorers)):
        told += [f"met by these {what} only: {', '.join(names)}"] if names else []
    if block.annotations is not None:
        facts["annotations"] = read_annotations(block.annotations, keys, block.names)
    return Images(
        block.label, keys, sizes, domain, load, lambda: _digest(samples.files()), truth=first.gt is not None,
        facts=facts, told=told, load_changed=load_changed if block.kind == "embedded" else None,
        attacks=block.attacks, networks=block.restorers,
    )  # fmt: skip


def _samples(block: DataConfig) -> tuple[Any, list[str]]:
    """The images of a block, and lines on what was understood of them."""
    if block.kind == "embedded":
        from udc_robust.data.embedded import EmbeddedPairs

        count = block.limit or (1 if block.whole else 8)
        embedded = EmbeddedPairs(count, block.size, block.psf, block.subject, block.whole)
        return embedded, psf_told(block.psf, embedded.psf, block.size)
    assert block.lq is not None
    samples: SingleFolder | RawCaptures
    if block.kind == "raw":
        if len(block.lq) > 1:
            raise UserError(f"data {block.label!r}: RAW captures are read from one folder, not {len(block.lq)}")
        said = {"bits": block.bits, "pattern": block.pattern, "white_balance": block.white_balance}
        sensor = Sensor(**{key: value for key, value in said.items() if value is not None})  # type: ignore[arg-type]
        samples = RawCaptures(block.lq[0], block.gt, sensor, block.develop is not False)
    elif block.kind == "pairs":
        assert block.gt is not None
        samples = PairedFolders(block.lq, block.gt, domain=block.domain)
    else:
        samples = SingleFolder(block.lq, domain=block.domain)
    return samples, [samples.domain_told]


def open_scenes(block: DataConfig) -> Images:
    """Open the scenes of a data block, to be attacked before the optics, or once captured.

    Raises:
        UserError: no linear light, a PSF larger than the scenes, a region that reaches out of them.
    """
    what, psf = f"data {block.label!r}", load_psf(block.psf)
    if psf.shape[-1] > block.size:
        raise UserError(
            f"{what}: PSF {block.psf} has {psf.shape[-1]} px and the scenes have {block.size}: most light would come "
            f"from beyond their border; set `size: {psf.shape[-1]}` or more, or give a smaller PSF"
        )
    if block.region:
        try:
            check_region((block.size, block.size), region=block.region)
        except ValueError as error:
            raise UserError(f"{what}: {error}") from None
    scenes: SceneFiles | EmbeddedScenes
    if block.kind == "embedded":
        scenes = EmbeddedScenes(block.limit or 8, block.size, block.psf, block.subject)
    else:
        assert block.hdr is not None
        white = block.white if block.domain == "srgb" else None
        scenes = SceneFiles(block.hdr, block.psf, block.size, white=white)
    camera = Photograph(Blur(psf), block.shot, block.read, block.bits or 8, block.shift_px)
    space = SceneSpace(camera, block.domain or CAPTURE_DOMAIN, block.white, block.region)
    return _images(block, scenes, space, psf_told(block.psf, psf, block.size))


def _images(block: DataConfig, scenes: SceneFiles | EmbeddedScenes, space: SceneSpace, told: list[str]) -> Images:
    """Scenes as a set of images."""
    keys = scenes.keys()[: block.limit]

    def load(index: int) -> tuple[Tensor, Tensor]:
        x = space.stated(scenes[index])
        truth = space.toned(x[None])
        return (x if block.space == "scene" else space.captures(x[None], [_seed(keys[index])])[0]), truth[0]

    facts: dict[str, Any] = {"kind": block.kind}
    if found := block.scenes(keys, scenes.scenes()[: block.limit]):
        facts["scenes"] = found
    if block.space == "scene":
        facts |= {
            "space": "scene", "scene_domain": space.domain, "psf": block.psf, "shot": block.shot, "read": block.read,
            "random": space.random,
            "bits": block.bits or 8, "shift_px": block.shift_px, "white": block.white, "region": list(block.region),
        }  # fmt: skip
        told = [*told, scene_told(facts)]
    return Images(
        block.label, keys, [(block.size, block.size)] * len(keys), CAPTURE_DOMAIN, load,
        lambda: _digest(scenes.files()), truth=True, facts=facts, told=told,
        attacks=block.attacks, networks=block.restorers, space=space if block.space == "scene" else None,
    )  # fmt: skip


def _seed(key: str) -> int:
    """Of the one capture of a scene, for attackers who come after the optics."""
    return image_seed(0, key, "capture")


def cropped(sample: Sample, crop: int | None) -> Sample:
    """The centre of a sample."""
    if crop is None:
        return sample
    top, left = ((length - crop) // 2 for length in sample.lq.shape[-2:])
    window = (..., slice(top, top + crop), slice(left, left + crop))
    return replace(sample, lq=sample.lq[window], gt=None if sample.gt is None else sample.gt[window])


def _digest(files: Sequence[Path]) -> str:
    """Of the bytes of all images and truths: a picture that was replaced makes another run."""
    found = hashlib.sha256()
    for path in files:
        found.update(path.read_bytes())
    return found.hexdigest()

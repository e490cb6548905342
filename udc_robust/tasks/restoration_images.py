"""The images of a restoration run: captures, with ground truths where there are any."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from udc_robust.corruptions import SceneChange
from udc_robust.data.annotations import read_annotations
from udc_robust.data.raw import RawCaptures, Sensor
from udc_robust.data.samples import PairedFolders, Sample, SingleFolder
from udc_robust.errors import UserError
from udc_robust.grid.images import Images
from udc_robust.tasks.restoration_schema import DataConfig


def open_images(block: DataConfig) -> Images:
    """Open a data block and check what can be checked before any work is done.

    Raises:
        UserError: an empty or missing folder, a pair of different sizes, an image smaller than the crop.
    """
    samples, told = _samples(block)
    keys, sizes = list(samples.keys())[: block.limit], list(samples.sizes())[: block.limit]
    for key, size in zip(keys, sizes, strict=True):
        if block.crop is not None and min(size) < block.crop:
            raise UserError(
                f"image {key} of data {block.label!r} is {size[0]}x{size[1]}, smaller than crop {block.crop}"
            )
    sizes = sizes if block.crop is None else [(block.crop, block.crop)] * len(sizes)

    def load(index: int) -> tuple[Tensor, Tensor | None]:
        sample = cropped(samples[index], block.crop)
        return sample.lq, sample.gt

    def load_changed(index: int, change: SceneChange) -> tuple[Tensor, Tensor | None]:
        sample = cropped(samples.of_changed_scene(index, change), block.crop)
        return sample.lq, sample.gt

    first = samples[0]
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
        block.label, keys, sizes, first.domain, load, lambda: _digest(samples.files()), truth=first.gt is not None,
        facts=facts, told=told, load_changed=load_changed if block.kind == "embedded" else None,
        attacks=block.attacks, networks=block.restorers,
    )  # fmt: skip


def _samples(block: DataConfig) -> tuple[Any, list[str]]:
    """The images of a block, and lines on what was understood of them."""
    if block.kind == "embedded":
        from udc_robust.data.embedded import EmbeddedPairs
        from udc_robust.data.psf_files import psf_told

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

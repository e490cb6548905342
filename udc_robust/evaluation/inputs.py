"""Opening the data of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from udc_robust.config import DataConfig
from udc_robust.data.samples import PairedFolders, Sample, SingleFolder
from udc_robust.errors import UserError


class Samples(Protocol):
    """A data set that loads one image at a time, so that memory stays flat in their number."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...
    def keys(self) -> Sequence[str]:
        """A unique name for each image."""

    def sizes(self) -> Sequence[tuple[int, int]]:
        """Height and width of each image, read from its header only."""

    def files(self) -> Sequence[Path]:
        """All files of the set; none for images that ship with a library."""


@dataclass(frozen=True)
class Inputs:
    """The images of one data block: keys, sizes after cropping, and how to load them."""

    label: str
    samples: Samples
    keys: list[str]
    sizes: list[tuple[int, int]]
    domain: str
    crop: int | None

    def load(self, index: int) -> Sample:
        """One image, cropped."""
        sample = self.samples[index]
        if self.crop is None:
            return sample
        gt = None if sample.gt is None else _centre(sample.gt, self.crop)
        return replace(sample, lq=_centre(sample.lq, self.crop), gt=gt)


def _centre(image: Tensor, crop: int) -> Tensor:
    top, left = ((length - crop) // 2 for length in image.shape[-2:])
    return image[..., top : top + crop, left : left + crop]


def open_inputs(config: DataConfig) -> Inputs:
    """Open a data block and check what can be checked before any work is done.

    Raises:
        UserError: an empty or missing folder, a pair of different sizes, an image smaller than the crop.
    """
    samples: Samples
    if config.kind == "embedded":
        from udc_robust.data.embedded import EmbeddedPairs

        samples = EmbeddedPairs(count=config.limit or 8, size=config.size, psf=config.psf)
    elif config.kind == "pairs":
        assert config.lq is not None and config.gt is not None
        samples = PairedFolders(config.lq, config.gt, domain=config.domain)
    else:
        assert config.lq is not None
        samples = SingleFolder(config.lq, domain=config.domain)
    keys, sizes = list(samples.keys())[: config.limit], list(samples.sizes())[: config.limit]
    for key, size in zip(keys, sizes, strict=True):
        if config.crop is not None and min(size) < config.crop:
            raise UserError(
                f"image {key} of data {config.label!r} is {size[0]}x{size[1]}, smaller than crop {config.crop}"
            )
    if config.crop is not None:
        sizes = [(config.crop, config.crop)] * len(sizes)
    return Inputs(config.label, samples, keys, sizes, samples[0].domain, config.crop)


def stack(samples: Sequence[Sample], device: str) -> tuple[Tensor, Tensor | None]:
    """One batch ``(B,3,H,W)`` of inputs, and of ground truths where all images have one."""
    lq = torch.stack([sample.lq for sample in samples]).to(device)
    gts = [sample.gt for sample in samples if sample.gt is not None]
    return lq, torch.stack(gts).to(device) if len(gts) == len(samples) else None

"""Clean images for detectors: to learn from and to set levels on, never those that are judged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from udc_robust.errors import UserError
from udc_robust.grid.images import Images
from udc_robust.limits import require_memory


def clean_images(block: Any, data: Sequence[Any], opened: Callable[[Any], Images], domain: str, device: str) -> Tensor:
    """The clean images of a block ``(N,3,H,W)``.

    Args:
        data: blocks of the images that are judged; ``opened``: opens a block.

    Raises:
        UserError: images of another domain, of several sizes, or among those judged.
    """
    images = opened(block)
    if images.domain != domain:
        raise UserError(f"clean images {images.label!r} are {images.domain}, the data is {domain}: they must be alike")
    if len(set(images.sizes)) > 1:
        raise UserError(f"clean images {images.label!r} differ in size: give them `side` or `crop`")
    height, width = images.sizes[0]
    require_memory(3 * len(images.keys) * height * width, f"{len(images.keys)} `clean` images (lower their `limit`)")
    found = torch.stack([images.load(i)[0] for i in range(len(images.keys))])
    known = {_digest(image) for image in found}
    for judged in map(opened, data):
        shared = sum(_digest(judged.load(i)[0]) in known for i in range(len(judged.keys)))
        if shared:
            raise UserError(
                f"{shared} images of data {judged.label!r} are among the `clean` images {images.label!r}: levels must "
                "be set on images that are not judged"
            )
    return found.to(device)


def _digest(image: Tensor) -> bytes:
    return hashlib.sha256(image.contiguous().numpy().tobytes()).digest()

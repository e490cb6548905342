"""Batches of labelled images, each a pure function of the step."""

from __future__ import annotations

import functools
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from udc_robust.classifiers.data import LabelledImages
from udc_robust.errors import UserError
from udc_robust.training.batches import Share, StepBatches


class LabelledBatches(StepBatches):
    """``(images, labels, seeds)``: ``(B,3,side,side)`` in [0,1], ``(B,)``, and a seed for what a loss draws for a row.

    Every image comes once an epoch, in an order of the epoch's own, shifted by up to ``pad`` pixels into a black border
    and, with ``flip``, mirrored every other time.

    Raises:
        UserError: no ``side`` of the images, or a batch larger than the data.
    """

    def __init__(self, images: LabelledImages, *, pad: int, flip: bool, **share: Unpack[Share]) -> None:
        if share["batch"] > len(images):
            raise UserError(f"batch_size {share['batch']} is larger than the data ({len(images)} images)")
        assert images.side is not None
        super().__init__(**share)
        self._labelled, self._side, self._pad, self._flip = images, images.side, pad, flip
        self._batch = share["batch"]

    def __getitem__(self, step: int) -> tuple[Tensor, ...]:
        rows = [self._row(step, row) for row in self._rows]
        images, labels, seeds = zip(*rows, strict=True)
        return torch.stack(images).float() / 255, torch.tensor(labels), torch.tensor(seeds)

    def _row(self, step: int, row: int) -> tuple[Tensor, int, int]:
        epoch, place = divmod(step * self._batch + row, len(self._labelled))
        image, label = self._labelled[_order(len(self._labelled), self._seed, epoch)[place]]
        stream = self._stream(step, row)
        top, left, flip, seed = (
            int(torch.randint(high, (), generator=stream)) for high in (*[2 * self._pad + 1] * 2, 2, 2**62)
        )
        image = F.pad(image, [self._pad] * 4)[:, top : top + self._side, left : left + self._side]
        return image.flip(-1) if flip and self._flip else image, label, seed


@functools.lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> list[int]:
    """The order in which an epoch takes the images."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**64)
    return torch.randperm(count, generator=generator).tolist()

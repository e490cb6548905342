"""Training batches that are a pure function of the step: resuming and sharing out give the same batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from udc_robust.data.samples import Sample
from udc_robust.errors import UserError


class PairBatches(Dataset[tuple[Tensor, Tensor]]):
    """Random crops of (degraded, clean) pairs, flipped and turned; item ``i`` is the batch of step ``i``.

    Images are kept in memory as 8 bits. Each row of a batch is drawn from its own stream (seed, step, row), so a
    process that takes every n-th row sees exactly its share of the single-process batch.

    Raises:
        UserError: no ground truth, images smaller than the patch, or fewer pairs than a batch holds.
    """

    def __init__(
        self, pairs: Sequence[Sample], *, patch: int, batch: int, steps: int, seed: int, rank: int = 0, ranks: int = 1
    ) -> None:
        if batch % ranks:
            raise UserError(f"batch_size {batch} must be a multiple of the {ranks} processes")
        self._images = [self._eight_bits(pair, patch) for pair in pairs]
        if batch > len(self._images):
            raise UserError(f"batch_size {batch} is larger than the data ({len(self._images)} pairs)")
        self._patch, self._steps, self._seed = patch, steps, seed
        self._rows = range(rank, batch, ranks)

    @staticmethod
    def _eight_bits(pair: Sample, patch: int) -> tuple[Tensor, Tensor]:
        if pair.gt is None:
            raise UserError(f"{pair.key} has no ground truth: training needs pairs")
        if min(pair.lq.shape[-2:]) < patch:
            raise UserError(f"{pair.key} is {tuple(pair.lq.shape[-2:])}, smaller than patch_size {patch}")
        lq, gt = (torch.round(image * 255).to(torch.uint8) for image in (pair.lq, pair.gt))
        return lq, gt

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        rows = [self._row(step, row) for row in self._rows]
        lq, gt = (torch.stack(images).float() / 255 for images in zip(*rows, strict=True))
        return lq, gt

    def _row(self, step: int, row: int) -> tuple[Tensor, Tensor]:
        stream = torch.Generator().manual_seed((self._seed * 1_000_003 + step) * 4_099 + row)

        def draw(high: int) -> int:
            return int(torch.randint(high, (), generator=stream))

        lq, gt = self._images[draw(len(self._images))]
        top, left = draw(lq.shape[-2] - self._patch + 1), draw(lq.shape[-1] - self._patch + 1)
        window = (..., slice(top, top + self._patch), slice(left, left + self._patch))
        # Flips and quarter turns move the PSF's orientation too; displays are near enough to symmetric for it to help.
        turns, flip = draw(4), draw(2)
        crops = (torch.rot90(image[window], turns, (-2, -1)) for image in (lq, gt))
        first, second = (crop.flip(-1) if flip else crop for crop in crops)
        return first, second


def loader(batches: PairBatches, first_step: int, workers: int = 0) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches from ``first_step`` on, in order; an item already is a batch."""
    return DataLoader(batches, batch_size=None, sampler=range(first_step, len(batches)), num_workers=workers)

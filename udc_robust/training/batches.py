"""Training batches that are a pure function of the step: resuming and sharing out give the same batches."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import NotRequired, TypedDict, Unpack

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from udc_robust.attacks.streams import image_seed
from udc_robust.data.samples import Sample
from udc_robust.errors import UserError


class Share(TypedDict):
    """Which batches there are, and which rows of them a process takes: every ``ranks``-th from ``rank`` on."""

    batch: int
    steps: int
    seed: int
    rank: NotRequired[int]
    ranks: NotRequired[int]


class StepBatches(Dataset[tuple[Tensor, ...]]):
    """Item ``i`` is this process's share of the batch of step ``i``.

    Each row of a batch is drawn from its own stream (seed, step, row), so a process that takes every n-th row sees
    exactly its share of the single-process batch.

    Attributes:
        workers: processes that make batches beside the training.

    Raises:
        UserError: a batch that the processes cannot share.
    """

    workers = 0

    def __init__(self, *, batch: int, steps: int, seed: int, rank: int = 0, ranks: int = 1) -> None:
        if batch % ranks:
            raise UserError(f"batch_size {batch} must be a multiple of the {ranks} processes")
        self._steps, self._seed, self._rows = steps, seed, range(rank, batch, ranks)

    def __len__(self) -> int:
        return self._steps

    def _stream(self, step: int, row: int) -> torch.Generator:
        return torch.Generator().manual_seed(((self._seed * 1_000_003 + step) * 4_099 + row) % 2**64)

    def _row_seeds(self, step: int) -> Tensor:
        """A seed for each row ``(B,)``: of all that a recipe draws for it, on whichever process."""
        return torch.tensor([image_seed(self._seed, f"{step}/{row}", "recipe") for row in self._rows])


class CropBatches(StepBatches):
    """Random crops of one or several aligned images, flipped and turned.

    Args:
        images: 8-bit ``(3,H,W)`` tensors, aligned ones in a tuple.
    """

    def __init__(self, images: Sequence[tuple[Tensor, ...]], *, patch: int, **share: Unpack[Share]) -> None:
        super().__init__(**share)
        self._images, self._patch = images, patch

    def __getitem__(self, step: int) -> tuple[Tensor, ...]:
        rows = [self._crops(self._stream(step, row)) for row in self._rows]
        return tuple(torch.stack(images).float() / 255 for images in zip(*rows, strict=True))

    def _crops(self, stream: torch.Generator) -> tuple[Tensor, ...]:
        return random_crops(self._images[draw(len(self._images), stream)], self._patch, stream)


def draw(high: int, stream: torch.Generator) -> int:
    """A whole number from 0 to below ``high``."""
    return int(torch.randint(high, (), generator=stream))


def random_crops(images: tuple[Tensor, ...], patch: int, stream: torch.Generator) -> tuple[Tensor, ...]:
    """The same random crop of aligned images ``(3,H,W)``, flipped and turned: ``(3,patch,patch)`` each."""
    top, left = (draw(side - patch + 1, stream) for side in images[0].shape[-2:])
    window = (..., slice(top, top + patch), slice(left, left + patch))
    # Flips and quarter turns move the PSF's orientation too; displays are near enough to symmetric for it to help.
    turns, flip = draw(4, stream), draw(2, stream)
    crops = (torch.rot90(image[window], turns, (-2, -1)) for image in images)
    return tuple(crop.flip(-1) if flip else crop for crop in crops)


class PairBatches(CropBatches):
    """Crops of (degraded, clean) pairs, each ``(B,3,patch,patch)`` in [0,1].

    Raises:
        UserError: no ground truth, images smaller than the patch, linear light or of several domains, or fewer pairs
            than a batch holds.
    """

    def __init__(self, pairs: Sequence[Sample], *, patch: int, **share: Unpack[Share]) -> None:
        images = [self._eight_bits(pair, patch) for pair in of_one_domain(pairs)]
        if share["batch"] > len(images):
            raise UserError(f"batch_size {share['batch']} is larger than the data ({len(images)} pairs)")
        super().__init__(images, patch=patch, **share)

    @staticmethod
    def _eight_bits(pair: Sample, patch: int) -> tuple[Tensor, Tensor]:
        if pair.gt is None:
            raise UserError(f"{pair.key} has no ground truth: training needs pairs")
        return eight_bits(pair.key, pair.lq, patch), eight_bits(pair.key, pair.gt, patch)


class SeededPairs(PairBatches):
    """`PairBatches` with a seed for each row."""

    def __getitem__(self, step: int) -> tuple[Tensor, ...]:
        return *super().__getitem__(step), self._row_seeds(step)


class NoisyBatches(CropBatches):
    """What a noise predictor learns from: ``(x_t, t, noise)`` with ``t`` uniform in 0..max_noise_level.

    ``x_t`` ``(B,3,patch,patch)`` is a crop in [-1,1] under ``noise``.

    Raises:
        UserError: images smaller than the patch, linear light or of several domains.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        alphas_cumprod: Tensor,
        max_noise_level: int,
        *,
        patch: int,
        **share: Unpack[Share],
    ) -> None:
        images = [(eight_bits(sample.key, sample.lq, patch),) for sample in of_one_domain(samples)]
        super().__init__(images, patch=patch, **share)
        self._alphas_cumprod, self._levels = alphas_cumprod.float(), max_noise_level + 1

    def __getitem__(self, step: int) -> tuple[Tensor, ...]:
        rows = [self._noisy(self._stream(step, row)) for row in self._rows]
        return tuple(torch.stack(parts) for parts in zip(*rows, strict=True))

    def _noisy(self, stream: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        u = self._crops(stream)[0].float() / 127.5 - 1
        t = torch.randint(self._levels, (), generator=stream)
        noise = torch.randn(u.shape, generator=stream)
        alpha = self._alphas_cumprod[t]
        return alpha.sqrt() * u + (1 - alpha).sqrt() * noise, t, noise


def of_one_domain(samples: Iterable[Sample], like: tuple[str, str] | None = None) -> Iterator[Sample]:
    """The samples, one at a time.

    Args:
        like: what they must share the domain of, in words, and that domain; None: the first of them.

    Raises:
        UserError: linear light, or images of several domains; it names them.
    """
    for sample in samples:
        if sample.domain == "linear":
            raise UserError(
                f"{sample.source} is linear light: a training takes tone-mapped or sRGB images in [0,1], such as "
                "`udc-robust synth` makes"
            )
        like = like or (f"{sample.source} is", sample.domain)
        if sample.domain != like[1]:
            raise UserError(
                f"{sample.source} is {sample.domain}, but {like[0]} {like[1]}: give images of one domain, each "
                "set with its manifest.json if it has one"
            )
        yield sample


def eight_bits(name: str, image: Tensor, patch: int) -> Tensor:
    """An image ``(3,H,W)`` in [0,1] as 8 bits, to keep data sets small in memory.

    Raises:
        UserError: it is smaller than the patch, or holds other values.
    """
    if min(image.shape[-2:]) < patch:
        raise UserError(f"{name} is {tuple(image.shape[-2:])}, smaller than patch_size {patch}")
    levels = torch.round(image * 255)
    if levels.min() < 0 or levels.max() > 255:
        raise UserError(f"{name} holds values outside of [0,1]: a training takes tone-mapped or sRGB images")
    return levels.to(torch.uint8)


def loader(batches: StepBatches, first_step: int) -> DataLoader[tuple[Tensor, ...]]:
    """Batches from ``first_step`` on, in order; an item already is a batch."""
    return DataLoader(
        batches, batch_size=None, sampler=range(first_step, len(batches)), num_workers=batches.workers,
        worker_init_fn=_leave_signals,
    )  # fmt: skip


def _leave_signals(worker: int) -> None:
    """Ctrl-C is the training's to answer: it ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

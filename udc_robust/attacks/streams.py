"""One random stream per image, so that a result depends on no neighbour, order or process count."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def image_seed(run_seed: int, image_key: str, cell_key: str = "") -> int:
    """Seed of one image in one cell of the grid: a hash, so that near keys give unrelated streams."""
    digest = hashlib.sha256(f"{run_seed}\0{image_key}\0{cell_key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Streams:
    """A ``torch.Generator`` for each image of a batch. Draws are made on the CPU: devices give the same numbers."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    @property
    def seeds(self) -> list[int]:
        """The seed of each image's stream, however much was drawn from it."""
        return [generator.initial_seed() for generator in self._generators]

    def __len__(self) -> int:
        return len(self._generators)

    @classmethod
    def _holding(cls, generators: Sequence[torch.Generator]) -> Streams:
        streams = cls([])
        streams._generators = list(generators)
        return streams

    def of(self, rows: Tensor | None) -> Streams:
        """The streams of some images of the batch (None: of all): the very generators, not copies."""
        return self if rows is None else Streams._holding([self._generators[i] for i in rows.tolist()])

    def repeat(self, times: int) -> Streams:
        """Each image ``times`` times in a row; its copies draw one after the other from its own generator."""
        return Streams._holding([g for g in self._generators for _ in range(times)])

    def _draw(self, like: Tensor, function: str) -> Tensor:
        shape = like.shape[1:]
        rows = [getattr(torch, function)(shape, generator=g, dtype=like.dtype) for g in self._generators]
        return torch.stack(rows).to(like.device)

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform numbers in [0,1), shaped like ``like``."""
        return self._draw(like, "rand")

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers, shaped like ``like``."""
        return self._draw(like, "randn")

    def signs(self, like: Tensor) -> Tensor:
        """Fair signs, -1 or +1, shaped like ``like``."""
        return self.uniform(like).lt(0.5).to(like.dtype) * 2 - 1

    def permutation(self, row: int, n: int) -> Tensor:
        """A random order of ``range(n)`` for one image."""
        return torch.randperm(n, generator=self._generators[row])

    def integer(self, row: int, high: int) -> int:
        """A whole number in [0, high) for one image."""
        return int(torch.randint(high, (), generator=self._generators[row]))

    def row_signs(self, row: int, shape: tuple[int, ...]) -> Tensor:
        """Fair signs of any shape for one image."""
        return torch.randint(2, shape, generator=self._generators[row]) * 2.0 - 1

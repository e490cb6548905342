"""Whole photographs: a network over images that are too big for memory, and its gradient, tile by tile.

The gradient of an image of 12 megapixels never needs more than the activations of one tile: a tile is answered, and
gone back through, before the next is begun. Where an objective is a mean over values its gradient is known as soon as
the tile is answered, and nothing is computed twice; any other needs the whole answer first, and the tiles once more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from udc_robust.networks.tiles import Box, tile_boxes
from udc_robust.progress import part_done

Network = Callable[[Tensor], Tensor]
Measure = Callable[[Tensor, Tensor], Tensor]


class Slope(NamedTuple):
    """A gradient ``(B,C,H,W)``, the values ``(B,)`` it is of, and the answer ``(B,C,H,W)``."""

    gradient: Tensor
    values: Tensor
    output: Tensor


@dataclass(frozen=True)
class Tiles:
    """How images larger than ``side`` go through a network; all in px.

    What comes out is that of the whole image where the network looks no further than ``overlap``.

    Attributes:
        side, overlap: multiples of ``grid``, see `tile_boxes`.
    """

    side: int
    overlap: int
    grid: int = 1

    def needed(self, x: Tensor) -> bool:
        """Whether images are larger than a tile."""
        return max(x.shape[-2:]) > self.side

    def boxes(self, x: Tensor) -> list[Box]:
        """The tiles of images."""
        return list(tile_boxes(x.shape[-2], x.shape[-1], self.side, self.overlap, self.grid))

    def answer(self, network: Network, x: Tensor) -> Tensor:
        """The network's answer to ``(B,C,H,W)``; its gradient goes to the images, and to no weights."""
        if torch.is_grad_enabled() and x.requires_grad:
            return _Answer.apply(x, network, self)
        return self._answered(network, x)

    @torch.no_grad()
    def _answered(self, network: Network, x: Tensor) -> Tensor:
        output = torch.empty_like(x)
        for box, done, count in self._numbered(x):
            output[..., box.rows_out, box.columns_out] = network(x[..., box.rows_in, box.columns_in])[box.trusted]
            part_done(done, count)
        return output

    @torch.no_grad()
    def difference(self, network: Network, x: Tensor) -> float:
        """How far the answer in tiles is from the whole one: PSNR in dB on the middle, a tile and a half wide.

        That is four tiles; ``inf`` where both are the same.
        """
        sides = [min(length, self.side * 3 // 2 // self.grid * self.grid) for length in x.shape[-2:]]
        top, left = ((length - side) // 2 for length, side in zip(x.shape[-2:], sides, strict=True))
        part = x[:1, :, top : top + sides[0], left : left + sides[1]]
        whole = network(part)
        span = max(float(whole.max() - whole.min()), 1e-12)
        error = float((self._answered(network, part) - whole).square().mean())
        return -10 * math.log10(error / span**2) if error else math.inf

    def _numbered(self, x: Tensor) -> list[tuple[Box, int, int]]:
        boxes = self.boxes(x)
        return [(box, number, len(boxes)) for number, box in enumerate(boxes, 1)]

    def slope(
        self, network: Network, x: Tensor, target: Tensor, measure: Measure, place: Sequence[int] | None = None,
        known: Tensor | None = None,
    ) -> Slope:  # fmt: skip
        """The gradient of a ``measure`` that is a mean over values, in one go.

        Args:
            target: images of the size of the answer. ``measure``: a number for each image, of parts of both.
            place: top, left, height and width of a rectangle: nothing else has a gradient, where it is given.
            known: the answer to images that differ in the rectangle only; None: there is none yet.
        """
        gradient, output = torch.zeros_like(x), torch.empty_like(x)
        values = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for box, done, count in self._numbered(x):
            out = (..., box.rows_out, box.columns_out)
            into = (..., box.rows_in, box.columns_in)
            share = output[out].numel() / output.numel()
            if place is not None and not box.touches(place):
                with torch.no_grad():
                    output[out] = network(x[into])[box.trusted] if known is None else known[out]
                    values += share * measure(output[out], target[out])
            else:
                with torch.enable_grad():
                    part = x[into].detach().requires_grad_(True)
                    answer = network(part)[box.trusted]
                    mine = share * measure(answer, target[out])
                    (found,) = torch.autograd.grad(mine.sum(), part)
                gradient[into] += found
                values += mine.detach()
                output[out] = answer.detach()
                del part, answer, mine, found  # or they stay until those of the next tile are there
            part_done(done, count)
        return Slope(gradient, values, output)


class _Answer(torch.autograd.Function):
    """An answer in tiles whose backward answers each tile again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, network: Network, tiles: Tiles) -> Tensor:
        ctx.save_for_backward(x)
        ctx.network, ctx.tiles = network, tiles
        return tiles._answered(network, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        gradient = torch.zeros_like(x)
        for box, done, count in ctx.tiles._numbered(x):
            mine, into = slope[..., box.rows_out, box.columns_out], (..., box.rows_in, box.columns_in)
            if mine.any():
                with torch.enable_grad():
                    part = x[into].detach().requires_grad_(True)
                    (found,) = torch.autograd.grad(ctx.network(part)[box.trusted], part, mine)
                gradient[into] += found
                del part, found
            part_done(done, count)
        return gradient, None, None


def reach(network: Network, grid: int, channels: int = 3, device: torch.device | None = None) -> int | None:
    """How many px to each side of a pixel its answer depends on: by the gradient of a block in the middle of noise.

    None: as far as was looked (128 px) or further; so it is with statistics of the whole image.
    ``device``: where the network is.
    """
    around = -(-128 // grid) * grid
    side = 2 * around + grid
    x = torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(0))
    x = x.to(device).requires_grad_(True)
    middle = (..., slice(around, around + grid), slice(around, around + grid))
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(network(x)[middle].square().sum(), x)
    seen = (gradient[0] != 0).any(0).nonzero()
    farthest = max(around - int(seen.min()), int(seen.max()) - (around + grid - 1), 0) if len(seen) else 0
    return farthest if farthest < around else None

"""Any image size: pad to a network's multiple, and overlapped tiles for frames too big for memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from types import EllipsisType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from udc_robust.errors import UserError

_MOST_TILES = 100_000


def padded(network: Callable[[Tensor], Tensor], x: Tensor, multiple: int) -> Tensor:
    """Run on ``x`` replicate-padded right and bottom to a multiple, and crop the answer back; differentiable."""
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if not (bottom or right):
        return network(x)
    return network(F.pad(x, (0, right, 0, bottom), mode="replicate"))[..., :height, :width]


def check_tiles(tile: int, overlap: int) -> None:
    """Refuse tiles that cannot be cut.

    Args:
        tile: side in pixels; 0 for whole images.

    Raises:
        UserError: negative numbers, or an overlap that leaves nothing of a tile.
    """
    if tile < 0 or overlap < 0:
        raise UserError(f"tile {tile} and overlap {overlap} must be 0 or more pixels")
    if tile and tile <= 2 * overlap:
        raise UserError(f"tile {tile} must be more than twice the overlap {overlap}, or 0 for whole images")


def count_tiles(height: int, width: int, tile: int, overlap: int) -> int:
    """How many tiles cover an image, see `tile_boxes`; the same whatever they are aligned to.

    Raises:
        UserError: they cannot be cut, or are so many that they would hardly end.
    """
    check_tiles(tile, overlap)
    step = tile - 2 * overlap
    count = math.prod(max(1, math.ceil((side - 2 * overlap) / step)) for side in (height, width))
    if count > _MOST_TILES:
        raise UserError(
            f"tiles of {tile} px with an overlap of {overlap} cut {height} x {width} px into {count:,}: "
            "make the tile larger, or the overlap smaller"
        )
    return count


class Box(NamedTuple):
    """A tile: the rows and columns that go in, and those of the answer that it is trusted for."""

    rows_in: slice
    columns_in: slice
    rows_out: slice
    columns_out: slice

    @property
    def trusted(self) -> tuple[EllipsisType, slice, slice]:
        """The trusted part, as places of the tile itself."""
        inner = (
            slice(out.start - whole.start, out.stop - whole.start)
            for whole, out in ((self.rows_in, self.rows_out), (self.columns_in, self.columns_out))
        )
        return (..., *inner)  # type: ignore[return-value]

    def touches(self, place: Sequence[int]) -> bool:
        """Whether any of a rectangle (top, left, height, width in px) goes in."""
        top, left, height, width = place
        return (
            self.rows_in.start < top + height and top < self.rows_in.stop
            and self.columns_in.start < left + width and left < self.columns_in.stop
        )  # fmt: skip


def tile_boxes(height: int, width: int, tile: int, overlap: int, grid: int = 1) -> Iterator[Box]:
    """Cover an image.

    Neighbouring tiles share ``2 * overlap`` pixels, and each is trusted up to ``overlap`` from its inner borders.

    Args:
        grid: tiles begin at its multiples, as must ``tile`` and ``overlap``: a network that strides by it then sees
            every tile as it sees that part of the whole image.

    Raises:
        UserError: see `check_tiles`.
    """
    check_tiles(tile, overlap)
    if not tile:
        raise ValueError("no tiles: take the whole image")
    for rows_in, rows_out in _spans(height, tile, overlap, grid):
        for columns_in, columns_out in _spans(width, tile, overlap, grid):
            yield Box(rows_in, columns_in, rows_out, columns_out)


def _spans(length: int, tile: int, overlap: int, grid: int) -> list[tuple[slice, slice]]:
    step = tile - 2 * overlap
    spans, done = [], 0
    while done < length:
        # The last tile is moved back inside, so that every tile has (nearly) the full size where the image has.
        start = max(min(done - overlap, -(-(length - tile) // grid) * grid), 0)
        end = min(start + tile, length)
        trusted = length if end == length else start + overlap + step
        spans.append((slice(start, end), slice(done, trusted)))
        done = trusted
    return spans


def tiled(
    network: Callable[..., Tensor],
    x: Tensor,
    tile: int,
    overlap: int,
    on_tile: Callable[[], None] | None = None,
    along: Sequence[Tensor] = (),
) -> Tensor:
    """Run on ``(B,C,H,W)`` tile by tile; differentiable.

    Equal to the whole-image result where the network's receptive field reaches no further than ``overlap``; networks
    with global statistics (``whole_image``) see only their tile and answer differently.

    Args:
        tile, overlap: see `tile_boxes`.
        on_tile: called after each tile.
        along: further tensors ``(...,H,W)`` that are cut like ``x`` and handed on.

    Raises:
        UserError: the overlap leaves nothing of a tile.
    """
    count_tiles(x.shape[-2], x.shape[-1], tile, overlap)
    output = torch.empty_like(x)
    for box in tile_boxes(x.shape[-2], x.shape[-1], tile, overlap):
        answer = network(*(part[..., box.rows_in, box.columns_in] for part in (x, *along)))
        output[..., box.rows_out, box.columns_out] = answer[box.trusted]
        if on_tile:
            on_tile()
    return output

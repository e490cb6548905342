"""Any size: padding that does not show, tiles that equal the whole image where the network is local."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from udc_robust.errors import UserError
from udc_robust.networks.tiles import check_tiles, count_tiles, padded, tile_boxes, tiled


@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 40), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_tiles_cover_every_pixel_once(height, width, tile, overlap) -> None:
    count = torch.zeros(height, width)
    for rows_in, columns_in, rows_out, columns_out in tile_boxes(height, width, tile, overlap):
        count[rows_out, columns_out] += 1
        assert rows_in.start <= rows_out.start and rows_out.stop <= rows_in.stop
        assert rows_in.stop - rows_in.start == min(tile, height)  # full tiles, also at the far ends
        assert columns_in.stop - columns_in.start == min(tile, width)
        # What is trusted lies at least `overlap` inside, but for the image's own borders.
        assert rows_in.start == 0 or rows_out.start - rows_in.start >= overlap
        assert rows_in.stop == height or rows_in.stop - rows_out.stop >= overlap
    assert (count == 1).all()


def test_a_local_network_gives_the_same_in_tiles() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 5, padding=2)).eval()
    x = torch.rand(1, 3, 50, 71)
    ticks = []
    whole, parts = network(x).detach(), tiled(network, x, 24, 3, lambda: ticks.append(1))
    assert torch.allclose(parts, whole, atol=1e-6)
    assert len(ticks) == len(list(tile_boxes(50, 71, 24, 3))) > 4


def test_too_much_overlap_is_refused() -> None:
    with pytest.raises(UserError, match="more than twice the overlap"):
        tiled(nn.Identity(), torch.rand(1, 3, 9, 9), 8, 4)


@given(st.integers(-9, 40), st.integers(-9, 20), st.integers(1, 50))
def test_any_tile_and_overlap_end_or_are_refused(tile, overlap, side) -> None:
    try:
        boxes = list(tile_boxes(side, side, tile, overlap))
    except (UserError, ValueError):
        assert tile <= 2 * max(overlap, 0) or overlap < 0
        return
    seen = torch.zeros(side, side)
    for _, _, rows, columns in boxes:
        seen[rows, columns] += 1
    assert (seen == 1).all()


@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 4, 8, 16]))
@settings(max_examples=30, deadline=None)
def test_padding_gives_multiples_and_takes_them_back(height, width, multiple) -> None:
    seen = []

    def network(x):
        seen.append(tuple(x.shape[-2:]))
        return x * 2

    x = torch.rand(1, 3, height, width, requires_grad=True)
    y = padded(network, x, multiple)
    assert torch.equal(y, x * 2) and seen[0] == tuple(-(-side // multiple) * multiple for side in (height, width))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, torch.full_like(x, 2.0))


@pytest.mark.parametrize("height, width", [(9, 12), (16, 13), (8, 8)])
def test_padding_repeats_the_last_row_and_column(height, width) -> None:
    seen = []

    def network(x):  # the far ends are mixed in, so that a crop from the wrong side shows
        seen.append(x)
        return x + x.flip(-1, -2)

    x = torch.rand(2, 3, height, width)
    y = padded(network, x, 8)
    bottom, right = -height % 8, -width % 8
    rows, columns = (
        torch.arange(height + bottom).clamp_max(height - 1),
        torch.arange(width + right).clamp_max(width - 1),
    )
    expected = x[..., rows, :][..., columns]
    assert torch.equal(seen[0], expected)
    assert torch.equal(y, (expected + expected.flip(-1, -2))[..., :height, :width])


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(0, 15))
def test_any_tiles_end_or_are_refused(height, width, tile, overlap) -> None:
    if tile <= 2 * overlap:
        with pytest.raises(UserError, match="more than twice the overlap"):
            count_tiles(height, width, tile, overlap)
    else:
        assert count_tiles(height, width, tile, overlap) == len(list(tile_boxes(height, width, tile, overlap)))


def test_tiles_that_would_hardly_end_are_refused() -> None:
    with pytest.raises(UserError, match="into 11,556,096"):
        count_tiles(3000, 4000, 65, 32)
    for tile, overlap in ((-1, 0), (64, -4), (64, 32)):
        with pytest.raises(UserError, match=f"tile {tile}"):
            check_tiles(tile, overlap)

from __future__ import annotations

from pathlib import Path
from typing import Any

import network_checks as checks
import pytest
import torch
from filling import fill_, image
from hypothesis import given, settings
from hypothesis import strategies as st

from udc_robust.errors import UserError
from udc_robust.restorers.uformer import Uformer
from udc_robust.restorers.window_transformer import (
    LeWinBlock,
    from_windows,
    relative_position_index,
    shift_mask,
    to_windows,
)

# Windows of 2 pixels, so that 32 pixels are enough for all nine stages.
TINY: dict[str, Any] = {"img_size": 64, "embed_dim": 4, "win_size": 2, "num_heads": [1, 2, 2, 4, 4, 4, 4, 2, 2]}
TINY_MODULATED = {**TINY, "modulator": True}


@pytest.mark.parametrize("name", ["uformer_t", "uformer_b"])
def test_names_and_shapes_are_official(shared: Path, name: str) -> None:
    checks.check_manifest(shared, name, Uformer)


def test_outputs_are_official(shared: Path) -> None:
    assert checks.interop_difference(shared, "uformer_t", Uformer) < 1e-5


@pytest.mark.parametrize(
    ("variant", "parameters", "entries"), [("T", 5_291_853, 352), ("S", 20_751_197, 352), ("B", 50_880_946, 759)]
)
def test_counts_of_the_published_variants(variant: str, parameters: int, entries: int) -> None:
    with torch.device("meta"):
        net = Uformer.published(variant)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert len(net.state_dict()) == entries


@pytest.mark.parametrize(
    ("name", "options"), [("uformer", TINY_MODULATED), ("uformer_plain", {**TINY, "img_size": 32, "dd_in": 4})]
)
def test_outputs_are_the_stored_ones(name: str, options: dict[str, Any]) -> None:
    assert checks.vector_difference(name, Uformer(**options)) < 1e-5


def test_gradient() -> None:
    checks.check_gradient(Uformer(**TINY_MODULATED), (1, 3, 32, 64))


def test_batch_equals_singles() -> None:
    checks.check_batch(Uformer(**TINY_MODULATED), (3, 64, 32))


def test_hub_round_trip(tmp_path: Path) -> None:
    checks.check_hub_round_trip(Uformer(**TINY_MODULATED), tmp_path, (1, 3, 32, 32))


@torch.no_grad()
@torch.no_grad()
def test_square_canvas_is_black_and_centres_the_image() -> None:
    canvas = torch.zeros(2, 3, 64, 64)
    canvas[..., 11:52, 15:48] = image((2, 3, 41, 33))  # (64 - 41) // 2 and (64 - 33) // 2: the smaller half comes first
    expected = fill_(Uformer(**TINY))(canvas)[..., 11:52, 15:48]
    net = fill_(Uformer(**TINY, square_canvas=True))
    assert torch.equal(net(image((2, 3, 41, 33))), expected)
    assert (net.size_multiple, net.min_size) == (1, 1)


@torch.no_grad()
def test_square_canvas_changes_nothing_for_squares_that_fit() -> None:
    x = image((1, 3, 32, 32))
    assert torch.equal(fill_(Uformer(**TINY, square_canvas=True))(x), fill_(Uformer(**TINY))(x))


def test_training_size_is_part_of_the_function() -> None:
    """Same names and shapes, but a bottleneck no larger than its window is not shifted."""
    at_32, at_64 = fill_(Uformer(**{**TINY, "img_size": 32})), fill_(Uformer(**TINY))
    at_64.load_state_dict(at_32.state_dict())
    x = image((1, 3, 64, 64))
    assert (at_32(x) - at_64(x)).abs().max() > 1e-4


def test_shifts_and_windows_follow_the_training_size() -> None:
    def layout(img_size: int) -> list[tuple[int, list[int]]]:
        with torch.device("meta"):
            net = Uformer(img_size=img_size, embed_dim=16)
        stages = [net.encoderlayer_3, net.conv, net.decoderlayer_0]
        return [(stage.blocks[0].window, [block.shift for block in stage.blocks]) for stage in stages]

    assert layout(256) == [(8, [0, 4]), (8, [0, 4]), (8, [0, 4])]
    assert layout(128) == [(8, [0, 4]), (8, [0, 0]), (8, [0, 4])]
    assert layout(64) == [(8, [0, 0]), (4, [0, 0]), (8, [0, 0])]
    assert [Uformer(img_size=s, embed_dim=16).size_multiple for s in (64, 128, 256)] == [64, 128, 128]


def test_stochastic_depth_rises_and_falls() -> None:
    with torch.device("meta"):
        net = Uformer(embed_dim=16, depths=[1, 1, 1, 2, 2, 2, 1, 1, 1], drop_path_rate=0.4)
    stages = [*(net.get_submodule(f"encoderlayer_{i}") for i in range(4)), net.conv]
    stages += [net.get_submodule(f"decoderlayer_{i}") for i in range(4)]
    rates = [block.drop_path for stage in stages for block in stage.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4, 0.3, 0.2, 0.1, 0])


@torch.no_grad()
def test_left_out_branches_keep_the_mean() -> None:
    block = fill_(LeWinBlock(4, 2, 2, 0, 2.0, 0.5, 0))
    branch = torch.ones(2000, 1, 1, 1)
    assert torch.equal(block._kept(branch), branch)
    kept = block.train()._kept(branch)
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert kept.mean() == pytest.approx(1, abs=0.1)


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), window=st.integers(1, 4), batch=st.integers(1, 2))
def test_windows_are_cut_row_by_row_and_put_back(rows: int, columns: int, window: int, batch: int) -> None:
    height, width = rows * window, columns * window
    x = torch.arange(float(batch * height * width * 2)).view(batch, height, width, 2)
    windows = to_windows(x, window)
    assert torch.equal(from_windows(windows, batch, height, width), x)
    last = windows.view(batch, rows, columns, window, window, 2)[0, rows - 1, 0]
    assert torch.equal(last, x[0, -window:, :window])


@settings(deadline=None)
@given(rows=st.integers(1, 3), columns=st.integers(1, 3), data=st.data())
def test_mask_hides_tokens_that_wrapped_around(rows: int, columns: int, data: st.DataObject) -> None:
    window = data.draw(st.integers(2, 5))
    shift = data.draw(st.integers(1, window - 1))
    height, width = rows * window, columns * window
    below = torch.arange(height) >= height - shift  # came from the top of the image by the roll
    right = torch.arange(width) >= width - shift
    wrapped = (2 * below[:, None] + right[None]).view(1, height, width, 1)
    tokens = to_windows(wrapped, window)[..., 0]
    expected = -100.0 * (tokens[:, :, None] != tokens[:, None, :])
    assert torch.equal(shift_mask(height, width, window, shift, torch.device("cpu")), expected)


def test_relative_position_index_by_hand() -> None:
    index = relative_position_index(2)
    # Tokens 0..3 are (0,0) (0,1) (1,0) (1,1); the table row is 3 * (row step + 1) + (column step + 1).
    assert index.tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]


@torch.no_grad()
def test_shifted_attention_sees_its_own_window_only() -> None:
    """A change at one pixel reaches exactly the unwrapped part of its shifted window."""
    block = fill_(LeWinBlock(4, 2, 4, 2, 2.0, 0.0, 16))
    x = image((1, 8, 12, 4))
    changed = x.clone()
    changed[0, 3, 5] += 1
    reached = (block._attended(x) - block._attended(changed)).abs().amax(-1)[0] > 1e-7
    expected = torch.zeros(8, 12, dtype=torch.bool)
    expected[2:6, 2:6] = True
    assert torch.equal(reached, expected)
    changed = x.clone()
    changed[0, 0, 0] += 1
    reached = (block._attended(x) - block._attended(changed)).abs().amax(-1)[0] > 1e-7
    expected = torch.zeros(8, 12, dtype=torch.bool)
    expected[:2, :2] = True
    assert torch.equal(reached, expected)


@pytest.mark.parametrize("shape", [(1, 3, 16, 32), (1, 3, 40, 64), (1, 1, 32, 32)])
def test_wrong_input_is_a_user_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="Uformer needs"):
        Uformer(**TINY)(torch.rand(shape))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"img_size": 40}, "img_size"),
        ({"img_size": 32, "modulator": True}, "at least 64"),
        ({"depths": [2] * 8}, "9 numbers"),
        ({"depths": [1, 2, 2, 2, 2, 2, 2, 2, 2]}, "same number of blocks"),
        ({"in_chans": 1}, "in_chans"),
        ({"token_mlp": "ffn"}, "token_mlp"),
    ],
)
def test_wrong_options_are_user_errors(options: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word):
        Uformer(**options)


def test_unknown_variant_is_a_user_error() -> None:
    with pytest.raises(UserError, match="known are B, S, T"):
        Uformer.published("L")

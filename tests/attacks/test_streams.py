"""Random streams: fair, of the whole range, and each image's own."""

from __future__ import annotations

import itertools

import pytest
import torch

from udc_robust.attacks import Streams, image_seed


def test_numbers_are_fair_and_of_the_whole_range() -> None:
    streams, like = Streams([1, 2]), torch.empty(2, 3, 60, 60)
    uniform, normal, signs = streams.uniform(like), streams.normal(like), streams.signs(like)
    assert uniform.min() >= 0 and uniform.max() < 1 and float(uniform.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(normal.mean()) == pytest.approx(0, abs=0.03) and float(normal.std()) == pytest.approx(1, abs=0.02)
    assert set(signs.unique().tolist()) == {-1.0, 1.0} and abs(float(signs.mean())) < 0.03
    rows = streams.row_signs(1, (10_000,))
    assert set(rows.tolist()) == {-1.0, 1.0} and abs(float(rows.mean())) < 0.03
    assert {streams.integer(0, 4) for _ in range(100)} == {0, 1, 2, 3}
    assert sorted(streams.permutation(0, 9).tolist()) == list(range(9))


def test_the_streams_of_some_rows_are_the_very_streams() -> None:
    like, streams, fresh = torch.empty(3, 1, 2, 2), Streams([5, 6, 7]), Streams([5, 6, 7])
    part = streams.of(torch.tensor([2, 0])).normal(like[:2])
    first, second = fresh.normal(like), fresh.normal(like)
    assert torch.equal(part, first[[2, 0]])
    after = streams.normal(like)  # two of the three have moved on
    assert torch.equal(after, torch.stack([second[0], first[1], second[2]]))
    assert streams.of(None) is streams


def test_repeated_streams_draw_one_after_the_other() -> None:
    like = torch.empty(2, 1, 2, 2)
    one_by_one = Streams([5, 6])
    first, second = one_by_one.normal(like), one_by_one.normal(like)
    together = Streams([5, 6]).repeat(2)
    assert len(together) == 4
    draws = together.normal(torch.empty(4, 1, 2, 2))
    assert torch.equal(draws, torch.stack([first[0], second[0], first[1], second[1]]))


def test_seeds_tell_every_part_of_their_key() -> None:
    parts = [(1, "a", "bc"), (1, "ab", "c"), (1, "abc", ""), (11, "a", "bc"), (1, "1a", "bc"), (1, "a", "b")]
    seeds = [image_seed(*part) for part in parts]
    assert all(a != b for a, b in itertools.combinations(seeds, 2)) and all(0 <= seed < 2**63 for seed in seeds)
    assert image_seed(0, "a", "pgd") == 8_993_257_997_213_186_034  # runs that are resumed meet the same draws

"""Intervals of a mean: over images, and over scenes where several images are of one."""

from __future__ import annotations

import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udc_robust.grid.statistics import mean_interval


def test_an_interval_is_that_of_the_normal_law_where_it_holds() -> None:
    values = np.random.default_rng(1).normal(30, 2, 400).tolist()
    low, high = mean_interval(values)
    assert (high - low) / 2 == pytest.approx(1.96 * np.std(values) / 20, rel=0.1)
    assert mean_interval(values, list(map(str, range(400)))) == pytest.approx((low, high), rel=1e-3)


def test_copies_of_an_image_tell_nothing_new() -> None:
    values = np.random.default_rng(2).normal(30, 2, 40).tolist()
    low, high = mean_interval(values)
    copied = mean_interval(values * 9, [str(i) for i in range(40)] * 9)
    assert copied == pytest.approx((low, high), abs=0.12)
    naive = mean_interval(values * 9)
    assert naive[1] - naive[0] < 0.4 * (high - low)


def test_scenes_of_many_images_weigh_more() -> None:
    """The interval is one of the mean over images: it lies about that, and not about the mean over scenes."""
    values, scenes = [10.0] * 30 + [20.0, 21.0, 22.0], ["a"] * 30 + ["b", "c", "d"]
    low, high = mean_interval(values, scenes)
    assert low < fmean(values) < 11.1 < high


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=3, max_size=12), st.integers(1, 4))
def test_an_interval_lies_within_the_values(values, per_scene) -> None:
    found = mean_interval(values, [str(i // per_scene) for i in range(len(values))])
    if math.ceil(len(values) / per_scene) < 3:
        assert found is None
    else:
        assert min(values) - 1e-9 <= found[0] <= found[1] <= max(values) + 1e-9


def test_what_is_too_few_or_not_finite_has_none() -> None:
    assert mean_interval([1.0, 2.0]) is None and mean_interval([1.0, 2.0, math.inf]) is None
    assert mean_interval([1.0, 2.0, 3.0, 4.0], ["a", "a", "b", "b"]) is None

"""AUROC, its interval and thresholds by false alarms, against scikit-learn, the bootstrap and chance itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from udc_robust.metrics.detection import auroc, auroc_interval, fewest_clean, threshold

WHOLE = st.lists(st.integers(-5, 5), min_size=1, max_size=30)


@given(WHOLE, WHOLE)
def test_it_is_scikit_learns_with_ties(attacked, clean) -> None:
    labels = [1] * len(attacked) + [0] * len(clean)
    assert auroc(attacked, clean) == pytest.approx(roc_auc_score(labels, [*attacked, *clean]))


def test_the_interval_is_that_of_a_bootstrap_over_images() -> None:
    chance = np.random.default_rng(0)
    content = chance.normal(size=60)  # both scores of an image are of one picture
    clean, attacked = content + 0.5 * chance.normal(size=60), content + 1 + 0.5 * chance.normal(size=60)
    low, high = auroc_interval(attacked, clean)
    picks = chance.integers(60, size=(2000, 60))
    ends = np.percentile([auroc(attacked[pick], clean[pick]) for pick in picks], [2.5, 97.5])
    assert (low, high) == pytest.approx(tuple(ends), abs=0.03)
    apart = auroc_interval(attacked, clean[chance.permutation(60)])
    assert high - low < 0.8 * (apart[1] - apart[0])  # unpaired scores are less certain


def test_crops_of_one_scene_count_together() -> None:
    chance = np.random.default_rng(0)
    clean, attacked = chance.normal(size=40), chance.normal(size=40) + 1
    once = auroc_interval(attacked, clean)
    twice = auroc_interval(np.tile(attacked, 2), np.tile(clean, 2), [str(i) for i in range(40)] * 2)
    assert twice == pytest.approx(once)  # the same pictures again tell nothing new
    assert auroc_interval(attacked, clean, ["one", "other"] * 20) is None


def test_it_needs_the_same_images_and_enough() -> None:
    assert auroc_interval([1, 2], [0, 1]) is None
    with pytest.raises(ValueError, match="not of the same images"):
        auroc_interval([1, 2, 3], [0, 1])


@pytest.mark.parametrize(("share", "count"), [(0.05, 19), (0.05, 60), (0.01, 99), (0.01, 250)])
def test_no_more_false_alarms_than_promised(share, count) -> None:
    chance = np.random.default_rng(1)
    alarms = [chance.normal() > threshold(chance.normal(size=count), share) for _ in range(4000)]
    assert share / 3 < np.mean(alarms) <= share + 2 * np.sqrt(share / 4000)


def test_too_few_clean_images_promise_nothing() -> None:
    assert fewest_clean(0.05) == 19 and fewest_clean(0.01) == 99
    assert threshold(range(18), 0.05) is None and threshold(range(19), 0.05) == 18
    assert threshold(range(98), 0.01) is None and threshold(range(99), 0.01) == 98

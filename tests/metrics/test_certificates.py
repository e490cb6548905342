"""Certificates against published numbers, closed forms, and networks whose true radius is known."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import binom, norm

from udc_robust.metrics.certificates import NOISES, lower_bound, median_ranks, radius


@pytest.mark.parametrize(
    "hits, trials, sigma, probability, expected",
    [(990, 1000, 0.25, 0.976036, 0.49450), (99900, 100_000, 0.5, 0.998651, 1.5001),
     (100_000, 100_000, 0.25, 0.999931, 0.95286), (60, 100, 0.25, 0.440984, 0.0)],
)  # fmt: skip
def test_radii_are_cohens(hits, trials, sigma, probability, expected) -> None:
    p = lower_bound(hits, trials, 0.001)
    assert p == pytest.approx(probability, abs=1e-6)
    assert radius("gaussian", "l2", p, sigma, 12) == pytest.approx(expected, rel=1e-4)


def test_the_lower_bound_holds_but_for_alpha() -> None:
    """Of a coin of 0.8 the bound is above 0.8 in at most 5 % of all outcomes, and in not much less."""
    wrong = sum(binom.pmf(k, 60, 0.8) for k in range(61) if lower_bound(k, 60, 0.05) > 0.8)
    assert 0.02 < wrong <= 0.05
    assert lower_bound(0, 60, 0.05) == 0


@pytest.mark.parametrize("noise", NOISES)
def test_noises_have_a_deviation_of_one(noise) -> None:
    drawn = NOISES[noise].draw(torch.rand(200_000, generator=torch.Generator().manual_seed(0)))
    assert drawn.isfinite().all() and abs(drawn.mean()) < 0.01
    assert float(drawn.std()) == pytest.approx(1.0, abs=0.01)
    kurtosis = {"gaussian": 3.0, "laplace": 6.0, "uniform": 1.8}[noise]
    assert float(drawn.double().pow(4).mean()) == pytest.approx(kurtosis, rel=0.05)
    assert NOISES[noise].draw(torch.zeros(1)).isfinite()  # the smallest number that a generator gives


@pytest.mark.parametrize("noise, norm_name", [("gaussian", "l2"), ("laplace", "l1"), ("uniform", "l1")])
def test_the_radius_is_that_of_a_step(noise, norm_name) -> None:
    """A classifier that asks whether one value is below a threshold has exactly the radius of its certificate."""
    drawn = NOISES[noise].draw(torch.rand(400_000, generator=torch.Generator().manual_seed(1))) * 0.3
    away = 0.2
    p = float((drawn < away).double().mean())
    assert radius(noise, norm_name, p, 0.3, 5) == pytest.approx(away, rel=0.02)


def test_implied_norms_and_those_that_are_not() -> None:
    assert radius("gaussian", "linf", 0.9, 0.5, 100) == pytest.approx(0.5 * norm.ppf(0.9) / 10)
    assert radius("gaussian", "l1", 0.9, 0.5, 100) == radius("gaussian", "l2", 0.9, 0.5, 100)
    with pytest.raises(ValueError, match="laplace noise certifies l1, not l2"):
        radius("laplace", "l2", 0.9, 0.5, 100)


def test_ranks_bound_the_medians_of_shifted_noise() -> None:
    """Of sorted normal answers, all shifts of the mean by up to 0.5 deviations keep the median between the bounds."""
    low, high = median_ranks(1000, 0.01, 0.5)
    misses = 0
    for seed in range(200):
        answers = torch.randn(1000, generator=torch.Generator().manual_seed(seed)).sort().values
        misses += int(answers[low] > -0.5) + int(answers[high] < 0.5)
        assert answers[low] > -0.8 and answers[high] < 0.8  # and not by much
    assert misses <= 400 * 0.01 + 6
    assert low + high == 999
    # The bound on a quantile that a thousand answers cannot see is none.
    assert median_ranks(1000, 0.001, 5.0) is None
    wanted = binom.cdf(low, 1000, norm.cdf(-0.5))
    assert wanted <= 0.01 < binom.cdf(low + 1, 1000, norm.cdf(-0.5)) and math.isfinite(wanted)

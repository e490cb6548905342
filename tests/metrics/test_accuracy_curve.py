"""Curves over the size of a perturbation, and the area under them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from udc_robust.attacks import L2, Linf, attack, objective
from udc_robust.metrics.accuracy_curve import (
    accuracy_curve,
    area_under,
    breaking_distances,
    holds,
    top_k_correct,
)


def test_published_areas() -> None:
    assert area_under([0, 1, 2, 3, 4, 5], [96, 64.95, 34.52, 16.73, 7.81, 3.73]) == pytest.approx(34.775, abs=1e-12)
    assert area_under([0, 2, 5], [90, 50, 20]) == pytest.approx(49.0, abs=1e-12)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=8), st.floats(0, 60))
def test_the_area_under_a_constant_is_the_constant(steps, height) -> None:
    eps = [0.0]
    for step in steps:
        eps.append(eps[-1] + step)
    assert area_under(eps, [height] * len(eps)) == pytest.approx(height)


@pytest.mark.parametrize(
    "eps, values, message",
    [
        ([1, 2], [50, 40], "begin with 0"),
        ([0, 2, 2], [3, 2, 1], "rise"),
        ([0, 1], [3, 2, 1], "as many values"),
        ([0], [3], "two at least"),
        ([0, 1], [float("inf"), 30], "finite"),
    ],
)
def test_bad_curves(eps, values, message) -> None:
    with pytest.raises(ValueError, match=message):
        area_under(eps, values)


def test_a_curve_of_breaking_distances() -> None:
    distances = torch.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 0.5, 2.0, 2.0]])
    broken = torch.tensor([[True, False, False, True], [True, True, False, True]])
    breaking = breaking_distances(distances, broken, torch.tensor([False, False, False, True]))
    assert breaking.tolist() == [1.0, 0.5, float("inf"), 0.0]
    assert accuracy_curve(breaking, [0, 0.5, 0.9, 1, 100]) == [0.75, 0.5, 0.5, 0.25, 0.25]


def test_one_minimum_norm_run_gives_the_curve_of_many_budgets() -> None:
    """On a linear classifier both are exact up to the attack's tolerance."""
    weight = torch.randn(3, 48, generator=torch.Generator().manual_seed(0))
    victim = lambda x: (x - 0.5).flatten(1) @ weight.T  # noqa: E731
    x = 0.4 + 0.2 * torch.rand(24, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    shared = {"seeds": range(24), "round_8_bit": False}
    once = attack(victim, x, objective("margin"), L2(float("inf")), "ddn", steps=200, levels=1, **shared)
    curve = accuracy_curve(breaking_distances(once.l2[None], once.success[None]), [0, 0.05, 0.1, 0.2])
    assert curve[0] == 1.0 and curve[-1] < 0.5
    for eps, share in zip([0.05, 0.1, 0.2], curve[1:], strict=True):
        budget = attack(victim, x, objective("margin"), L2(eps), "pgd", steps=20, **shared)
        assert float((~budget.success).double().mean()) == pytest.approx(share, abs=1 / 24 + 1e-9)


def test_the_axis_is_what_was_measured() -> None:
    """An attack of 8/255 that changed 3/255 only breaks its image from there on."""
    victim = lambda x: torch.stack([0.5 - x.mean((1, 2, 3)), x.mean((1, 2, 3)) - 0.5], 1)  # noqa: E731
    x = torch.full((1, 3, 4, 4), 125 / 255)
    x[..., 0] = 1.0  # these pixels can only fall
    x = x * (0.5 - 2 / 255) / x.mean()
    result = attack(victim, x, objective("margin"), Linf(8 / 255), "ifgsm", seeds=[0], steps=8, step_size=1 / 255)
    breaking = breaking_distances(result.linf[None], result.success[None])
    assert result.success.all() and float(breaking[0]) == pytest.approx(float(result.linf[0]))
    assert accuracy_curve(breaking, [float(result.linf[0]) - 1e-4, float(result.linf[0])]) == [1.0, 0.0]


def test_top_k() -> None:
    scores = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    labels = torch.tensor([1, 2])
    assert top_k_correct(scores, labels, 1).tolist() == [False, False]
    assert top_k_correct(scores, labels, 2).tolist() == [True, False]
    assert top_k_correct(scores, labels, 5).all()


@given(st.integers(0, 191), st.integers(1, 64))
def test_an_attack_of_exactly_its_budget_counts_at_it(level, levels) -> None:
    change = (torch.tensor([level + levels]) / 255 - torch.tensor([level]) / 255).abs()  # float32, as attacks measure
    assert not holds(change, levels / 255).any() and holds(change, (levels - 0.5) / 255).all()

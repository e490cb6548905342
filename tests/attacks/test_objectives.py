"""Objectives: what is climbed, and when an image counts as broken."""

from __future__ import annotations

import pytest
import torch

from udc_robust.attacks import objective
from udc_robust.attacks.classification import margin
from udc_robust.metrics import mse, psnr, ssim


@pytest.mark.parametrize("name", ["mse", "psnr", "charbonnier", "ssim", "edge"])
def test_damage_grows_with_distance_and_has_a_gradient(name) -> None:
    target = torch.rand(2, 3, 24, 24)
    noise = torch.randn(target.shape)
    values = [objective(name).values(target + size * noise, target) for size in (0.0, 0.02, 0.1)]
    assert torch.allclose(values[0], torch.zeros(2), atol=1e-5)
    assert (values[0] < values[1]).all() and (values[1] < values[2]).all()
    output = (target + 0.05 * noise).requires_grad_(True)
    (gradient,) = torch.autograd.grad(objective(name).values(output, target).sum(), output)
    assert gradient.isfinite().all() and (gradient.abs().flatten(1).sum(1) > 0).all()


def test_mse_is_broken_exactly_at_the_stated_drop() -> None:
    mse, target = objective("mse", drop_db=6), torch.full((1, 3, 16, 16), 0.5)
    clean = target + 0.05
    goal = mse.goal(mse.values(clean, target))
    for extra, broken in ((5.9, False), (6.1, True)):
        worse = target + 0.05 * 10 ** (extra / 20)
        assert psnr(clean, target) - psnr(worse, target) == pytest.approx(extra, abs=1e-3)
        assert bool(mse.values(worse, target) >= goal) is broken
        assert float(mse.hinge(mse.values(worse, target), goal)) == pytest.approx(max(0, 6 - extra), abs=1e-3)


def test_against_the_own_clean_answer_broken_means_34_db() -> None:
    mse, target = objective("mse"), torch.full((1, 3, 8, 8), 0.5)
    goal = mse.goal(torch.zeros(3))
    assert goal.tolist() == pytest.approx([1e-4 * 10**0.6] * 3)
    for db, broken in ((34.1, False), (33.9, True)):
        assert bool(mse.values(target + 10 ** (-db / 20), target) >= goal[0]) is broken
    assert float(mse.goal(torch.tensor([1e-3]))) == pytest.approx(1e-3 * 10**0.6)


@pytest.mark.parametrize("name", ["mse", "psnr", "ssim", "charbonnier", "edge"])
@pytest.mark.parametrize("drop_db", [3, 6, 10])
def test_the_stated_drop_is_in_decibels(name, drop_db) -> None:
    made = objective(name, drop_db)
    goal = made.goal(torch.tensor([0.1]))
    assert float(goal) == pytest.approx(0.1 * 10 ** (drop_db / 10))
    assert float(made.beyond(goal, 2.0)) == pytest.approx(0.1 * 10 ** ((drop_db + 2) / 10))
    assert float(made.hinge(torch.tensor([0.1]), made.beyond(goal, 2.0))) == pytest.approx(drop_db + 2, abs=1e-4)


def test_charbonnier_and_edges_are_their_formulas() -> None:
    output, target = torch.rand(2, 3, 9, 10).double(), torch.rand(2, 3, 9, 10).double()
    expected = ((output - target) ** 2 + 1e-6).sqrt().mean((1, 2, 3)) - 1e-3
    assert torch.allclose(objective("charbonnier").values(output, target), expected)
    assert torch.allclose(objective("edge").values(output, output + 0.3), torch.zeros(2).double(), atol=1e-12)


def test_margin_is_the_best_other_score() -> None:
    scores = torch.tensor([[-5.0, -7.0, -6.0], [1.0, 3.0, 2.0]])
    assert margin(scores, torch.tensor([0, 0])).tolist() == [-1.0, 2.0]


def test_unknown_objective() -> None:
    with pytest.raises(ValueError, match="unknown objective 'msee'"):
        objective("msee")


def test_distances_together_are_their_mean_in_units_of_the_smallest_change_that_counts() -> None:
    output, target = torch.rand(2, 3, 12, 12), torch.rand(2, 3, 12, 12)
    together = objective("psnr+ssim", drop_db=3)
    expected = (mse(output, target) / 1e-4 + (1 - ssim(output, target)) / 2e-2) / 2
    assert torch.allclose(together.values(output, target), expected)
    assert float(together.goal(torch.zeros(1))) == pytest.approx(10**0.3)

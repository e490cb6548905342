"""The Sinkhorn divergence against known values, and masks whose generator really trains against the classifier."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from udc_robust.attacks import Streams
from udc_robust.training.masks import MaskedClassifier, Reversed, hard_concrete, kept
from udc_robust.training.sinkhorn import sinkhorn_divergence


def test_it_is_zero_for_equal_batches_and_the_squared_way_for_shifted_ones() -> None:
    a = torch.randn(16, 10, dtype=torch.float64)
    assert float(sinkhorn_divergence(a, a)) == pytest.approx(0, abs=1e-9)
    assert float(sinkhorn_divergence(a, a + 0.5)) == pytest.approx(10 * 0.25, rel=0.02)
    assert float(sinkhorn_divergence(a, a.flip(0))) == pytest.approx(0, abs=1e-6)  # clouds have no order


def test_its_plan_is_that_of_linear_programming_for_a_small_eps() -> None:
    from scipy.optimize import linear_sum_assignment

    x, y = torch.randn(8, 3, dtype=torch.float64), torch.randn(8, 3, dtype=torch.float64) + 1
    cost = (x[:, None] - y[None]).square().sum(2)
    rows, columns = linear_sum_assignment(cost.numpy())
    found = sinkhorn_divergence(x, y, eps=0.02, steps=4000, tolerance=1e-9)
    assert float(found) == pytest.approx(float(cost[rows, columns].mean()), rel=0.03)


def test_batches_of_different_size_weigh_the_same() -> None:
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64) + 1
    assert float(sinkhorn_divergence(x, torch.cat([x, x]), tolerance=1e-9)) == pytest.approx(0, abs=1e-6)
    once, twice = (sinkhorn_divergence(x, other, steps=500, tolerance=1e-9) for other in (y, torch.cat([y, y])))
    assert float(twice) == pytest.approx(float(once), rel=1e-6)


def test_its_gradient_pulls_the_batches_together() -> None:
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64).requires_grad_(True)
    before = sinkhorn_divergence(x, y)
    (gradient,) = torch.autograd.grad(before, y)
    assert sinkhorn_divergence(x, y - 0.1 * gradient) < before


def test_hard_concrete_masks() -> None:
    uniform = torch.rand(20_000)
    for logit in (-2.0, 0.0, 3.0):
        mask = hard_concrete(torch.full_like(uniform, logit), uniform)
        assert mask.min() >= 0 and mask.max() <= 1 and (mask == 0).any() and (mask == 1).any()
        assert float((mask > 0).double().mean()) == pytest.approx(float(kept(torch.tensor([logit]))), abs=0.02)


def test_a_reversed_gradient() -> None:
    x = torch.ones(3, requires_grad=True)
    (Reversed.apply(x) * torch.tensor([1.0, 2, 3])).sum().backward()
    assert x.grad.tolist() == [-1, -2, -3]


def test_the_generator_learns_to_hide_what_the_classifier_looks_at() -> None:
    """The classifier reads one bright pixel; the generator's descent on the joint loss must hide it."""
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * 36, 2))
    with torch.no_grad():
        classifier[1].weight.zero_()
        classifier[1].weight.view(2, 3, 6, 6)[:, :, 3, 3] = torch.tensor([[2.0], [-2.0]])
    x = torch.full((8, 3, 6, 6), 0.1)
    x[:, :, 3, 3] = 1.0
    labels = torch.zeros(8, dtype=torch.long)
    masked = MaskedClassifier(classifier)
    optimizer = torch.optim.Adam(masked.generator.parameters(), lr=0.1)

    def hidden() -> tuple[float, float]:
        logits = masked.generator(x).detach()
        return float(logits[:, :, 3, 3].mean()), float(logits[:, :, 0, 0].mean())

    first = hidden()
    for step in range(60):
        clean, scores, share = masked(x, Streams(range(8 * step, 8 * step + 8)).uniform(x[:, :1]))
        loss = F.cross_entropy(clean, labels) + F.cross_entropy(scores, labels) + 0.05 * share
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    read, elsewhere = hidden()
    assert read < first[0] - 3 and read < elsewhere - 3
    assert masked(x).shape == (8, 2)

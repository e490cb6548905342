"""Minimum-norm attacks against victims whose smallest breaking change is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from udc_robust.attacks import L2, Linf, attack, objective


class Linear(nn.Module):
    """A linear classifier: the way to another class is the margin over the distance of the two weight vectors."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.weight = nn.Parameter(torch.randn(classes, 48, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - 0.5).flatten(1) @ self.weight.T

    def nearest_boundary(self, x: torch.Tensor) -> torch.Tensor:
        scores, weight = self(x).detach(), self.weight.detach()
        answer = scores.argmax(1)
        gaps = scores.gather(1, answer[:, None]) - scores
        ways = torch.linalg.vector_norm(weight[answer][:, None] - weight[None], dim=2)
        return torch.where(ways > 0, gaps / ways.clamp_min(1e-9), torch.inf).amin(1)


def _images(n: int = 6) -> torch.Tensor:
    x = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return torch.round((0.35 + 0.3 * x) * 255) / 255  # far from the box, on 8-bit levels


@pytest.mark.parametrize("goal, at_most", [("margin", 1.02), ("dlr", 1.02), ("cross_entropy", 1.5)])
def test_ddn_finds_the_nearest_boundary_of_a_linear_classifier(goal, at_most) -> None:
    victim, x = Linear(), _images()
    result = attack(
        victim, x, objective(goal), L2(float("inf")), "ddn", seeds=range(6), steps=300, levels=1, initial_norm=0.3,
        round_8_bit=False,
    )  # fmt: skip
    assert result.success.all()
    ratio = result.l2 / victim.nearest_boundary(x)
    assert (ratio >= 1 - 1e-4).all() and (ratio < at_most).all(), ratio


def test_cw_is_the_original_on_a_linear_classifier() -> None:
    victim, x = Linear(), _images()
    shared = {"seeds": range(6), "steps": 150, "search_steps": 9, "initial_c": 0.01, "round_8_bit": False}
    near = attack(victim, x, objective("margin"), L2(float("inf")), "cw", **shared)
    ratio = near.l2 / victim.nearest_boundary(x)
    assert near.success.all() and (ratio >= 1 - 1e-4).all() and (ratio < 1.05).all(), ratio
    sure = attack(victim, x, objective("margin"), L2(float("inf")), "cw", confidence=0.5, **shared)
    assert (sure.adv_values >= 0.5 - 1e-5).all() and (sure.l2 > near.l2).all()


@pytest.mark.parametrize("initial_c", [1e-3, 1e2])
def test_cw_searches_its_weight_from_either_side(initial_c, monkeypatch) -> None:
    """Times ten until the goal is reached, then by halves, for each image alone.

    With a plain gradient step the first move in tanh space is as long as the weight is large.
    """
    monkeypatch.setattr(torch.optim, "Adam", torch.optim.SGD)
    victim, x = Linear().double(), _images().double()
    seen: list[torch.Tensor] = []
    attack(
        lambda images: seen.append(images.detach().clone()) or victim(images), x, objective("margin"),
        L2(float("inf")), "cw", seeds=range(6), steps=2, search_steps=8, initial_c=initial_c, lr=0.003,
        round_8_bit=False,
    )  # fmt: skip
    labels, (starts, moved) = victim(x).argmax(1), (seen[1:-1][k::2] for k in (0, 1))
    moves = [torch.atanh(2 * b - 1) - torch.atanh(2 * a - 1) for a, b in zip(starts, moved, strict=True)]
    lengths = torch.stack([move.flatten(1).norm(dim=1) for move in moves])
    used = initial_c * lengths / lengths[0]
    reached = torch.stack([objective("margin").values(victim(image), labels) >= 0 for image in moved])
    assert len(moved) == 8 and reached.any(0).all() and (~reached).any(0).all()
    lower, upper, c = torch.zeros(6), torch.full((6,), torch.inf), torch.full((6,), initial_c)
    for measured, hit in zip(used, reached, strict=True):
        assert torch.allclose(measured.float(), c, rtol=1e-3)
        upper, lower = torch.where(hit, c, upper), torch.where(hit, lower, c)
        c = torch.where(upper.isinf(), 10 * c, (lower + upper) / 2)


def test_cw_knows_other_boxes() -> None:
    victim, x = Linear(), 0.5 + 2.6 * (_images() - 0.5)  # nearly from end to end
    assert x.min() < 0.15 and x.max() > 0.85
    wider = lambda images: victim((images - 1) / 4)  # noqa: E731
    threat = L2(float("inf"), low=1.0, high=5.0)
    options = {"steps": 40, "search_steps": 7, "initial_c": 0.3, "round_8_bit": False}
    result = attack(wider, 1 + 4 * x, objective("margin"), threat, "cw", seeds=range(6), **options)
    ratio = result.l2 / (4 * victim.nearest_boundary(x))
    assert result.success.all() and (ratio >= 1 - 1e-4).all() and (ratio < 1.5).all(), ratio


def test_cw_with_confidence_goes_decibels_beyond_the_goal() -> None:
    x = _images()
    sharpen = lambda images: 2 * images - images.mean((2, 3), keepdim=True)  # noqa: E731
    gt = (x + 0.02).clamp(0, 1)
    options = {"target": gt, "seeds": range(6), "steps": 40, "search_steps": 6, "lr": 0.02, "round_8_bit": False}
    result = attack(sharpen, x, objective("mse", 6), L2(float("inf")), "cw", confidence=3.0, **options)
    drop = 10 * (result.adv_values / result.clean_values).log10()
    assert (drop >= 9 - 1e-3).all() and (drop < 9.5).all(), drop


@pytest.mark.parametrize("initial_norm, gamma", [(1.0, 0.05), (0.4, 0.1)])
def test_ddn_takes_the_steps_of_the_paper(initial_norm, gamma) -> None:
    """Algorithm 1 of Rony et al.: the direction turns by a falling step, the norm shrinks and grows by gamma."""
    linear, x, steps = Linear(), _images(), 12
    victim = lambda images: linear(0.5 + (9 * images).sin() / 9)  # noqa: E731  curved, so that its gradient turns
    seen: list[torch.Tensor] = []
    attack(
        lambda images: seen.append(images.detach().clone()) or victim(images), x, objective("margin"),
        L2(float("inf")), "ddn", seeds=range(6), steps=steps, levels=1, initial_norm=initial_norm, gamma=gamma,
        round_8_bit=False,
    )  # fmt: skip
    labels, delta, norm = victim(x).argmax(1), torch.zeros_like(x), torch.full((6,), initial_norm)
    assert len(seen) == steps + 2
    for i, asked in enumerate(seen[1:-1]):
        assert torch.allclose(asked, x + delta, atol=1e-5)
        leaf = asked.clone().requires_grad_(True)
        margins = objective("margin").values(victim(leaf), labels)
        (gradient,) = torch.autograd.grad(margins.sum(), leaf)
        size = 0.01 + 0.99 * (1 + math.cos(math.pi * i / steps)) / 2
        delta = delta + size * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        norm = torch.where(margins >= 0, norm * (1 - gamma), norm * (1 + gamma))
        delta = delta * (norm / delta.flatten(1).norm(dim=1)).view(-1, 1, 1, 1)
        delta = (x + delta).clamp(0, 1) - x


def test_ddn_goes_as_far_as_the_box_and_hands_back_the_worst_it_saw_where_nothing_breaks() -> None:
    x = torch.full((2, 3, 4, 4), 0.1)
    seen: list[torch.Tensor] = []
    result = attack(
        lambda images: seen.append(images.detach().clone()) or images, x, objective("mse", drop_db=90),
        L2(float("inf")), "ddn", target=x - 0.05, seeds=[1, 2], steps=120,
    )  # fmt: skip
    assert not result.success.any() and (result.adv_values > 100 * result.clean_values).all()
    assert torch.equal(result.x_adv, torch.ones_like(x)) and max(float(asked.max()) for asked in seen) == 1


def test_ddn_rounds_as_it_goes_and_leaves_wrong_images_alone() -> None:
    victim, x = Linear(), _images()
    labels = victim(x).argmax(1)
    labels[0] = (labels[0] + 1) % 4  # already taken for another class
    result = attack(victim, x, objective("margin"), L2(float("inf")), "ddn", target=labels, seeds=range(6))
    assert result.success.all() and result.l2[0] == 0
    assert torch.allclose(result.x_adv * 255, torch.round(result.x_adv * 255), atol=1e-4)


def test_ddn_serves_restorers_and_says_when_it_failed() -> None:
    x = _images()
    sharpen = lambda images: 2 * images - images.mean((2, 3), keepdim=True)  # noqa: E731
    gt = (x + 0.02).clamp(0, 1)
    hit = attack(sharpen, x, objective("mse"), L2(float("inf")), "ddn", target=gt, seeds=range(6))
    assert hit.success.all() and (hit.l2 > 0).all()
    shorter = L2(float(hit.l2.min()) * 0.7)
    assert not attack(sharpen, x, objective("mse"), shorter, "pgd", target=gt, seeds=range(6)).success.any()
    deaf = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    nn.init.zeros_(deaf[1].weight)
    lost = attack(deaf, x, objective("margin"), L2(float("inf")), "ddn", seeds=range(6), steps=5)
    assert lost.success.sum() == 0 and (lost.bad_gradients == 5).all() and lost.x_adv.isfinite().all()


def test_ddn_knows_the_euclidean_norm_only() -> None:
    with pytest.raises(ValueError, match="ddn is defined for l2"):
        attack(Linear(), _images(), objective("margin"), Linf(0.1), "ddn", seeds=range(6))

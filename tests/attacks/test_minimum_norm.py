"""Minimum-norm attacks against victims whose smallest breaking change is known."""

from __future__ import annotations

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

"""Auto-PGD: its published constants, its start, and what it takes from PGD."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from udc_robust.attacks import L2, Linf, attack, objective
from udc_robust.attacks.apgd import checkpoints


@pytest.mark.parametrize(
    "steps, expected",
    [
        (100, [22, 41, 57, 70, 80, 87, 93, 99]),
        (50, [11, 21, 30, 38, 45]),
        (20, [4, 7, 9, *range(10, 21)]),
        (1, [1]),
    ],
)
def test_checkpoints_are_the_published_ones(steps, expected) -> None:
    assert checkpoints(steps) == expected


class Witness(nn.Module):
    """A wavy restorer that keeps every batch it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return x + (40 * x).sin() / 5


def _images() -> Tensor:
    return 0.3 + 0.4 * torch.rand(3, 3, 6, 7, generator=torch.Generator().manual_seed(2))


def _run(threat, method: str = "apgd", **options):
    victim, x = Witness(), _images()
    result = attack(
        victim, x, objective("mse"), threat, method, target=0.9 * x, seeds=[1, 2, 3], round_8_bit=False, **options
    )
    return victim.seen[1:-1], result


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.7)])
def test_every_restart_begins_on_the_surface_and_costs_one_gradient_more_than_its_steps(threat) -> None:
    asked, result = _run(threat, steps=7, restarts=2)
    x = _images()
    assert result.meter.backwards.tolist() == [16] * 3 and result.meter.queries.tolist() == [0] * 3
    assert torch.allclose(threat.distance(x, asked[0]), torch.tensor(threat.eps), rtol=1e-4)
    assert torch.allclose(threat.distance(x, asked[8]), torch.tensor(threat.eps), rtol=1e-4)
    assert not torch.equal(asked[0], asked[8])


def test_the_first_step_is_of_twice_the_budget_and_steps_are_halved_where_nothing_is_won() -> None:
    """A victim that answers the same everywhere but for a slope: no step raises anything."""
    steps: list[Tensor] = []

    def level(x: Tensor) -> Tensor:
        steps.append(x.detach().clone())
        return x - x.detach() + 0.2

    x = torch.full((1, 1, 2, 2), 0.5)
    attack(level, x, objective("mse"), Linf(0.2), "apgd", target=torch.zeros_like(x), seeds=[1], steps=20)
    asked = steps[1:-1]
    assert torch.allclose(asked[1], torch.full_like(x, 0.7))  # 0.4 ahead, cut at the border
    # After each look at the run it begins again at its best point, which is the first; the look after the 20th is idle.
    back = [bool(((a - asked[0]).abs() <= 0.4 / 2**k + 1e-6).all()) for k, a in enumerate(asked[11:], 4)]
    assert all(back) and float((asked[-1] - asked[0]).abs().max()) < 0.01


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.7)])
def test_it_does_more_than_pgd_of_as_many_gradients_where_the_landscape_is_rough(threat) -> None:
    _, ours = _run(threat, steps=40)
    _, theirs = _run(threat, "pgd", steps=41)
    assert ours.adv_values.mean() > 1.02 * theirs.adv_values.mean()


def test_dlr_is_climbed_as_any_objective() -> None:
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 7, 4))
    x = _images()
    labels = classifier(x).argmax(1)
    result = attack(classifier, x, objective("dlr"), Linf(0.2), "apgd", target=labels, seeds=[1, 2, 3], steps=10)
    assert result.success.all()

"""What the oracle tells: gradients that are no use, success of random victims; and it leaves its questions alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from udc_robust.attacks import Streams, objective
from udc_robust.attacks.meter import Meter
from udc_robust.attacks.oracle import Chance, Oracle, Victim


def _oracle(victim: Victim, name: str, x: Tensor, target: Tensor, chance: Chance | None = None) -> Oracle:
    goal = torch.full((len(x),), torch.inf)
    return Oracle(victim, objective(name), x, target, goal, Meter(len(x)), Streams(range(len(x))), chance)


@pytest.mark.parametrize(
    "slope, bad", [(1.0, False), (1e-30, False), (0.0, True), (torch.inf, True), (-torch.inf, True), (torch.nan, True)]
)
def test_gradients_that_are_no_use_are_counted_and_become_zero(slope, bad) -> None:
    class Sloped(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, upstream):
            factor = torch.ones_like(upstream)
            factor[0] = 0  # of this image one value alone has a gradient
            factor[0, 0, 0, 0] = slope
            return torch.ones_like(upstream) * factor

    x = torch.rand(2, 3, 4, 4)
    oracle = _oracle(Sloped.apply, "mse", x, torch.zeros_like(x))
    gradient = oracle.gradient(x)
    assert oracle.bad_gradients.tolist() == [int(bad), 0]
    assert gradient.isfinite().all() and (gradient[1] == 1).all()
    assert float(gradient[0].sum()) == (0 if bad else pytest.approx(slope))


@pytest.mark.parametrize("eot", [1, 8])
def test_success_of_a_random_victim_is_the_majority_of_its_answers(eot) -> None:
    class Coin(nn.Module):
        random = True

        def forward(self, x: Tensor, streams: Streams) -> Tensor:
            wrong = streams.uniform(x[:, :1, :1, :1]).flatten() < 0.5
            return torch.stack([~wrong, wrong], 1).float() * 4 - 1 + 0 * x.mean((1, 2, 3))[:, None]

    x, seeds = torch.rand(20, 1, 2, 2), range(100, 120)
    oracle = _oracle(Coin(), "margin", x, torch.zeros(20).long(), Chance(seeds, eot))
    drawn = Streams(seeds).repeat(eot).uniform(torch.empty(20 * eot, 1, 1, 1)).view(20, eot) < 0.5
    assert torch.equal(oracle.answer(x).broken, drawn.float().mean(1) >= 0.5)
    assert drawn.float().mean(1).eq(0.5).any() or eot == 1


def test_questions_are_left_as_they_are() -> None:
    asked = torch.rand(2, 3, 4, 4)
    oracle = _oracle(lambda x: x**2, "mse", asked, torch.zeros_like(asked))
    answer = oracle.answer(asked)
    assert not any(part.requires_grad for part in (asked, *answer, oracle.best_x, oracle.best_values))
    assert not oracle.values(asked).requires_grad
    whole = torch.rand(2, 3, 4, 4, requires_grad=True)
    assert not oracle.gradient(whole * 1).requires_grad and whole.grad is None


def test_the_best_of_some_rows_is_kept_in_its_own_place() -> None:
    x = torch.zeros(3, 1, 2, 2)
    oracle = _oracle(lambda x: x, "mse", x, torch.zeros_like(x))
    for rows, level in (([2, 0], 0.5), ([1, 2], 0.7), ([0, 1], 0.2), ([2], 0.6)):
        index = torch.tensor(rows)
        values = oracle.values(torch.full((len(rows), 1, 2, 2), level), rows=index)
        assert torch.allclose(values, torch.tensor(level**2))
    assert torch.allclose(oracle.best_x[:, 0, 0, 0], torch.tensor([0.5, 0.7, 0.7]))
    assert torch.allclose(oracle.best_values, oracle.best_x[:, 0, 0, 0] ** 2)


def test_a_broken_image_of_some_rows_beats_one_of_higher_cross_entropy() -> None:
    """The true class at 0.4 with a wrong answer is broken; at 0.35 with a right one it is not."""
    oracle = _oracle(lambda x: x.flatten(1), "cross_entropy", torch.zeros(2, 3, 1, 1), torch.zeros(2).long())
    wrong, right = (torch.tensor(shares).log().view(1, 3, 1, 1) for shares in ([0.4, 0.59, 0.01], [0.35, 0.33, 0.32]))
    for scores in (wrong, right):
        oracle.values(scores, rows=torch.tensor([1]))
    assert oracle.best_broken.tolist() == [False, True] and torch.equal(oracle.best_x[1:], wrong)

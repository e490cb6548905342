"""Auto-PGD: its published constants, its start, and what it takes from PGD."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from witness import Witness

from udc_robust.attacks import L2, Linf, Streams, answers, attack, objective
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


class Rough(nn.Module):
    """Wavy where an image is bright, a slope where it is dark: there nothing is left to win at the border."""

    def __init__(self, random: bool = False) -> None:
        super().__init__()
        self.random, self.sizes = random, list[int]()

    def forward(self, x: Tensor, streams: Streams | None = None) -> Tensor:
        self.sizes.append(len(x))
        gain = 1 if streams is None else 1 + 0.02 * streams.normal(x.new_empty(len(x), 1, 1, 1))
        return x + gain * (x.mean((1, 2, 3), keepdim=True) > 0.5) * (40 * x).sin() / 5


def _dark_and_bright() -> Tensor:
    return _images() + torch.tensor([-0.2, 0.2, -0.15]).view(3, 1, 1, 1)


def _settling(rows: list[int], random: bool = False, **options):
    victim, x = Rough(random), _dark_and_bright()[rows]
    result = attack(
        victim, x, objective("mse"), Linf(0.1), "apgd", target=0.9 * x - 0.1, seeds=[[1, 2, 3][row] for row in rows],
        round_8_bit=False, **{"steps": 40, "settle": 0.003, "eot": 2, **options},
    )  # fmt: skip
    return result, victim.sizes


def test_a_settled_image_leaves_the_batch_and_loses_nothing_where_nothing_is_left() -> None:
    (whole, _), (short, sizes) = _settling([0, 1, 2], settle=0.0), _settling([0, 1, 2])
    assert (whole.meter.backwards == 41).all()
    asked = short.meter.backwards.tolist()
    assert asked[0] == asked[2] == 16 < asked[1]  # halved at the look after 8 steps, settled at that after 15
    assert 1 in sizes[1:-1] and sum(sizes[1:-1]) == int(short.meter.forwards.sum())
    assert torch.allclose(short.adv_values[[0, 2]], whole.adv_values[[0, 2]], rtol=1e-5)
    assert short.adv_values[1] > 0.95 * whole.adv_values[1]  # so rough a landscape has no rest
    victim = Rough()
    assert torch.allclose(short.adv_outputs, answers(victim, short.x_adv, [1, 2, 3]))


@pytest.mark.parametrize("random", [False, True])
def test_a_settled_neighbour_changes_nothing(random) -> None:
    together, _ = _settling([0, 1, 2], random)
    alone, _ = _settling([1], random)
    assert together.meter.backwards[1] == alone.meter.backwards[0] > together.meter.backwards[0]
    assert torch.allclose(together.x_adv[1], alone.x_adv[0], atol=1e-6)


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.7)])
def test_a_given_start_is_brought_into_the_budget_and_left_by_steps_of_the_budget(threat) -> None:
    x = _images()
    start = x + 0.3
    asked, _ = _run(threat, steps=5, restarts=2, start=start)
    assert torch.equal(asked[0], threat.project(x, start))
    assert (threat.distance(asked[0], asked[1]) <= threat.eps * (1 + 1e-5)).all()
    assert torch.allclose(threat.distance(x, asked[6]), torch.tensor(threat.eps), rtol=1e-4)  # the second: at random
    assert not torch.equal(asked[6], asked[0])


def test_a_method_that_begins_where_it_does_takes_no_start() -> None:
    with pytest.raises(ValueError, match="fgsm begins where it does: leave out the start"):
        _run(Linf(0.1), "fgsm", start=_images())


class Fence(nn.Module):
    """A classifier whose margin is how far an image's mean lies above a half, less a part that waves."""

    def __init__(self, random: bool = False) -> None:
        super().__init__()
        self.random = random

    def forward(self, x: Tensor, streams: Streams | None = None) -> Tensor:
        height = x.mean((1, 2, 3)) - 0.5 - 0.02 * (60 * x).sin().mean((1, 2, 3))
        return torch.stack([height, torch.zeros_like(height), torch.full_like(height, -1)], 1)


@pytest.mark.parametrize("random", [False, True])
def test_a_broken_image_rests_after_two_looks_and_stays_broken_when_rounded(random) -> None:
    x = 0.5 + torch.tensor([-0.1, -0.02, 0.0, 0.3]).view(4, 1, 1, 1) + 0.05 * torch.rand(4, 3, 6, 7)
    options = {"target": torch.zeros(4, dtype=torch.long), "seeds": [1, 2, 3, 4], "steps": 40}
    whole, short = (
        attack(Fence(random), x, objective("margin"), Linf(0.06), "apgd", until_broken=until, **options)
        for until in (False, True)
    )
    assert (whole.meter.backwards == 41).all() and whole.success.tolist() == short.success.tolist() == [True] * 3 + [
        False
    ]
    if random:  # who may answer otherwise tomorrow is attacked to the end
        assert (short.meter.backwards == 41).all()
        return
    assert short.meter.backwards.tolist()[3] == 41
    assert short.meter.backwards.tolist()[0] == checkpoints(40)[0] + 1  # broken before: gone at the first look
    assert all(asked <= checkpoints(40)[1] + 1 for asked in short.meter.backwards.tolist()[:3])

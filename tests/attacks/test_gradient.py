"""PGD and its kin, step by step: what they ask, from where they start, and which of their images they hand back."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from witness import Witness, wavy

from udc_robust.attacks import L2, Linf, Streams, attack, objective
from udc_robust.attacks.gradient import ascend
from udc_robust.attacks.oracle import GradientOracle

TARGET = 0.5


def _images() -> Tensor:
    return 0.3 + 0.4 * torch.rand(3, 3, 6, 7, generator=torch.Generator().manual_seed(2))


def _run(method: str, threat, **options):
    """The images that the method asked about, without the scoring before and after, and the result."""
    x, victim = _images(), Witness()
    target = torch.full_like(x, TARGET)
    result = attack(
        victim, x, objective("mse"), threat, method, target=target, seeds=[1, 2, 3], round_8_bit=False, **options
    )
    return victim.seen[1:-1], result


def _gradient(x: Tensor) -> Tensor:
    x = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad((wavy(x) - TARGET).square().flatten(1).mean(1).sum(), x)
    return gradient


def _values(x: Tensor) -> Tensor:
    return objective("mse").values(wavy(x), torch.full_like(x, TARGET))


@pytest.mark.parametrize("threat", [Linf(0.1), L2(1.0)])
@pytest.mark.parametrize("step_size", [None, 0.04])
def test_pgd_steps_up_the_gradient_from_a_random_point(threat, step_size) -> None:
    asked, _ = _run("pgd", threat, steps=4, step_size=step_size)
    x, size = _images(), 2.5 / 4 * threat.eps if step_size is None else step_size
    assert torch.equal(asked[0], threat.start(x, Streams([1, 2, 3]))) and len(asked) == 5
    for before, after in itertools.pairwise(asked):
        assert torch.allclose(after, threat.project(x, threat.step(before, _gradient(before), size)), atol=1e-6)


def test_every_restart_begins_elsewhere_and_its_last_iterate_is_asked_about() -> None:
    asked, result = _run("pgd", Linf(0.1), steps=2, restarts=3)
    assert result.meter.queries.tolist() == [3, 3, 3] and result.meter.backwards.tolist() == [6, 6, 6]
    starts, lasts = asked[0::3], asked[2::3]
    assert not torch.equal(starts[0], starts[1]) and not torch.equal(starts[1], starts[2])
    assert all(not torch.equal(last, start) for last in lasts for start in starts)


@pytest.mark.parametrize("options", [{"restarts": 4, "steps": 5}, {"restarts": 1, "steps": 12, "step_size": 0.03}])
def test_the_most_damaging_image_of_all_is_handed_back(options) -> None:
    asked, result = _run("pgd", Linf(0.1), **options)
    values = torch.stack([_values(x) for x in asked])
    best = values.argmax(0)
    assert torch.equal(result.x_adv, torch.stack(asked)[best, torch.arange(3)])
    assert (best < len(asked) - 1).any() and len(set(best.tolist())) > 1  # or "the last" and "one for all" would do


@pytest.mark.parametrize("threat", [Linf(0.05), L2(0.5)])
def test_fgsm_is_one_step_of_the_whole_budget(threat) -> None:
    asked, _ = _run("fgsm", threat)
    x = _images()
    assert len(asked) == 2 and torch.equal(asked[0], x)
    assert torch.allclose(asked[1], threat.project(x, threat.step(x, _gradient(x), threat.eps)), atol=1e-6)
    assert torch.allclose(threat.distance(x, asked[1]), torch.tensor(threat.eps), rtol=1e-4)
    random, _ = _run("fgsm", threat, random_start=True)
    assert torch.equal(random[0], threat.start(x, Streams([1, 2, 3])))


def test_ifgsm_begins_at_the_image_itself() -> None:
    asked, _ = _run("ifgsm", Linf(0.1), steps=3)
    assert len(asked) == 4 and torch.equal(asked[0], _images())
    random, _ = _run("ifgsm", Linf(0.1), steps=3, random_start=True)
    assert not torch.equal(random[0], _images())


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.7)])
def test_pgd_begins_at_a_given_start_brought_into_the_budget_and_restarts_at_random(threat) -> None:
    victim, x = Witness(), _images()
    attack(
        victim, x, objective("mse"), threat, "pgd", target=0.9 * x, seeds=[1, 2, 3], start=x + 0.3, steps=2, restarts=2
    )
    asked = victim.seen[1:-1]
    assert torch.equal(asked[0], threat.project(x, x + 0.3)) and not torch.equal(asked[3], asked[0])


class Ridge(nn.Module):
    """A restorer that is most wrong at 0.5: sign steps from either side go over it, to and fro."""

    random = False

    def forward(self, x: Tensor, *streams: Streams) -> Tensor:
        return 1 - (x - 0.5).abs()


def _beside_the_ridge() -> Tensor:
    """Two images: steps of 1/8 take one over the ridge and back, and the other onto it."""
    return torch.full((2, 1, 3, 3), 0.5) + torch.tensor([0.0625, -0.375]).view(2, 1, 1, 1)


@pytest.mark.parametrize("steps", range(1, 9))
def test_an_ascent_that_stops_in_a_cycle_ends_where_it_would_have(steps) -> None:
    x, ends = _beside_the_ridge(), []
    for repeats in (True, False):
        oracle = GradientOracle(Ridge(), objective("mse"), torch.zeros_like(x), Streams([1, 2]))
        oracle.repeats = repeats
        ends.append(ascend(oracle, x, x, Linf(0.5), steps=steps, step_size=0.125))
    assert torch.equal(*ends)


@pytest.mark.parametrize("random, asked", [(False, 5), (True, 12)])
def test_a_cycle_costs_nothing_more_but_where_answers_are_random(random, asked) -> None:
    victim, x = Ridge(), _beside_the_ridge()
    victim.random = random
    options = {"steps": 12, "step_size": 0.125}
    result = attack(victim, x, objective("mse"), Linf(0.5), "ifgsm", target=0 * x, seeds=[1, 2], **options)
    assert result.meter.backwards.tolist() == [asked] * 2

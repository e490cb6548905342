"""Attacks made on other networks: the mean over an ensemble, its cost, and what it does to a victim nobody asked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from udc_robust.attacks import L2, Linf, Sources, Streams, attack, objective, transfer
from udc_robust.attacks.gradient import ascend
from udc_robust.attacks.objectives import Mean
from udc_robust.attacks.oracle import GradientOracle
from udc_robust.attacks.sources import Ensemble

MSE = objective("mse")


class Linear(nn.Module):
    """A fixed convolution; counts the images that it is shown."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer, self.shown = nn.Conv2d(3, 3, 3, padding=1), 0

    def forward(self, x: Tensor) -> Tensor:
        self.shown += len(x)
        return torch.tanh(self.layer(x))


def _batch(n: int = 3) -> Tensor:
    x = torch.rand(n, 3, 12, 14, generator=torch.Generator().manual_seed(3))
    return torch.round((0.3 + 0.4 * x) * 255) / 255


@pytest.mark.parametrize("name", ["mse", "ssim", "cross_entropy", "divergence"])
def test_an_ensemble_climbs_the_mean_of_the_objectives(name) -> None:
    x, goal = _batch().requires_grad_(True), objective(name)
    networks: list[nn.Module] = [Linear(1), Linear(2)]
    target: Tensor | None = x.detach() * 0.8
    if name in ("cross_entropy", "divergence"):
        networks = [nn.Sequential(net, nn.Flatten(), nn.Linear(504, 4)) for net in networks]
        target = torch.tensor([0, 1, 3]) if name == "cross_entropy" else None
    sources = Sources.of(networks, goal, target)
    outputs = sources.ensemble(x)
    wanted = sources.objective.own_target(outputs.detach()[None]) if target is None else sources.target
    assert wanted is not None
    expected = []
    for i, network in enumerate(networks):
        alone = goal.own_target(network(x).detach()[None]) if target is None else target
        assert torch.equal(wanted[:, i], alone)
        expected.append(goal.values(network(x), alone))
    values = sources.objective.values(outputs, wanted)
    assert torch.allclose(values, torch.stack(expected).mean(0))
    sources.objective.check(outputs, wanted)
    assert sources.objective.flat(outputs[None], wanted).all() == (name == "divergence")


def test_broken_means_broken_for_every_network() -> None:
    scores = torch.tensor([[[2.0, 0.0], [0.0, 2.0]], [[0.0, 2.0], [0.0, 2.0]]])  # (images, networks, classes)
    mean, target = Mean(objective("margin")), torch.zeros(2, 2).long()  # type: ignore[arg-type]
    values = mean.values(scores, target)
    assert mean.broken(scores[None], target, values, mean.goal(values)).tolist() == [False, True]


@pytest.mark.parametrize("threat", [Linf(8 / 255), L2(1.5)])
def test_one_source_is_attacked_as_by_itself_and_judged_elsewhere(threat) -> None:
    x, source, victim = _batch(), Linear(1), Linear(2)
    target = x * 0.9
    alone = attack(source, x, MSE, threat, "pgd", target=target, seeds=[1, 2, 3], steps=4)
    sources = Sources.of([source], MSE, target)
    made = transfer(victim, x, MSE, threat, "pgd", sources, target=target, seeds=[1, 2, 3], steps=4)
    assert torch.equal(made.x_adv, alone.x_adv)
    with torch.no_grad():
        assert torch.equal(made.adv_values, MSE.values(victim(made.x_adv), target))
        assert torch.equal(made.clean_values, MSE.values(victim(x), target))


def test_a_transfer_feels_no_neighbour() -> None:
    x, networks, victim = _batch(), [Linear(1), Linear(2)], Linear(3)
    for target in (x * 0.9, None):
        together = transfer(
            victim, x, MSE, Linf(8 / 255), "pgd", Sources.of(networks, MSE, target), target=target, seeds=[1, 2, 3]
        )
        for row in range(3):
            mine = None if target is None else target[row : row + 1]
            alone = transfer(
                victim, x[row : row + 1], MSE, Linf(8 / 255), "pgd", Sources.of(networks, MSE, mine), target=mine,
                seeds=[row + 1],
            )  # fmt: skip
            assert torch.allclose(alone.x_adv[0], together.x_adv[row], atol=1e-6)


def test_every_network_of_an_ensemble_costs_its_calls_and_the_victim_none() -> None:
    x, networks, victim = _batch(), [Linear(1), Linear(2)], Linear(3)
    sources = Sources.of(networks, MSE, x * 0.9)
    result = transfer(victim, x, MSE, Linf(8 / 255), "pgd", sources, target=x * 0.9, seeds=[1, 2, 3], steps=5)
    # Five gradients and the last value; attack() scores before and after.
    assert [network.shown for network in networks] == [3 * (5 + 1 + 2)] * 2
    assert result.meter.forwards.tolist() == [2 * 6] * 3 and result.meter.backwards.tolist() == [2 * 5] * 3
    assert victim.shown == 3 * 2 and result.meter.queries.tolist() == [0] * 3


@pytest.mark.parametrize("name", ["square", "simba", "nes", "prgf"])
def test_a_query_attack_begins_with_its_sources_and_counts_the_victims_answers_alone(name) -> None:
    x, source, victim = _batch(), Linear(1), Linear(2)
    options = {"queries": 20, "samples": 4} if name in ("nes", "prgf") else {"steps": 20}
    sources = Sources.of([source], MSE, x * 0.9)
    result = attack(
        victim, x, MSE, Linf(8 / 255), name, target=x * 0.9, seeds=[1, 2, 3], sources=sources, **options
    )  # fmt: skip
    queries = result.meter.queries
    taken = result.meter.backwards  # twenty, or fewer where they go to and fro
    assert victim.shown == int(queries.sum()) + 3 * 2 and source.shown == 3 + int(taken.sum())
    assert (result.meter.forwards - queries == taken).all() and (taken >= 10).all()
    plain = transfer(victim, x, MSE, Linf(8 / 255), "ifgsm", sources, target=x * 0.9, seeds=[1, 2, 3], steps=20)
    assert (result.adv_values >= 0.98 * plain.adv_values).all()
    assert all(parameter.requires_grad for parameter in source.parameters())


@pytest.mark.parametrize("name", ["square", "simba", "nes", "prgf"])
def test_the_first_question_is_about_what_the_sources_fell_for(name) -> None:
    x, source, asked = _batch(), Linear(1), []
    target, threat = x * 0.9, Linf(8 / 255)

    def victim(images: Tensor) -> Tensor:
        asked.append(images.clone())
        return images**2

    options = {"queries": 20} if name in ("nes", "prgf") else {"steps": 2}
    sources = Sources.of([source], MSE, target)
    attack(victim, x, MSE, threat, name, target=target, seeds=[1, 2, 3], sources=sources, **options)
    oracle = GradientOracle(source, MSE, target, Streams([1, 2, 3]))
    fallen = ascend(oracle, x, x, threat, steps=20, step_size=None)
    assert torch.equal(asked[0], x) and torch.allclose(asked[1], fallen, atol=1e-6)  # attack() scores x before


def test_sources_that_are_no_use_or_missing_are_refused() -> None:
    x = _batch()
    with pytest.raises(ValueError, match="pgd makes nothing of sources: leave them out"):
        attack(Linear(1), x, MSE, Linf(0.1), "pgd", seeds=[1, 2, 3], sources=Sources.of([Linear(2)], MSE, None))
    with pytest.raises(ValueError, match="prgf needs sources"):
        attack(Linear(1), x, MSE, Linf(0.1), "prgf", seeds=[1, 2, 3])


def test_plain_functions_are_sources_too() -> None:
    assert Ensemble([lambda x: x, lambda x: 2 * x])(_batch()).shape == (3, 2, 3, 12, 14)


def test_sources_and_the_victim_answer_in_evaluation_mode_and_are_put_back() -> None:
    modes: list[bool] = []

    class Told(Linear):
        def forward(self, x: Tensor) -> Tensor:
            modes.append(self.training)
            return super().forward(x)

    x, source, victim = _batch(), Told(1).train(), Told(2).train()
    sources, told = Sources.of([source], MSE, x * 0.9), {"target": x * 0.9, "seeds": [1, 2, 3]}
    attack(victim, x, MSE, Linf(8 / 255), "square", sources=sources, steps=3, **told)
    transfer(victim, x, MSE, Linf(8 / 255), "fgsm", sources, **told)
    assert modes and not any(modes) and source.training and victim.training

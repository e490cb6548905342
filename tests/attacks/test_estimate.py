"""NES and P-RGF: slopes from values alone, every value counted, and the best of the way kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from udc_robust.attacks import L2, Linf, Sources, Streams, attack, objective
from udc_robust.attacks.attack import Result
from udc_robust.attacks.estimate import _leaning, leaning
from udc_robust.attacks.meter import Meter
from udc_robust.attacks.methods import method
from udc_robust.attacks.oracle import Oracle
from udc_robust.attacks.sources import SourceOracle

MSE = objective("mse")


def _batch(n: int = 3, side: int = 8) -> Tensor:
    x = torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(3))
    return torch.round((0.3 + 0.4 * x) * 255) / 255


def _weights(seed: int, like: Tensor) -> Tensor:
    return torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(seed))


class Sloped:
    """One value an image, linear in it: its gradient is ``weights``. It is only ever asked without gradients."""

    def __init__(self, weights: Tensor, alone: bool = True) -> None:
        self.weights, self.alone, self.shown = weights, alone, 0

    def __call__(self, x: Tensor) -> Tensor:
        assert not (self.alone and torch.is_grad_enabled()), "a query attack asked the victim for a gradient"
        self.shown += len(x)
        return (x * self.weights).mean((1, 2, 3), keepdim=True) + 0.5


def _attack(name: str, weights: Tensor, x: Tensor, seeds: list[int], prior: Tensor | None = None, **options) -> Result:
    target = torch.zeros(len(x), 1, 1, 1) - 5
    sources = None if prior is None else Sources.of([Sloped(prior, alone=False)], MSE, target)
    threat = options.pop("threat", Linf(8 / 255))
    return attack(
        Sloped(weights), x, MSE, threat, name, target=target, seeds=seeds, sources=sources, round_8_bit=False,
        **options,
    )  # fmt: skip


@pytest.mark.parametrize("threat", [Linf(8 / 255), L2(1.0)])
def test_nes_climbs_a_slope_that_it_never_sees(threat) -> None:
    x = _batch()
    weights = _weights(0, x)
    result = _attack("nes", weights, x, [1, 2, 3], queries=600, samples=100, threat=threat)
    best = threat.project(x, threat.step(x, weights.expand_as(x), 2 * threat.eps))
    gain = ((result.x_adv - x) * weights).flatten(1).sum(1) / ((best - x) * weights).flatten(1).sum(1)
    assert (gain > 0.45).all()  # noise has 0


@pytest.mark.parametrize("samples, expected", [(10, 1 + 4 * 11), (50, 1 + 49), (1, 1 + 16 * 3), (7, 1 + 7 * 7)])
def test_nes_asks_no_more_than_it_may_and_all_is_counted(samples, expected) -> None:
    x, victim = _batch(2), Sloped(_weights(0, _batch()))
    result = attack(
        victim, x, MSE, Linf(0.1), "nes", target=torch.zeros(2, 1, 1, 1), seeds=[1, 2], queries=50, samples=samples
    )
    assert result.meter.queries.tolist() == [expected] * 2
    assert victim.shown == 2 * expected + 2 * 2  # `attack` scores before and after
    assert result.meter.backwards.sum() == 0


@pytest.mark.parametrize("queries", [16, 40, 300])
def test_prgf_asks_no_more_than_it_may_and_all_is_counted(queries) -> None:
    x, weights = _batch(3), _weights(0, _batch())
    victim = Sloped(weights)
    target = torch.zeros(3, 1, 1, 1) - 5
    sources = Sources.of([Sloped(_weights(1, x), alone=False)], MSE, target)
    result = attack(
        victim, x, MSE, Linf(0.1), "prgf", target=target, seeds=[1, 2, 3], queries=queries, samples=20,
        sources=sources,
    )  # fmt: skip
    assert victim.shown == int(result.meter.queries.sum()) + 3 * 2
    assert (result.meter.queries <= queries).all() and (result.meter.queries > queries - 32).all()


@pytest.mark.parametrize("name", ["nes", "prgf"])
def test_an_image_does_not_feel_its_neighbours(name) -> None:
    x = _batch()
    weights, prior = _weights(0, x), _weights(0, x) + 3 * _weights(1, x)
    options = {"queries": 150, "samples": 20, "prior": prior}
    together = _attack(name, weights, x, [1, 2, 3], **options)
    alone = _attack(name, weights, x[[2, 0]], [3, 1], **options)
    assert torch.allclose(alone.x_adv, together.x_adv[[2, 0]], atol=1e-6)
    assert torch.equal(alone.meter.queries, together.meter.queries[[2, 0]])


def _estimate(prior: Tensor, samples: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cosine of the estimate and of the prior with the gradient, and the queries of a step."""
    x = _batch(4)
    weights, target, streams, meter = _weights(0, x), torch.zeros(4, 1, 1, 1) - 5, Streams([1, 2, 3, 4]), Meter(4)
    source = SourceOracle(Sources.of([Sloped(prior, alone=False)], MSE, target), x, streams, meter)
    oracle = Oracle(Sloped(weights), MSE, x, target, torch.zeros(4), meter, streams, source=source, answers_only=True)
    values = oracle.values(x)
    found, asked = _leaning(oracle, x, values, Linf(0.1), torch.arange(4), samples, 1e-3)
    assert torch.equal(meter.queries, asked + 1)
    cosine = torch.nn.functional.cosine_similarity
    flat = weights.expand_as(x).flatten(1)
    return cosine(found.flatten(1), flat), cosine(prior.expand_as(x).flatten(1), flat), asked


def test_a_good_prior_is_taken_as_it_is_and_a_useless_one_is_left() -> None:
    x = _batch()
    truth, other = _weights(0, x), _weights(1, x)
    found, prior, asked = _estimate(truth + other, 20)
    assert torch.allclose(found, prior, atol=1e-3) and (asked == 11).all()  # the prior alone: no samples
    turned, prior, _ = _estimate(-truth - other, 20)
    assert (prior < -0.5).all() and torch.allclose(turned, -prior, atol=1e-3)  # a prior may point the wrong way
    found, prior, asked = _estimate(other - truth * (other * truth).sum() / truth.square().sum(), 100)
    assert prior.abs().max() < 1e-3 and (found > 0.4).all() and (asked == 111).all()  # sqrt(100/192) at best


@pytest.mark.parametrize("size, samples", [(192, 20), (3000, 50), (50, 5)])
@pytest.mark.parametrize("cosine", [0.0, 0.01, 0.05, 0.1, 0.2, 0.35, 0.6, 0.9, 1.0])
def test_the_leaning_is_the_optimum_of_their_theorem(size, samples, cosine) -> None:
    """Theorem 1 of Cheng et al.: (g'Cg)^2 / ((1-1/q) g'C^2 g + g'Cg/q) is as large as it can be."""
    share = torch.linspace(0, 1, 20001, dtype=torch.float64)
    square, rest = cosine**2, (1 - share) / (size - 1)
    once = share * square + rest * (1 - square)
    twice = share**2 * square + rest**2 * (1 - square)
    worth = once**2 / ((1 - 1 / samples) * twice + once / samples)
    found = float(leaning(torch.tensor([cosine], dtype=torch.float64), size, samples))
    at = worth[round(found * 20000)]
    assert 0 <= found <= 1 and float(at) == pytest.approx(float(worth[~worth.isnan()].max()), rel=1e-4)


def test_a_query_method_gets_no_gradient_even_if_it_asks() -> None:
    @method("query")
    def cheat(oracle, x, threat):
        return x + oracle.gradient(x)

    with pytest.raises(RuntimeError, match="a query method asked for a gradient of the victim"):
        attack(lambda x: x, _batch(), MSE, Linf(0.1), cheat.method, seeds=[1, 2, 3])


@pytest.mark.parametrize("name", ["nes", "prgf"])
def test_probes_outside_the_budget_are_never_the_answer(name) -> None:
    x, target = torch.full((1, 3, 8, 8), 0.5), torch.zeros(1, 1, 1, 1) - 5
    sources = Sources.of([Sloped(torch.ones(3, 8, 8), alone=False)], MSE, target)

    def victim(images: Tensor) -> Tensor:
        """Bright images are the best within the budget; outside of it any image is better."""
        return images.mean((1, 2, 3), keepdim=True) + 10 * ((images - 0.5).abs().amax() - 0.11).relu()

    result = attack(
        victim, x, MSE, Linf(0.1), name, target=target, seeds=[1], queries=60, samples=10, sources=sources,
        sigma=0.05, round_8_bit=False,
    )  # fmt: skip
    assert torch.allclose(result.x_adv - x, torch.tensor(0.1))  # where PGD on the source ended


@pytest.mark.parametrize("name", ["square", "simba", "nes"])
def test_milestones_are_what_a_shorter_attack_would_have_seen(name) -> None:
    x = _batch(3)
    weights = _weights(0, x)
    options = {"queries": 120, "samples": 10} if name == "nes" else {"steps": 120}
    result = _attack(name, weights, x, [1, 2, 3], **options)
    values = []
    for queries, images, reached in result.milestones:
        assert reached.equal(result.meter.queries >= queries)
        assert (Linf(8 / 255).distance(x, images) <= 8 / 255 + 1e-6).all()
        values.append(torch.where(reached, (images * weights).flatten(1).mean(1), torch.nan))
    assert [milestone.queries for milestone in result.milestones][:4] == [10, 20, 50, 100]
    steps = torch.stack([*values[:4], (result.x_adv * weights).flatten(1).mean(1)])
    assert (steps.diff(dim=0) >= -1e-7).all() and (steps[-1] > steps[0]).all()
    if name == "square":  # its schedule is of the share of all steps, its first image is not
        first = _attack(name, weights, x, [1, 2, 3], steps=1)
        assert (values[0] >= (first.x_adv * weights).flatten(1).mean(1) - 1e-7).all()


def test_gradient_attacks_have_no_milestones() -> None:
    x = _batch()
    result = attack(lambda x: x**2, x, MSE, Linf(0.1), "pgd", target=x, seeds=[1, 2, 3], steps=1, restarts=12)
    assert result.milestones == []


def test_nes_steps_along_the_momentum_of_its_differences() -> None:
    x, seen = _batch(2).double(), []
    sloped, threat, target = Sloped(_weights(0, x), alone=False), L2(0.5), torch.zeros(2, 1, 1, 1) - 5
    attack(
        lambda images: seen.append(images.clone()) or sloped(images), x, MSE, threat, "nes", target=target,
        seeds=[1, 2], queries=16, samples=4, sigma=0.02, momentum=0.7, round_8_bit=False,
    )  # fmt: skip
    asked, mean = seen[1:-1], torch.zeros_like(x)
    assert len(asked) == 16
    for step in range(0, 15, 5):
        at, *probes, after = asked[step : step + 6]
        estimate = torch.zeros_like(x)
        for ahead, behind in (probes[:2], probes[2:]):
            assert torch.allclose((ahead + behind) / 2, at)
            rise = MSE.values(sloped(ahead), target) - MSE.values(sloped(behind), target)
            estimate += rise.view(-1, 1, 1, 1) * (ahead - behind)
        mean = 0.7 * mean + 0.3 * estimate
        assert torch.allclose(after, threat.project(x, threat.step(at, mean, 0.5 / 4)), atol=1e-8)


def test_prgf_climbs_on_from_where_it_stands() -> None:
    """A prior that is right is followed alone, by a query along it, ten at random and one about where it led."""
    x = _batch()
    weights = _weights(0, x)
    result = _attack("prgf", weights, x, [1, 2, 3], weights, start=x, queries=100, samples=20, threat=L2(0.4))
    assert result.meter.queries.tolist() == [1 + 6 * 12] * 3
    assert torch.allclose(result.x_adv - x, 0.4 * weights / torch.linalg.vector_norm(weights), atol=1e-3)


def test_milestones_are_rounded_and_hold_the_last_image_of_who_asked_less() -> None:
    x = _batch(6)
    result = attack(
        Sloped(_weights(0, x)), x, MSE, Linf(8 / 255), "simba", target=torch.zeros(6, 1, 1, 1) - 5, seeds=range(6),
        steps=12, step_size=0.011,
    )  # fmt: skip
    for _, images, reached in result.milestones:
        assert torch.allclose(images * 255, torch.round(images * 255), atol=1e-4)
        assert torch.equal(images[~reached], result.x_adv[~reached])
    assert result.milestones[-1].queries == 20 and len(reached.unique()) == 2

"""Threat models: whatever happens, the result is in the ball and in the box."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from udc_robust.attacks import L2, Linf, Streams, round_to_8_bits

threats = st.sampled_from([Linf(4 / 255), Linf(0.3), L2(0.5), L2(5.0)])
shapes = st.tuples(st.integers(1, 3), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))


def _images(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def _inside(threat, x, x_adv) -> bool:
    within = threat.distance(x, x_adv) <= threat.eps * (1 + 1e-5) + 1e-6
    return bool(within.all() and x_adv.min() >= 0 and x_adv.max() <= 1)


@given(threats, shapes)
@settings(max_examples=40, deadline=None)
def test_start_noise_and_projection_stay_inside(threat, shape) -> None:
    x, streams = _images(shape), Streams(range(shape[0]))
    far = x + 10 * torch.randn(shape)
    for x_adv in (threat.start(x, streams), threat.noise(x, streams), threat.project(x, far)):
        assert _inside(threat, x, x_adv)
    again = threat.project(x, far)
    assert torch.allclose(threat.project(x, again), again, atol=1e-6)


@given(threats, shapes)
@settings(max_examples=40, deadline=None)
def test_rounding_stays_inside_and_on_the_grid(threat, shape) -> None:
    x = torch.round(_images(shape) * 255) / 255
    x_adv = threat.project(x, x + threat.eps * torch.randn(shape))
    rounded = round_to_8_bits(threat, x, x_adv)
    assert _inside(threat, x, rounded)
    assert torch.allclose(rounded * 255, torch.round(rounded * 255), atol=1e-4)


@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_rounding_keeps_the_whole_budget(k: int) -> None:
    levels = torch.arange(8, 248).view(1, 1, 15, 16)
    x = levels / 255  # budgets of whole levels, in spite of float32
    for sign in (-1, 1):
        rounded = round_to_8_bits(Linf(k / 255), x, Linf(k / 255).project(x, x + sign * k / 255))
        assert torch.equal(torch.round(rounded * 255).long(), levels + sign * k)


@pytest.mark.parametrize("eps", [0.4, 1.0, 3.0])
def test_rounding_leaves_little_of_an_l2_budget(eps: float) -> None:
    x = torch.round((0.3 + 0.4 * _images((2, 3, 20, 20))) * 255) / 255
    direction = torch.randn(x.shape)
    threat = L2(eps)
    rounded = round_to_8_bits(threat, x, threat.project(x, x + 100 * direction))
    spent = threat.distance(x, rounded)
    assert (spent <= eps * (1 + 1e-5)).all() and (spent > 0.98 * eps).all()


def test_rounding_off_the_grid_takes_the_nearest_level_where_none_is_in_reach() -> None:
    x = torch.tensor([127.4, 127.6, 3.1]).view(1, 3, 1, 1) / 255
    rounded = round_to_8_bits(Linf(0.1 / 255), x, x)
    assert torch.allclose(rounded.flatten() * 255, torch.tensor([127.0, 128.0, 3.0]))


def test_noise_has_the_full_norm_away_from_the_box() -> None:
    x = torch.full((2, 3, 8, 8), 0.5)
    for threat in (Linf(4 / 255), L2(1.0)):
        assert torch.allclose(threat.distance(x, threat.noise(x, Streams([1, 2]))), torch.tensor(threat.eps), rtol=1e-4)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_starts_are_uniform_in_the_ball(norm: str) -> None:
    x = torch.full((1500, 1, 1, 2), 0.5)  # a square, and a disc
    threat = {"linf": Linf(0.2), "l2": L2(0.2)}[norm]
    delta = (threat.start(x, Streams(range(1500))) - x).flatten(1) / 0.2
    assert delta.mean(0).abs().max() < 0.05
    # Second moments of a uniform square and disc of radius 1, and how much lies in the inner half.
    moment, inner = {"linf": (1 / 3, 0.25), "l2": (1 / 4, 0.25)}[norm]
    size = delta.abs().amax(1) if norm == "linf" else torch.linalg.vector_norm(delta, dim=1)
    assert torch.allclose(delta.square().mean(0), torch.tensor(moment), atol=0.03)
    assert float((size < 0.5).float().mean()) == pytest.approx(inner, abs=0.04) and size.max() > 0.97


def test_an_unbounded_budget_still_has_a_box() -> None:
    x = torch.full((1, 3, 4, 4), 0.5)
    far = x + 10 * torch.randn(x.shape)
    assert torch.equal(L2(float("inf")).project(x, far), far.clamp(0, 1))
    assert torch.equal(L2(float("inf"), 0.0, 500.0).project(x, 100 * far), (100 * far).clamp(0, 500))


@pytest.mark.parametrize("threat", [Linf(0.2), L2(0.2)])
def test_without_a_gradient_a_step_leads_nowhere(threat) -> None:
    x = _images((2, 3, 4, 4))
    gradient = torch.zeros_like(x)
    gradient[1] = torch.randn(3, 4, 4)
    moved = threat.step(x, gradient, 0.1)
    assert torch.equal(moved[0], x[0]) and moved.isfinite().all() and not torch.equal(moved[1], x[1])


def test_steps_climb_the_gradient_in_their_norm() -> None:
    gradient = torch.randn(2, 3, 5, 5)
    for threat, length in ((Linf(1.0), 0.01), (L2(1.0), 0.01)):
        moved = threat.step(torch.zeros_like(gradient), gradient, 0.01)
        assert torch.allclose(threat.distance(torch.zeros_like(moved), moved), torch.tensor(length))
        assert (moved * gradient).sum() > 0


def test_streams_depend_on_their_own_seed_only() -> None:
    x = torch.zeros(3, 3, 4, 4)
    together = Streams([5, 6, 7]).normal(x)
    alone = Streams([6]).normal(x[:1])
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(together[0], together[1])

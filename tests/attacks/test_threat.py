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
    x = torch.full((1, 3, 4, 4), 100 / 255)
    rounded = round_to_8_bits(Linf(k / 255), x, x + k / 255)
    assert torch.equal(torch.round(rounded * 255), torch.full_like(x, 100 + k))


def test_noise_has_the_full_norm_away_from_the_box() -> None:
    x = torch.full((2, 3, 8, 8), 0.5)
    for threat in (Linf(4 / 255), L2(1.0)):
        assert torch.allclose(threat.distance(x, threat.noise(x, Streams([1, 2]))), torch.tensor(threat.eps), rtol=1e-4)


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

"""Floors: a proven bound on how far answers move, and medians of noisy answers that an attacker cannot move further."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from udc_robust.metrics import psnr
from udc_robust.networks.lipschitz import lipschitz_bound
from udc_robust.tasks.limits_floor import lipschitz_floor, median_floor, places, smoothing_ratio


def _chain(groups: int = 1) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1, groups=groups), nn.ReLU(), nn.Sequential(nn.Conv2d(8, 4, 3, stride=2), nn.Tanh())
    )  # fmt: skip


@pytest.mark.parametrize("groups", [1, 2])
def test_no_change_grows_by_more_than_the_bound(groups) -> None:
    network, generator = _chain(groups), torch.Generator().manual_seed(1)
    bound = lipschitz_bound(network)
    grown = []
    for _ in range(20):
        x, change = torch.randn(2, 1, 4, 9, 9, generator=generator)
        grown.append(((network(x + change) - network(x)).norm() / change.norm()).item())
    assert 0 < max(grown) <= bound < 60
    one = nn.Conv2d(3, 3, 1)  # of a single tap the bound is the norm itself
    assert lipschitz_bound(one) == pytest.approx(torch.linalg.matrix_norm(one.weight[..., 0, 0], 2).item(), rel=1e-5)


def test_what_is_not_proven_has_no_bound() -> None:
    stated, silly = nn.GELU(), nn.GELU()
    stated.lipschitz, silly.lipschitz = 1.5, math.nan
    assert lipschitz_bound(stated) == 1.5 and lipschitz_bound(silly) is None
    for layer in (nn.GELU(), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")):
        assert lipschitz_bound(nn.Sequential(nn.ReLU(), layer)) is None
    assert lipschitz_bound(nn.Sequential(nn.LeakyReLU(3.0), nn.ReLU())) == 3.0


class _Residual(nn.Sequential):
    """A chain with a way past it, which moves by more than the chain does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + super().forward(x)


def test_a_subclass_that_does_something_else_has_no_bound() -> None:
    assert lipschitz_bound(_Residual(nn.ReLU())) is None
    assert lipschitz_bound(nn.Sequential(nn.ReLU(), _Residual(nn.ReLU()))) is None
    layer = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 3, 1))  # a class of its own, and still a convolution
    norm = torch.linalg.matrix_norm(layer.weight[..., 0, 0], 2).item()
    assert lipschitz_bound(layer) == pytest.approx(norm, rel=1e-3)


def test_the_figures_of_the_facts() -> None:
    assert lipschitz_floor(33.4, 1.0, 4 / 255) == pytest.approx(28.6, abs=0.1)
    assert smoothing_ratio(4 / 255, 3 * 96 * 96) == pytest.approx(26, abs=0.2)


def test_order_statistics_cover_the_percentiles() -> None:
    low, high = places(1.0, 100)
    assert low == 99 - high and 84 < high < 98
    answers = torch.randn(4000, 100, generator=torch.Generator().manual_seed(0)).sort(1).values
    assert (answers[:, high] >= 1.0).double().mean() > 0.998 and (answers[:, low] <= -1.0).double().mean() > 0.998
    assert (answers[:, high - 8] >= 1.0).double().mean() < 0.95  # it is no larger than it must be
    assert places(3.0, 100) is None and places(26.0, 10**6) is None


def test_no_change_within_the_ball_takes_the_median_below_the_floor() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(3, 6, 6, generator=generator) * 0.4 + 0.3
    x = truth + 0.01

    def restorer(x: torch.Tensor) -> torch.Tensor:
        return x * 1.1 - 0.05

    floor = median_floor(restorer, [(x, truth)], 0.05, samples=200)
    assert floor.certified < floor.clean and not floor.vacuous and floor.eps == floor.sigma == 0.05
    for _ in range(10):
        change = torch.randn(x.shape, generator=generator)
        noise = 0.05 * torch.randn(200, *x.shape, generator=generator)
        median = restorer(x + 0.05 * change / change.norm() + noise).median(0).values
        assert psnr(median[None], truth[None]).item() > floor.certified
    assert median_floor(restorer, [(x, truth)], 2.0, samples=20).vacuous
    # Too few samples see no such percentile: anything may come.
    assert median_floor(restorer, [(x, truth)], 0.05, samples=5).certified < 6

"""Towards a picture: nearness is what counts, where it is asked for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from udc_robust.attacks import L2, Linf, Towards, attack

PLACE = (2, 3, 5, 6)


def _images() -> Tensor:
    return 0.3 + 0.4 * torch.rand(2, 3, 12, 14, generator=torch.Generator().manual_seed(2))


def _with_spot(x: Tensor) -> Tensor:
    wanted = x.clone()
    wanted[:, :, 2:7, 3:9] += 0.04
    return wanted


def _run(objective=None, threat=None, method: str = "pgd", **options):
    x = _images()
    objective, threat = objective or Towards(PLACE), threat or Linf(0.05)
    wanted = _with_spot(x) if "target" not in options else options.pop("target")
    return x, attack(lambda x: x, x, objective, threat, method, target=wanted, seeds=[1, 2], **options)


@pytest.mark.parametrize("method", ["pgd", "apgd", "mifgsm"])
def test_the_restoration_becomes_the_picture_in_its_region(method) -> None:
    _, result = _run(method=method, steps=20)
    assert torch.allclose(result.clean_values, torch.tensor(-0.0016), rtol=1e-3)
    assert (result.adv_values > -0.0004).all() and result.success.all()


def test_values_are_minus_the_squared_error_of_the_region_alone() -> None:
    x = _images()
    wanted = torch.rand_like(x)
    part = (x - wanted)[:, :, 2:7, 3:9].square().mean((1, 2, 3))
    assert torch.allclose(Towards(PLACE).values(x, wanted), -part)
    assert torch.allclose(Towards().values(x, wanted), -(x - wanted).square().mean((1, 2, 3)))


def test_broken_is_six_db_nearer_and_the_hinge_counts_in_db() -> None:
    goal = Towards().goal(torch.tensor([-0.04]))
    assert torch.allclose(goal, torch.tensor([-0.04 / 10**0.6]))
    assert Towards().broken(goal[None], goal, goal + 1e-6, goal).all()
    assert not Towards().broken(goal[None], goal, goal - 1e-6, goal).any()
    assert torch.allclose(Towards().hinge(torch.tensor([-0.04]), goal), torch.tensor([6.0]), atol=1e-4)
    assert torch.allclose(Towards().beyond(goal, 10), goal / 10)


def test_cw_finds_the_smallest_change_that_draws_it() -> None:
    x, result = _run(threat=L2(float("inf")), method="cw", steps=40, search_steps=4, round_8_bit=False)
    needed = (1 - 10**-0.3) * torch.linalg.vector_norm((_with_spot(x) - x).flatten(1), dim=1)
    assert result.success.all() and (result.l2 < 1.1 * needed).all() and (result.l2 > 0.98 * needed).all()


@pytest.mark.parametrize(
    "objective, target, message",
    [
        (Towards(), torch.zeros(2, 3, 8, 8), "towards a picture of 8x8 px, but restorations have 12x14"),
        (Towards((0, 0, 13, 2)), torch.zeros(2, 3, 12, 14), "reaches out of images of 12x14 px"),
        (Towards(), None, "towards needs targets"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(objective, target, message) -> None:
    with pytest.raises(ValueError, match=message):
        _run(objective, target=target)

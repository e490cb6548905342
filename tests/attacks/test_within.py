"""What a scene can show beside its lamps: noise of the whole norm, and rounding that spends the whole budget."""

from __future__ import annotations

import torch
from torch import Tensor

from udc_robust.attacks import L2, Streams
from udc_robust.attacks.within import Printable, on_8_bits


def _scene() -> Tensor:
    """Three quarters are lamps, which lie on no 8-bit level."""
    x = torch.round((0.3 + 0.3 * torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))) * 255) / 255
    x[..., :12] = 229.5 / 255
    return x


def test_noise_has_the_whole_norm_where_lamps_stay_as_they_are() -> None:
    x, threat = _scene(), Printable(L2(0.5), white=0.8)
    noisy = threat.noise(x, Streams([1, 2]))
    assert torch.equal(noisy[..., :12], x[..., :12])
    assert torch.allclose(threat.distance(x, noisy), torch.tensor(0.5), rtol=1e-4)


def test_lamps_take_nothing_of_the_budget_when_the_rest_is_rounded() -> None:
    x, threat = _scene(), Printable(L2(0.1), white=0.8)
    rounded = on_8_bits(threat, x, threat.project(x, x + torch.randn_like(x)))
    assert torch.equal(rounded[..., :12], x[..., :12])
    spent = threat.distance(x, rounded)
    assert (spent > 0.095).all() and (spent <= 0.1 * (1 + 1e-5)).all()

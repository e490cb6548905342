"""Smooth fields: two passes find where an answer is too bright, without a gradient of the network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from udc_robust.attacks import L2, Linf, attack, objective


def _images() -> Tensor:
    return 0.3 + 0.4 * torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(2))


def _truth(x: Tensor) -> Tensor:
    """Grainy, darker at the left, brighter at the right, but for the last channel, which is brighter everywhere."""
    tilt = torch.linspace(-0.05, 0.05, x.shape[-1]).expand(2, 3, 32, 40).clone()
    tilt[:, 2] = 0.05
    return x + tilt + 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("threat", [Linf(0.02), L2(1.0)])
def test_it_pushes_each_side_away_from_the_truth_and_keeps_what_does_most(threat) -> None:
    x = _images()
    options = {"target": _truth(x), "seeds": [1, 2], "round_8_bit": False}
    result = attack(lambda x: x, x, objective("mse"), threat, "smooth_field", blur=2.0, **options)
    delta = result.x_adv - x
    assert (delta[:, :2, :, :12] > 0).all() and (delta[:, :2, :, -12:] < 0).all() and (delta[:, 2] < 0).all()
    assert (threat.distance(x, result.x_adv) > 0.999 * threat.eps).all()
    assert result.meter.queries.tolist() == [3, 3] and result.meter.backwards.tolist() == [0, 0]
    shift = attack(lambda x: x, x, objective("mse"), threat, "brightness", **options)
    assert (result.adv_values > 1.2 * shift.adv_values).all()


def test_a_shift_of_each_channel_is_tried_where_the_blurred_field_is_misled() -> None:
    """The error is off by channel, and by a texture on top of it whose sign the blur of half a pixel still feels."""
    x = _images()
    texture = 0.05 * (-1.0) ** (torch.arange(32).view(-1, 1) + torch.arange(40))
    truth = x + torch.tensor([0.01, -0.01, 0.01]).view(3, 1, 1) + texture
    detail = x - x.mean((2, 3), keepdim=True)
    options = {"target": truth, "seeds": [1, 2], "round_8_bit": False}
    result = attack(
        lambda x: x.mean((2, 3), keepdim=True) + detail,
        x,
        objective("mse"),
        Linf(0.02),
        "smooth_field",
        blur=0.4,
        **options,
    )
    expected = torch.tensor([-0.02, 0.02, -0.02]).view(3, 1, 1).expand_as(x)
    assert torch.allclose(result.x_adv - x, expected, atol=1e-6)

"""The user's own defences: whether they have a gradient of use is tried out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from udc_robust.defences.defence import Defended
from udc_robust.defences.own import Transformation


class Normalised(nn.Module):
    """Images of one sum, whatever they are: the sum itself has no slope, and each value has one."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean((1, 2, 3), keepdim=True) + 0.5


def _quantised(x: Tensor) -> Tensor:
    return torch.round(x * 15) / 15


@pytest.mark.parametrize(
    "transform, exactness",
    [
        (_quantised, "approximate: gradient of the identity"),
        (torch.sign, "approximate: gradient of the identity"),
        (lambda x: x.detach() + nn.Parameter(torch.zeros(1)), "approximate: gradient of the identity"),
        (lambda x: x + (_quantised(x) - x).detach(), "exact"),
        (Normalised(), "exact"),
        (nn.Conv2d(3, 3, 1, dtype=torch.float32), "exact"),
    ],
)
def test_an_attacker_who_knows_a_defence_has_a_gradient_of_it(transform, exactness) -> None:
    made = Transformation("mine", transform)
    way = made.gradients["adaptive"]
    assert way.exactness == exactness
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    answer = Defended(made, lambda images: images.pow(3), way)(x)
    (slope,) = torch.autograd.grad(answer.sum(), x)
    assert slope.count_nonzero() > 0

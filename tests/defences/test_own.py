"""The user's own defences: whether they have a gradient of use is tried out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from udc_robust.defences.defence import Defended
from udc_robust.defences.own import Transformation
from udc_robust.defences.registry import build_defence, check_defence
from udc_robust.errors import UserError


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


def test_code_that_cannot_be_built_is_told_with_its_line(tmp_path) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nfrom udc_robust import Defence\n"
        "class Broken(nn.Module):\n    def __init__(self):\n        raise KeyError('weights')\n"
        "class Lost(Defence):\n    def load(self):\n        return open('nowhere.pth')\n"
    )
    with pytest.raises(UserError, match=r"Broken': KeyError: 'weights' \(.*mine\.py, line 5\)"):
        check_defence(f"{tmp_path / 'mine.py'}:Broken", {})
    with pytest.raises(UserError, match=r"Lost': FileNotFoundError: .*nowhere.*mine\.py, line 8\)"):
        build_defence(f"{tmp_path / 'mine.py'}:Lost", {})

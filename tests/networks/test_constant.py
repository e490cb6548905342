"""Networks that do not look at their images are refused, and those that are yet to learn are not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from udc_robust.errors import UserError
from udc_robust.networks.constant import check_it_looks


class Head(nn.Module):
    """A layer whose answer is multiplied by a learnt factor, or by a fixed one."""

    def __init__(self, factor: float, learnt: bool):
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
        self.factor = nn.Parameter(torch.tensor(factor)) if learnt else factor

    def forward(self, x):
        return self.factor * self.layer(x)


def test_a_constant_answer() -> None:
    check_it_looks(Head(1.0, False).eval(), "it", "net.pth")
    for learnt in (False, True):
        with pytest.raises(UserError, match=r"it answers the same to different images: check its code and net\.pth"):
            check_it_looks(Head(0.0, learnt).eval(), "it", "net.pth")


def test_what_is_yet_to_learn_may_begin_with_zeros() -> None:
    network = Head(0.0, True).eval()
    before = {name: part.clone() for name, part in network.state_dict().items()}
    check_it_looks(network, "it", "options", untrained=True)
    assert all(torch.equal(before[name], part) for name, part in network.state_dict().items())
    with pytest.raises(UserError, match="the same"):
        check_it_looks(Head(0.0, False).eval(), "it", "options", untrained=True)

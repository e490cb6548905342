"""Proven bounds against changes that are chosen: those that all taps, or the strongest group, work on together."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from udc_robust.networks.lipschitz import lipschitz_bound


@torch.no_grad()
def test_it_holds_where_all_taps_work_together() -> None:
    box, even = nn.Conv2d(1, 1, 3, padding=1, bias=False), torch.ones(1, 1, 60, 60)
    nn.init.ones_(box.weight)
    bound = lipschitz_bound(box)
    assert bound == pytest.approx(9) and 8.5 < float(box(even).norm() / even.norm()) <= bound


def test_of_groups_it_is_that_of_the_strongest() -> None:
    layer = nn.Conv2d(2, 2, 1, groups=2)
    layer.weight.data = torch.tensor([3.0, 1.0]).view(2, 1, 1, 1)
    assert lipschitz_bound(layer) == pytest.approx(3)

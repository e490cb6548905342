from __future__ import annotations

import copy

import pytest
import torch
from filling import fill_, image
from torch import nn

from udc_robust.restorers.bnudc import BNUDCnet
from udc_robust.restorers.fsi import UDCSFreqnet
from udc_robust.restorers.weight_norm_names import published_name, published_state_dict


def tiny_networks() -> list[nn.Module]:
    return [
        BNUDCnet(n_feat_high=4, n_feat_low=4, scale_feats=2, num_blk=1),
        UDCSFreqnet(n_feat_high=8, n_feat_low=4, num_blk=1),
    ]


@pytest.mark.parametrize("net", tiny_networks())
def test_export_in_the_published_layout_loads_back(net: nn.Module) -> None:
    exported = published_state_dict(fill_(net).state_dict())
    assert any(name.endswith(".weight_g") for name in exported)
    assert not any("parametrizations" in name for name in exported)
    assert len(exported) == len(net.state_dict())
    again = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    again.load_state_dict(exported, strict=True)
    with torch.no_grad():
        assert torch.equal(again(image((1, 3, 16, 16))), net(image((1, 3, 16, 16))))


@pytest.mark.filterwarnings("ignore")
def test_published_names_are_those_of_the_older_weight_norm() -> None:
    older = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(2, 3, 3)))
    modern = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 3)))
    assert set(published_state_dict(modern.state_dict())) == set(older.state_dict())


def test_published_weights_keep_their_meaning() -> None:
    """W = g V / ||V|| per output channel."""
    conv = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 3)))
    fill_(conv)
    exported = published_state_dict(conv.state_dict())
    g, v = exported["0.weight_g"], exported["0.weight_v"]
    torch.testing.assert_close(conv[0].weight, g * v / v.flatten(1).norm(dim=1).view(-1, 1, 1, 1))


@pytest.mark.parametrize("name", ["conv.weight", "parametrizations", "tail.bias", "a.weight.original0"])
def test_other_names_stay(name: str) -> None:
    assert published_name(name) == name

from __future__ import annotations

from pathlib import Path

import network_checks as checks
import pytest
import torch
import torch.nn.functional as F
from filling import fill_, image
from hypothesis import given, settings
from hypothesis import strategies as st

from udc_robust.errors import UserError
from udc_robust.restorers.nafnet import ChannelNorm, LocalMean, NAFNet, NAFNetLocal, box_mean

TINY = {"width": 4, "middle_blk_num": 1, "enc_blk_nums": [1, 2], "dec_blk_nums": [1, 1]}


@pytest.mark.parametrize("cls", [NAFNet, NAFNetLocal])
@pytest.mark.parametrize("name", ["nafnet_w8", "nafnet_w32"])
def test_names_and_shapes_are_official(shared: Path, name: str, cls: type[NAFNet]) -> None:
    checks.check_manifest(shared, name, cls)


@pytest.mark.parametrize("cls", [NAFNet, NAFNetLocal])
def test_outputs_are_official(shared: Path, cls: type[NAFNet]) -> None:
    assert checks.interop_difference(shared, "nafnet_w8", cls) < 1e-5


def test_outputs_are_the_stored_ones() -> None:
    assert checks.vector_difference("nafnet", NAFNet(**TINY)) < 1e-5


def test_local_outputs_are_the_stored_ones() -> None:
    assert checks.vector_difference("nafnet_local", NAFNetLocal(**TINY, train_size=[12, 16])) < 1e-5


@pytest.mark.parametrize("net", [NAFNet(**TINY), NAFNetLocal(**TINY, train_size=[4, 4])])
def test_gradient(net: NAFNet) -> None:
    checks.check_gradient(net, (2, 3, 9, 10))


def test_second_derivative_of_the_norm() -> None:
    norm = fill_(ChannelNorm(5)).double()
    assert torch.autograd.gradgradcheck(norm, (torch.rand(1, 5, 2, 2, dtype=torch.float64, requires_grad=True),))


def test_batch_equals_singles() -> None:
    checks.check_batch(NAFNet(**TINY), (3, 10, 13))
    checks.check_batch(NAFNetLocal(**TINY, train_size=[4, 4]), (3, 10, 13))


def test_hub_round_trip(tmp_path: Path) -> None:
    checks.check_hub_round_trip(NAFNet(**TINY), tmp_path / "plain", (1, 3, 9, 9))
    checks.check_hub_round_trip(NAFNetLocal(**TINY, train_size=[4, 6]), tmp_path / "local", (1, 3, 17, 19))


def test_starts_as_ending_of_intro() -> None:
    """Fresh blocks are the identity, as beta and gamma start at zero."""
    net, x = NAFNet(width=4), image((1, 3, 8, 8))
    torch.testing.assert_close(net(x), net.ending(net.intro(x)) + x)


def test_wrong_input_is_a_user_error() -> None:
    with pytest.raises(UserError, match=r"\(B, 3, H, W\)"):
        NAFNet(**TINY)(torch.rand(1, 1, 8, 8))
    with pytest.raises(UserError, match="same number"):
        NAFNet(enc_blk_nums=[1, 1], dec_blk_nums=[1])


def windows_of(net: NAFNetLocal) -> list[int]:
    stages = [*net.encoders, net.middle_blks, *net.decoders]
    return [stage[0].sca[0].window[0] for stage in stages]


def test_windows_of_the_published_network() -> None:
    net = NAFNetLocal(width=2, enc_blk_nums=[1, 1, 1, 1], dec_blk_nums=[1, 1, 1, 1])
    assert windows_of(net) == [384, 192, 96, 48, 24, 48, 96, 192, 384]
    assert windows_of(NAFNetLocal(width=2, enc_blk_nums=[1], dec_blk_nums=[1], train_size=(1, 3, 5, 5))) == [8, 4, 8]


def test_local_equals_plain_up_to_384_pixels_and_not_above() -> None:
    local, plain = fill_(NAFNetLocal(**TINY)), fill_(NAFNet(**TINY))
    with torch.no_grad():
        small, large = image((1, 3, 384, 40)), image((1, 3, 388, 40))
        torch.testing.assert_close(local(small), plain(small), rtol=0, atol=1e-6)
        assert (local(large) - plain(large)).abs().max() > 1e-6


def test_window_does_not_depend_on_which_size_came_first() -> None:
    net = fill_(NAFNetLocal(**TINY, train_size=[8, 8]))
    with torch.no_grad():
        small, large = image((1, 3, 8, 8)), image((1, 3, 30, 20))
        first = net(large)
        net(small)
        assert torch.equal(net(large), first)


@settings(deadline=None, max_examples=25)
@given(size=st.tuples(st.integers(1, 14), st.integers(1, 14)), window=st.tuples(st.integers(1, 16), st.integers(1, 16)))
def test_local_mean_against_plain_windows(size: tuple[int, int], window: tuple[int, int]) -> None:
    x = image((1, 2, *size), seed=1)
    rows, columns = min(window[0], size[0]), min(window[1], size[1])
    valid = F.avg_pool2d(x, (rows, columns), stride=1)
    torch.testing.assert_close(box_mean(x, rows, columns), valid, rtol=1e-6, atol=1e-6)
    result = LocalMean(window)(x).expand_as(x)
    for y in range(size[0]):
        for column in range(size[1]):
            top = min(max(y - (size[0] - valid.shape[2]) // 2, 0), valid.shape[2] - 1)
            left = min(max(column - (size[1] - valid.shape[3]) // 2, 0), valid.shape[3] - 1)
            torch.testing.assert_close(result[0, :, y, column], valid[0, :, top, left], rtol=1e-6, atol=1e-6)


def test_box_mean_keeps_precision_on_large_maps() -> None:
    x = image((1, 1, 600, 600)) + 1000
    torch.testing.assert_close(box_mean(x, 3, 3), F.avg_pool2d(x.double(), 3, stride=1).float(), rtol=1e-6, atol=0)

"""Regions, masks and patches: nothing changes outside, and inside the whole freedom is used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from udc_robust.attacks import L2, Linf, attack, objective

places = st.tuples(st.integers(0, 6), st.integers(0, 8), st.integers(1, 6), st.integers(1, 4))


def _images() -> Tensor:
    return 0.3 + 0.4 * torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(2))


def wide(x: Tensor) -> Tensor:
    """Every pixel of the answer feels all of the image."""
    return x + 2 * x.mean((2, 3), keepdim=True)


def _run(method: str, threat, place=(), target=None, **options):
    x = _images()
    target = 0.9 * wide(x) if target is None else target
    return x, attack(wide, x, objective("mse"), threat, method, target=target, seeds=[1, 2], region=place, **options)


def _outside(delta: Tensor, place) -> Tensor:
    top, left, rows, columns = place
    rest = delta.clone()
    rest[:, :, top : top + rows, left : left + columns] = 0
    return rest


@given(st.sampled_from([("region_pgd", Linf(8 / 255)), ("region_pgd", L2(0.3)), ("patch", L2(float("inf")))]), places)
def test_nothing_changes_outside_of_the_region(case, place) -> None:
    method, threat = case
    x, result = _run(method, threat, place, steps=4, round_8_bit=False)
    delta = result.x_adv - x
    assert not _outside(delta, place).any() and delta.any()
    assert (threat.distance(x, result.x_adv) <= threat.eps * (1 + 1e-5)).all()


def test_inside_the_whole_budget_is_used_for_the_whole_picture() -> None:
    x, result = _run("region_pgd", Linf(0.05), (2, 3, 4, 5), steps=10, round_8_bit=False)
    inside = (result.x_adv - x)[:, :, 2:6, 3:8]
    assert (inside.abs() > 0.049).all() and (result.adv_values > result.clean_values).all()
    noise = attack(
        wide, x, objective("mse"), Linf(0.05), "noise", target=0.9 * wide(x), seeds=[1, 2], round_8_bit=False
    )
    assert (result.adv_values > noise.adv_values).all()


def test_a_patch_may_hold_anything() -> None:
    _, result = _run("patch", L2(float("inf")), (2, 3, 4, 5), steps=60)
    assert (result.x_adv[:, :, 2:6, 3:8] == 1).all() and (result.l2 > 2).all()
    _, held = _run("patch", L2(0.5), (2, 3, 4, 5), steps=60, round_8_bit=False)
    assert (held.l2 <= 0.5 + 1e-5).all() and (held.l2 > 0.49).all()


@pytest.mark.parametrize(
    "place, message",
    [
        ((), r"give `region: \[top, left, height, width\]` in px or `mask: FILE`"),
        ((1, 2, 3), r"region \[1, 2, 3\] must be \[top, left, height, width\]"),
        ((0, 0, 0, 4), "is empty"),
        ((0, 9, 4, 4), "reaches out of images of 12x12 px"),
        ((-1, 0, 4, 4), "reaches out"),
    ],
)
@pytest.mark.parametrize("method, threat", [("region_pgd", Linf(0.1)), ("patch", L2(float("inf")))])
def test_regions_that_are_none_are_refused(place, message, method, threat) -> None:
    with pytest.raises(ValueError, match=message):
        _run(method, threat, place)


def _mask(path, pixels) -> str:
    Image.fromarray(np.asarray(pixels)).save(path)
    return str(path)


@pytest.mark.parametrize("method, threat", [("region_pgd", Linf(0.05)), ("patch", L2(float("inf")))])
def test_a_mask_of_any_shape_is_kept_and_used(method, threat, tmp_path) -> None:
    ring = np.zeros((12, 12), np.uint8)
    ring[2:9, 3:10], ring[4:7, 5:8], ring[0, 0] = 255, 127, 128
    x, result = _run(method, threat, mask=_mask(tmp_path / "ring.png", ring), steps=60, round_8_bit=False)
    changed = (result.x_adv - x).abs().amax((0, 1))
    assert torch.equal(changed > 0, torch.from_numpy(ring >= 128))
    _, coloured = _run(
        method, threat, mask=_mask(tmp_path / "c.png", np.stack([ring] * 3, -1)), steps=60, round_8_bit=False
    )
    assert torch.equal(coloured.x_adv, result.x_adv)


@pytest.mark.parametrize(
    "pixels, message",
    [
        (np.zeros((12, 12), np.uint8), "is empty: it has no white pixel"),
        (np.full((12, 9), 255, np.uint8), "is 12x9 px, and the images are 12x12: make them one"),
        (np.full((12, 12), 65535, np.uint16), "more than 8 bits a channel: save it as an 8-bit PNG"),
        (None, "mask .*m.png does not exist"),
        (b"no picture", "no picture that can be read .*: save it as an 8-bit PNG"),
    ],
)
def test_masks_that_are_none_are_refused(pixels, message, tmp_path) -> None:
    file = tmp_path / "m.png"
    if isinstance(pixels, bytes):
        file.write_bytes(pixels)
    elif pixels is not None:
        _mask(file, pixels)
    with pytest.raises(ValueError, match=message):
        _run("region_pgd", Linf(0.1), mask=str(file))


def test_a_region_and_a_mask_at_once_are_refused(tmp_path) -> None:
    mask = _mask(tmp_path / "m.png", np.full((12, 12), 255, np.uint8))
    with pytest.raises(ValueError, match="cannot both say what may change: leave one out"):
        _run("region_pgd", Linf(0.1), (1, 1, 2, 2), mask=mask)

"""Views of panoramas whose pixels tell their direction."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from udc_robust.data.panorama import perspective_view


def directions(height: int = 256) -> torch.Tensor:
    """Panorama (3,H,2H) that holds the unit vector (right, up, ahead) of every pixel's direction."""
    latitude = (0.5 - (torch.arange(height) + 0.5) / height) * math.pi
    longitude = ((torch.arange(2 * height) + 0.5) / (2 * height) - 0.5) * 2 * math.pi
    up = latitude.sin()[:, None].expand(height, 2 * height)
    return torch.stack([latitude.cos()[:, None] * longitude.sin(), up, latitude.cos()[:, None] * longitude.cos()])


@settings(max_examples=20, deadline=None)
@given(yaw=st.floats(-360, 360), pitch=st.floats(-90, 90))
def test_every_pixel_looks_where_a_pinhole_camera_looks(yaw: float, pitch: float) -> None:
    size = 17
    view = perspective_view(directions(), yaw, pitch, size=size)
    steps = ((torch.arange(size) + 0.5) / size * 2 - 1).double()
    down, right = torch.meshgrid(steps, steps, indexing="ij")
    ray = torch.stack([right, -down, torch.ones_like(right)])
    ray = ray / ray.norm(dim=0)
    p, y = math.radians(pitch), math.radians(yaw)
    lift = torch.tensor([[1, 0, 0], [0, math.cos(p), math.sin(p)], [0, -math.sin(p), math.cos(p)]])
    turn = torch.tensor([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    expected = torch.einsum("ij,jk,kab->iab", turn.double(), lift.double(), ray)
    torch.testing.assert_close(view.double(), expected, atol=0.02, rtol=0)


def test_the_seam_is_invisible() -> None:
    view = perspective_view(directions(), 180, 0, size=64)
    assert (view[:, :, 1:] - view[:, :, :-1]).abs().max() < 0.04


def test_a_turn_of_the_camera_is_a_turn_of_the_panorama() -> None:
    panorama = torch.rand(3, 32, 64)
    for turns in (1, 2, 3):  # across the seam as well as elsewhere
        turned = perspective_view(panorama.roll(-16 * turns, -1), 0, 10, size=40)
        torch.testing.assert_close(perspective_view(panorama, 90 * turns, 10, size=40), turned, atol=1e-4, rtol=0)


def test_right_is_right_and_up_is_up() -> None:
    view = perspective_view(directions(), 0, 0, size=32)
    assert view[0, 16, 31] > 0.6 > -0.6 > view[0, 16, 0]
    assert view[1, 0, 16] > 0.6 > -0.6 > view[1, 31, 16]


def test_a_flat_sky_stays_flat() -> None:
    view = perspective_view(torch.full((3, 32, 64), 7.0), 33, -80)
    assert view.shape == (3, 256, 256)
    torch.testing.assert_close(view, torch.full_like(view, 7.0))


def test_a_narrow_field_magnifies() -> None:
    wide, narrow = (perspective_view(directions(), 0, 0, size=33, field=field) for field in (90.0, 30.0))
    edge = math.sin(math.atan(math.tan(math.radians(15)) * 32 / 33))
    assert float(narrow[0, 16, 32]) == pytest.approx(edge, abs=0.01)
    assert wide[0, 16, 32] > narrow[0, 16, 32] + 0.3

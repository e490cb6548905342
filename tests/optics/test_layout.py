"""Displays: range, open area, rotation and scale."""

from __future__ import annotations

import numpy as np
import pytest

from udc_robust.optics.layout import Layout, phone, poled, rasterise, toled


@pytest.mark.parametrize(("layout", "open_ratio"), [(toled(), 0.72), (poled(), 0.25), (phone(), 0.68)])
def test_open_area_and_range(layout: Layout, open_ratio: float) -> None:
    assert layout.transmission.shape == (512, 512)
    assert layout.transmission.min() >= 0 and layout.transmission.max() <= 1
    assert layout.open_ratio == pytest.approx(open_ratio, abs=0.02)


def test_larger_islands_pass_less_light() -> None:
    assert phone(island=1.3).open_ratio < phone(island=1.1).open_ratio < phone().open_ratio


def test_a_quarter_turn_transposes_the_stripes() -> None:
    upright, lying = toled(), toled(angle=90)
    np.testing.assert_allclose(lying.transmission, np.rot90(upright.transmission), atol=0.26)
    assert np.abs(upright.transmission - lying.transmission).mean() > 0.1


def test_a_display_turns_clockwise_about_the_middle_of_the_pupil() -> None:
    def quadrant(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x > 0) & (y > 0)  # y points down

    upright = rasterise(quadrant).transmission
    for turns in (1, 2, 3):
        turned = rasterise(quadrant, angle=90 * turns).transmission
        np.testing.assert_allclose(turned, np.rot90(upright, -turns), atol=1e-6)
    slanted = rasterise(quadrant, angle=30).transmission
    assert slanted.mean() == pytest.approx(0.25, abs=0.01)  # a turn keeps areas and right angles
    assert slanted[260, 300] == 0 and slanted[300, 250] == 1 and slanted[296, 296] == 1  # at 6, 97 and 45 degrees


def test_the_phones_wires_are_wider_across_than_along() -> None:
    opaque = 1 - phone().transmission
    between = round(130.9 / 2 / 4 + 255.5)  # half a period from the middle, where no island lies on the wire
    assert 4 * opaque[248:264, between].sum() == pytest.approx(9.8, abs=1.5)
    assert 4 * opaque[between, 248:264].sum() == pytest.approx(5.6, abs=1.5)


def test_scale_stretches_the_openings() -> None:
    def disc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.hypot(x, y) < 200

    assert rasterise(disc, scale=2).open_ratio == pytest.approx(4 * rasterise(disc).open_ratio, rel=0.01)

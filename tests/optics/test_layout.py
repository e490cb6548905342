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


def test_scale_stretches_the_openings() -> None:
    def disc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.hypot(x, y) < 200

    assert rasterise(disc, scale=2).open_ratio == pytest.approx(4 * rasterise(disc).open_ratio, rel=0.01)

"""PSFs by every name a user has for one, and what is told of them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import tifffile
import torch

from udc_robust.data.psf_files import Tolerated, load_psf, psf_told
from udc_robust.errors import UserError


@pytest.fixture
def exposure() -> np.ndarray:
    """A point behind a display in 16 bits: colours differ, and 8 bits would lose its wings."""
    psf = load_psf("phone").permute(1, 2, 0).numpy()
    return np.round(psf / psf.max() * 60_000).astype(np.uint16)


def test_sixteen_bit_pictures_of_a_point_are_linear_light(exposure, tmp_path) -> None:
    cv2.imwrite(str(tmp_path / "point.png"), exposure[..., ::-1])
    tifffile.imwrite(tmp_path / "point.tif", exposure, photometric="rgb")
    np.save(tmp_path / "point.npy", exposure)
    expected = load_psf(str(tmp_path / "point.npy"))
    for name in ("point.png", "point.tif"):
        assert torch.allclose(load_psf(str(tmp_path / name)), expected, rtol=1e-4, atol=1e-9)


def test_a_picture_that_is_no_psf_is_named(tmp_path) -> None:
    cv2.imwrite(str(tmp_path / "oblong.png"), np.ones((5, 7), np.uint16))
    with pytest.raises(UserError, match=r"oblong\.png has the shape"):
        load_psf(str(tmp_path / "oblong.png"))
    with pytest.raises(UserError, match=r"nowhere\.png does not exist"):
        load_psf(str(tmp_path / "nowhere.png"))


def test_which_array_was_taken_how_to_take_another_and_that_it_is_too_large(tmp_path) -> None:
    path = tmp_path / "zte.npz"
    np.savez(path, psf=np.ones((41, 41)), small=np.ones((9, 9)))
    first, second = psf_told(str(path), load_psf(str(path)), side=32)
    assert "array psf (41 px) and not small (9 px): take another as" in first and f"{path}:small" in first
    assert "larger than the images (32 px)" in second
    (only,) = psf_told(f"{path}:small", load_psf(f"{path}:small"), side=32)
    assert "array small (9 px) and not psf (41 px)" in only and f"{path}:psf" in only
    (named,) = psf_told("phone", load_psf("phone"), side=32)
    assert "a simulated display, 129 px for a view of 256 px" in named


def test_displays_are_off_to_either_side_by_up_to_the_tolerance(tmp_path) -> None:
    point = np.zeros((9, 9))
    point[4, 4] = 1
    np.save(tmp_path / "point.npy", point)
    display, stream = Tolerated(str(tmp_path / "point.npy"), {"shift_x": 2.0}), torch.Generator().manual_seed(0)
    places = [float((display.drawn(stream)[0].sum(0) * torch.arange(-4, 5)).sum()) for _ in range(40)]
    assert -2 <= min(places) < -1.5 and 1.5 < max(places) <= 2

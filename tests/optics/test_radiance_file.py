"""OpenEXR and Radiance files: pixels, sizes and broken ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from udc_robust.errors import UserError
from udc_robust.optics.radiance_file import radiance_size, read_radiance


def pixels() -> np.ndarray:
    return (np.random.default_rng(0).random((5, 9, 3)) * 300).astype(np.float32)


def test_hdr_round_trip_and_size(tmp_path: Path) -> None:
    path = tmp_path / "a.hdr"
    cv2.imwrite(str(path), np.ascontiguousarray(pixels()[..., ::-1]))
    np.testing.assert_allclose(read_radiance(path), pixels(), atol=2)  # steps of 2 at 300
    assert radiance_size(path) == (5, 9)


def test_exr_round_trip_and_size(tmp_path: Path) -> None:
    openexr = pytest.importorskip("OpenEXR")
    path = tmp_path / "a.exr"
    for name, stored in {"RGB": pixels(), "Y": pixels()[..., 0]}.items():
        with openexr.File({"type": openexr.scanlineimage}, {name: np.ascontiguousarray(stored)}) as file:
            file.write(str(path))
        np.testing.assert_array_equal(read_radiance(path), stored)
        assert radiance_size(path) == (5, 9)


def test_the_size_of_an_exr_is_that_of_its_window_wherever_it_lies(tmp_path: Path) -> None:
    openexr = pytest.importorskip("OpenEXR")
    path = tmp_path / "cut.exr"
    window = (np.array([3, 2], np.int32), np.array([11, 6], np.int32))  # first and last column and row
    with openexr.File({"type": openexr.scanlineimage, "dataWindow": window}, {"RGB": pixels()}) as file:
        file.write(str(path))
    np.testing.assert_array_equal(read_radiance(path), pixels())
    assert radiance_size(path) == (5, 9)


@pytest.mark.parametrize("content", [b"", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 5 +X 9\n", b"junk"])
@pytest.mark.parametrize("suffix", [".hdr", ".exr"])
def test_broken_files_are_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"broken{suffix}"):
        read_radiance(path)


def test_a_missing_header_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.hdr"
    path.write_bytes(b"junk")
    with pytest.raises(UserError, match=r"none\.hdr"):
        radiance_size(path)

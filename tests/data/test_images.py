"""Round trips of every format, orientation, and one clear line for every broken file."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from udc_robust.data.images import image_size, list_images, read_image, write_image
from udc_robust.data.samples import files_by_stem
from udc_robust.errors import UserError


def colours(height: int = 6, width: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def as_tensor(array: np.ndarray, peak: float) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32) / np.float32(peak)).permute(2, 0, 1)


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(np.float32, (3, 4, 5), elements=st.floats(0, 1, width=32)))
def test_png_round_trip_is_within_half_a_step(tmp_path_factory: pytest.TempPathFactory, pixels: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("png") / "a.png"
    write_image(path, torch.from_numpy(pixels))
    picture = read_image(path)
    assert (picture.domain, picture.bits) == ("srgb", 8)
    torch.testing.assert_close(picture.pixels, torch.from_numpy(pixels), atol=0.5 / 255 + 1e-6, rtol=0)
    write_image(path, picture.pixels)
    assert torch.equal(read_image(path).pixels, picture.pixels)


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(np.float32, (3, 4, 5), elements=st.floats(0, 500, width=32)))
def test_npy_round_trip_is_exact(tmp_path_factory: pytest.TempPathFactory, pixels: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    write_image(path, torch.from_numpy(pixels))
    picture = read_image(path)
    assert np.array_equal(picture.pixels.numpy(), pixels)
    assert picture.domain == ("linear" if pixels.max() > 1 else "srgb")


def test_values_outside_are_clipped_in_png(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", torch.tensor([-3.0, 7.0]).expand(3, 1, 2))
    assert read_image(tmp_path / "a.png").pixels[0].tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_lossless_8_bit(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(colours()).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    assert torch.equal(read_image(path).pixels, as_tensor(colours(), 255))
    assert image_size(path) == (6, 9)


def test_jpeg(tmp_path: Path) -> None:
    flat = np.full((16, 16, 3), (200, 100, 50), dtype=np.uint8)
    Image.fromarray(flat).save(tmp_path / "a.jpg", quality=100)
    torch.testing.assert_close(read_image(tmp_path / "a.jpg").pixels, as_tensor(flat, 255), atol=0.015, rtol=0)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("grey", [False, True])
def test_16_bit_keeps_its_steps(tmp_path: Path, suffix: str, grey: bool) -> None:
    deep = colours().astype(np.uint16) * 257 - colours() // 2
    path, stored = tmp_path / f"a{suffix}", deep[..., 0] if grey else deep
    if suffix == ".png":
        cv2.imwrite(str(path), np.ascontiguousarray(stored[..., ::-1]) if not grey else stored)
    else:
        tifffile.imwrite(path, stored, compression="zlib", photometric="minisblack" if grey else "rgb")
    picture = read_image(path)
    assert picture.bits == 16
    expected = deep[..., :1].repeat(3, axis=-1) if grey else deep
    torch.testing.assert_close(picture.pixels, as_tensor(expected, 65535))


def test_float_tiff_and_hdr_are_linear(tmp_path: Path) -> None:
    linear = colours().astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", linear, photometric="rgb")
    cv2.imwrite(str(tmp_path / "a.hdr"), np.ascontiguousarray(linear[..., ::-1]))
    for name in ("a.tif", "a.hdr"):
        picture = read_image(tmp_path / name)
        assert picture.domain == "linear" and picture.bits == 32
        torch.testing.assert_close(picture.pixels, as_tensor(linear, 1), atol=1, rtol=0)
        assert image_size(tmp_path / name) == (6, 9)


def test_rgbe_webp(tmp_path: Path) -> None:
    rgbe = np.array([[[128, 64, 0, 137], [10, 20, 30, 0], [255, 1, 2, 128]]], dtype=np.uint8)
    Image.fromarray(rgbe, "RGBA").save(tmp_path / "a.rgbe.webp", lossless=True, exact=True)
    picture = read_image(tmp_path / "a.rgbe.webp")
    expected = [[256, 128, 0], [0, 0, 0], [255 / 256, 1 / 256, 2 / 256]]
    assert picture.domain == "linear"
    assert picture.pixels[:, 0].T.tolist() == expected


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    opaque = Image.fromarray(colours()).convert("RGB").convert(mode)
    opaque.save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png").pixels
    assert pixels.shape == (3, 6, 9)
    if mode in ("L", "LA", "1"):
        assert torch.equal(pixels[0], pixels[1]) and torch.equal(pixels[0], pixels[2])


def test_alpha_is_dropped_not_composited(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[200, 100, 50, 0]]], dtype=np.uint8), "RGBA").save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png").pixels[:, 0, 0] * 255).round().tolist() == [200, 100, 50]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg8", "png8", "png16", "tif16"])
def test_exif_orientation(tmp_path: Path, orientation: int, kind: str) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(np.kron(colours(2, 3), np.ones((8, 8, 1), np.uint8)))
    stored.save(tmp_path / "reference.png", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "reference.png"))) / 255.0
    path = tmp_path / f"a.{kind[:3]}"
    deep = np.asarray(stored).astype(np.uint16) * 257
    if kind == "tif16":
        tifffile.imwrite(path, deep, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    elif kind == "png16":
        cv2.imwrite(str(path), np.ascontiguousarray(deep[..., ::-1]))
        content, body = path.read_bytes(), b"eXIf" + exif.tobytes()[6:]
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        path.write_bytes(content[:33] + chunk + content[33:])
    else:
        stored.save(path, exif=exif, **({"quality": 100, "subsampling": 0} if kind == "jpg8" else {}))
    picture = read_image(path)
    tolerance = 0.03 if kind == "jpg8" else 1e-4
    np.testing.assert_allclose(picture.pixels.permute(1, 2, 0).numpy(), expected, atol=tolerance)
    assert image_size(path) == tuple(picture.pixels.shape[1:])


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (3, 4, 5), (1, 4, 5)])
def test_npy_layouts(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(1).random(shape)
    np.save(tmp_path / "a.npy", array)
    pixels = read_image(tmp_path / "a.npy").pixels
    assert pixels.shape == (3, 4, 5) and image_size(tmp_path / "a.npy") == (4, 5)
    assert float(pixels[0, 1, 2]) == pytest.approx(
        array.reshape(4, 5, -1)[1, 2, 0] if shape[0] == 4 else array[0, 1, 2]
    )


@pytest.mark.parametrize("peak, domain", [(1.0, "srgb"), (1.0001, "linear")])
def test_an_array_is_linear_where_a_value_exceeds_1(tmp_path: Path, peak: float, domain: str) -> None:
    np.save(tmp_path / "a.npy", np.array([[0.0, peak]], dtype=np.float32))
    assert read_image(tmp_path / "a.npy").domain == domain


def test_results_are_named_by_all_before_the_first_dot(tmp_path: Path) -> None:
    for name in ("a.rgbe.webp", "b.png"):
        (tmp_path / name).touch()
    assert list(files_by_stem([tmp_path], "restore")) == ["a", "b"]
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match="several images are called 'a': restore them into"):
        files_by_stem([tmp_path], "restore")


def test_one_pixel_is_an_image(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", torch.ones(3, 1, 1))
    assert read_image(tmp_path / "a.png").pixels.shape == (3, 1, 1)


def stored(path: Path) -> Path:
    """A whole file of the kind that the path's ending names."""
    noise = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    if path.suffix == ".npy":
        np.save(path, noise.astype(np.float32))
    elif path.suffix == ".hdr":
        cv2.imwrite(str(path), noise.astype(np.float32))
    elif path.stem == "deep":
        (tifffile.imwrite if path.suffix == ".tif" else cv2.imwrite)(str(path), noise.astype(np.uint16) * 257)
    else:
        Image.fromarray(noise).save(path)
    return path


NAMES = ["a.png", "a.jpg", "a.webp", "a.tif", "a.hdr", "a.npy", "deep.png", "deep.tif"]


@pytest.mark.parametrize("keep", [0, 7, 0.1, 0.5, 0.97])
@pytest.mark.parametrize("name", NAMES)
def test_cut_files_are_named(tmp_path: Path, name: str, keep: float) -> None:
    path = stored(tmp_path / name)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else int(keep)])
    with pytest.raises(UserError, match=name) as error:
        read_image(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [*NAMES, "a.rgbe.webp"])
def test_files_of_another_kind_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"<html>not found</html>" * 20)
    with pytest.raises(UserError, match=name):
        read_image(tmp_path / name)


BAD_ARRAYS = {
    "NaN": np.full((4, 4, 3), np.nan),
    "negative": np.full((4, 4, 3), -0.1),
    "shape": np.zeros((5, 6, 7)),
    "int64": np.zeros((4, 4, 3), dtype=np.int64),
    "object": np.array([[None]]),
}


@pytest.mark.parametrize("message", BAD_ARRAYS)
def test_unfit_arrays_are_named(tmp_path: Path, message: str) -> None:
    np.save(tmp_path / "bad.npy", BAD_ARRAYS[message], allow_pickle=True)
    with pytest.raises(UserError, match=f"bad.npy.*{'' if message == 'object' else message}"):
        read_image(tmp_path / "bad.npy")


@pytest.mark.parametrize("dtype, peak", [(np.float32, 1), (np.uint16, 65535)])
@pytest.mark.parametrize("shape", [(8, 9, 4), (4, 8, 9)])
def test_four_channels_of_deep_files_may_be_raw(tmp_path: Path, dtype: type, peak: int, shape: tuple) -> None:
    pixels = (np.random.default_rng(0).random(shape) * peak).astype(dtype)
    planar = "contig" if shape[-1] == 4 else "separate"
    files = {"a.tif": lambda path: tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig=planar)}
    if dtype == np.float32:
        files["a.npy"] = lambda path: np.save(path, pixels)
    for name, write in files.items():
        write(tmp_path / name)
        with pytest.raises(UserError, match=f"{name} has the shape .*: RAW data"):
            read_image(tmp_path / name)


def test_four_channels_of_an_exr_may_be_raw(tmp_path: Path) -> None:
    openexr = pytest.importorskip("OpenEXR")
    with openexr.File({"type": openexr.scanlineimage}, {"RGBA": np.ones((5, 6, 4), np.float32)}) as file:
        file.write(str(tmp_path / "a.exr"))
    with pytest.raises(UserError, match="RAW data"):
        read_image(tmp_path / "a.exr")


def test_infinity_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "bad.npy", np.full((2, 2, 3), np.inf))
    with pytest.raises(UserError, match="infinity"):
        read_image(tmp_path / "bad.npy")


def bomb(side: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


@pytest.mark.parametrize("side", [17_000, 60_000])
def test_decompression_bombs_are_refused(tmp_path: Path, side: int) -> None:
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    (tmp_path / "bomb.png").write_bytes(bomb(side) + chunk)
    with pytest.raises(UserError, match=r"bomb\.png.*pixels"):
        read_image(tmp_path / "bomb.png")


def test_a_huge_hdr_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "huge.hdr").write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 90000 +X 90000\n")
    with pytest.raises(UserError, match=r"huge\.hdr.*pixels"):
        read_image(tmp_path / "huge.hdr")


@pytest.mark.parametrize(("name", "message"), [("gone.png", "does not exist"), ("notes.txt", "ending")])
def test_missing_and_unknown_files(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=f"{name}.*{message}"):
        read_image(tmp_path / name)


def test_rgbe_without_exponents(tmp_path: Path) -> None:
    Image.fromarray(colours()).save(tmp_path / "a.rgbe.webp", lossless=True)
    with pytest.raises(UserError, match="exponents"):
        read_image(tmp_path / "a.rgbe.webp")


def test_write_refuses_other_endings_shapes_and_nan(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.jpg"):
        write_image(tmp_path / "a.jpg", torch.ones(3, 2, 2))
    for wrong in (torch.ones(1, 3, 2, 2), torch.full((3, 2, 2), float("nan"))):
        with pytest.raises(ValueError, match="finite"):
            write_image(tmp_path / "a.png", wrong)
    assert list(tmp_path.iterdir()) == []


def test_listing_is_sorted_and_skips_the_rest(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.npy", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.JPG", "b.png", "c.npy"]


def test_empty_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image"):
        list_images(tmp_path)
    with pytest.raises(UserError, match="not a folder"):
        list_images(tmp_path / "gone")


@pytest.mark.parametrize("shape", [(8, 9, 4), (4, 8, 9)])
def test_four_channels_may_be_raw_and_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.full(shape, 0.5, np.float32))
    for read in (read_image, image_size):
        with pytest.raises(UserError, match="RAW data"):
            read(tmp_path / "a.npy")

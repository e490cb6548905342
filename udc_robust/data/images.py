"""Reading and writing single images: 8 and 16 bit files, radiance files and arrays.

Every broken or unfit file raises a UserError that names it. Decoders are chosen so that a truncated file is an error:
Pillow for 8 bits, OpenCV for 16 bit PNG (which Pillow would silently cut to 8), tifffile for deep TIFF.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from udc_robust.errors import UserError
from udc_robust.files import atomic_path
from udc_robust.optics.radiance_file import radiance_size, read_radiance

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".hdr", ".exr", ".npy")
"""File endings that `read_image` understands; ``.rgbe.webp`` is one of ``.webp``."""

_MAX_PIXELS = 2**28  # 16384 x 16384: larger than any camera, and 3 GB as float32


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        pixels: float32 RGB (3,H,W).
        domain: "srgb" in [0,1], or "linear" radiance from 0 up.
        bits: of a channel in the file: 8, 16 or 32.
    """

    pixels: Tensor
    domain: str
    bits: int


def read_image(path: Path | str) -> Picture:
    """Read PNG, JPEG, WebP, TIFF, .hdr, .exr, ``.rgbe.webp`` or .npy.

    Integer files are sRGB; ``.hdr``, ``.exr``, float TIFF and ``.rgbe.webp`` are linear. The last holds RGB mantissas
    and their common exponent in A, as Radiance files do: ``rgb * 2**(A - 136)``. A .npy, (H,W), (H,W,C) or (C,H,W) of
    one or three channels, is linear where a value exceeds 1. Grey becomes three equal channels, alpha of PNG, WebP and
    8 bit TIFF is dropped (other files of four channels may be RAW), the EXIF orientation is applied, and of several
    frames the first counts.

    Raises:
        UserError: naming the file and the fix, when it is missing, empty, cut short, of another kind, too large, or
            holds negative or non-finite values.
    """
    path = Path(path)
    height, width = image_size(path)
    if height * width > _MAX_PIXELS:
        raise UserError(f"{path} states {height}x{width} pixels, more than {_MAX_PIXELS}; crop or shrink it")
    try:
        array, domain, bits = _decode(path)
    except UserError:
        raise
    except Exception as error:  # decoders answer damaged files with almost any type
        raise UserError(
            f"{path} cannot be decoded ({_one_line(error)}): it is cut short or damaged; copy or export it again"
        ) from error
    return Picture(_to_tensor(array, path, domain), domain, bits)


def image_size(path: Path | str) -> tuple[int, int]:
    """Return (height, width) after the EXIF orientation, from the file's header only.

    Raises:
        UserError: as `read_image`, for what the header shows.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path} has the unknown ending {suffix!r}; convert it to one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"image {path} does not exist; check the path")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes); copy or export it again")
    if suffix in (".hdr", ".exr"):
        return radiance_size(path)
    try:
        if suffix == ".npy":
            return _npy_layout(np.load(path, mmap_mode="r", allow_pickle=False).shape, path)[1]
        if suffix in (".tif", ".tiff"):
            with _tiff_page(path) as page:
                height, width, orientation = page.imagelength, page.imagewidth, _tiff_orientation(page)
        else:
            with _open(path) as image:
                (width, height), orientation = image.size, _orientation(image)
    except UserError:
        raise
    except Exception as error:  # decoders answer damaged files with almost any type
        raise UserError(f"{path} is no image of its kind ({_one_line(error)}); copy or export it again") from error
    return (width, height) if orientation >= 5 else (height, width)


def write_image(path: Path | str, pixels: Tensor, bits: int = 8) -> None:
    """Write (3,H,W), whole or not at all: as PNG, clipped to [0,1] and rounded, or as float32 .npy (H,W,C) of any C.

    Args:
        bits: of a channel of a PNG, 8 or 16.

    Raises:
        UserError: on another ending, and when the disk refuses.
        ValueError: on another shape or non-finite values.
    """
    path = Path(path)
    if pixels.ndim != 3 or (path.suffix.lower() != ".npy" and len(pixels) != 3) or not torch.isfinite(pixels).all():
        raise ValueError(f"need finite pixels (3,H,W), got {tuple(pixels.shape)}")
    array = pixels.detach().cpu().float().permute(1, 2, 0).contiguous()
    if path.suffix.lower() == ".npy":
        with atomic_path(path) as temporary:
            np.save(temporary, array.numpy())
    elif path.suffix.lower() == ".png" and bits == 16:  # which Pillow does not write
        import cv2

        with atomic_path(path) as temporary:
            sixteen = (array.clamp(0, 1).double() * 65535).round().numpy().astype(np.uint16)
            if not cv2.imwrite(str(temporary), sixteen[..., ::-1]):
                raise OSError(f"OpenCV could not write {temporary}")
    elif path.suffix.lower() == ".png":
        from PIL import Image

        with atomic_path(path) as temporary:
            Image.fromarray((array.clamp(0, 1) * 255).round().to(torch.uint8).numpy()).save(temporary, compress_level=2)
    else:
        raise UserError(f"cannot write {path}: name it .png or .npy")


def list_images(folder: Path | str) -> list[Path]:
    """Return the images of a folder sorted by name; hidden files, other endings and subfolders are left out.

    Raises:
        UserError: when the folder is missing or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give a folder of images")
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    if not found:
        raise UserError(f"{folder} holds no image; put files with the endings {', '.join(SUFFIXES)} there")
    return sorted(found)


def _decode(path: Path) -> tuple[np.ndarray, str, int]:
    """Pixels (H,W) or (H,W,C) in the range of the domain, the domain and the bits."""
    suffix = path.suffix.lower()
    if suffix in (".hdr", ".exr"):
        return read_radiance(path), "linear", 32
    if suffix == ".npy":
        return _read_npy(path)
    if suffix in (".tif", ".tiff"):
        with _tiff_page(path) as page:
            if page.bitspersample != 8:
                return _deep(_upright(page.asarray(), _tiff_orientation(page)), path)
    content = path.read_bytes()
    if content[:8] == b"\x89PNG\r\n\x1a\n" and content[24:25] == b"\x10":
        return _deep(_read_png16(content), path)
    with _open(path) as image:
        turned = _turned(image)
        if path.name.lower().endswith(".rgbe.webp"):
            if image.mode != "RGBA":
                raise UserError(f"{path} has no exponents (alpha channel); save RGBE as RGBA, or rename it to .webp")
            return _from_rgbe(np.asarray(turned)), "linear", 32
        return np.asarray(turned.convert("RGB"), dtype=np.float32) / 255, "srgb", 8


def _open(path: Path) -> Any:
    from PIL import Image

    # Sizes are judged by us, from the header, with a message that names the file.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            return Image.open(path)
        except Image.DecompressionBombError as error:
            raise UserError(f"{path} states too many pixels to be opened safely; crop or shrink it") from error


def _orientation(image: Any) -> int:
    # Pillow would decode a whole PNG to look for EXIF behind the pixels.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    value = image.getexif().get(274, 1)
    return value if value in range(1, 9) else 1


def _turned(image: Any) -> Any:
    from PIL import ImageOps

    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation (1 to 8) of an array (H,W) or (H,W,C)."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


@contextlib.contextmanager
def _tiff_page(path: Path) -> Iterator[Any]:
    import tifffile

    with tifffile.TiffFile(path) as file:
        yield file.pages[0]


def _tiff_orientation(page: Any) -> int:
    tag = page.tags.get(274)
    return int(tag.value) if tag is not None and tag.value in range(1, 9) else 1


def _read_png16(content: bytes) -> np.ndarray:
    import cv2
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        orientation = _orientation(image)
        image.load()  # raises where the file is cut short, which OpenCV may not tell
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    array = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if array is None:
        raise ValueError("not a 16 bit PNG")
    return _upright(np.asarray(array)[..., ::-1], orientation)


def _deep(array: np.ndarray, path: Path) -> tuple[np.ndarray, str, int]:
    if array.dtype == np.uint16:
        return array.astype(np.float32) / 65535, "srgb", 16
    if array.dtype.kind == "f":
        return array.astype(np.float32), "linear", 32
    raise UserError(f"{path} holds {array.dtype} values; save 8 bit, 16 bit or float")


def _from_rgbe(rgbe: np.ndarray) -> np.ndarray:
    exponent = rgbe[..., 3:].astype(np.int32)
    scale = np.where(exponent > 0, np.exp2((exponent - 136).astype(np.float32)), 0)
    return (rgbe[..., :3] * scale).astype(np.float32)


def _npy_layout(shape: tuple[int, ...], path: Path) -> tuple[int | None, tuple[int, int]]:
    """Channel axis (None for grey) and (height, width) of an array's shape."""
    if math.prod(shape) > 0:
        if len(shape) == 2:
            return None, (shape[0], shape[1])
        if len(shape) == 3 and shape[2] in (1, 3):
            return 2, (shape[0], shape[1])
        if len(shape) == 3 and shape[0] in (1, 3):
            return 0, (shape[1], shape[2])
    raise _unfit(shape, path)


def _unfit(shape: tuple[int, ...], path: Path) -> UserError:
    if len(shape) == 3 and 4 in (shape[0], shape[2]):
        return UserError(f"{path} has the shape {shape}: RAW data is read by `kind: raw` of a config; else save RGB")
    return UserError(f"{path} has the shape {shape}; save grey (H,W) or RGB (H,W,3)")


def _read_npy(path: Path) -> tuple[np.ndarray, str, int]:
    array = np.load(path, allow_pickle=False)
    axis, _ = _npy_layout(array.shape, path)
    if array.dtype.kind != "f":
        raise UserError(f"{path} holds {array.dtype} values; save floats, sRGB in [0,1] or linear radiance")
    if axis is not None:
        array = np.moveaxis(array, axis, -1)
    with np.errstate(invalid="ignore"):
        return array.astype(np.float32), "linear" if array.max() > 1 else "srgb", 32


def _to_tensor(array: np.ndarray, path: Path, domain: str) -> Tensor:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 2, 3):
        raise _unfit(array.shape, path)
    colour = array[..., :3] if array.shape[-1] >= 3 else array[..., :1].repeat(3, axis=-1)
    if not np.isfinite(colour).all():
        raise UserError(f"{path} holds NaN or infinity; replace them, e.g. with numpy.nan_to_num")
    if colour.min() < 0:
        raise UserError(f"{path} holds negative values; clip it at 0")
    return torch.from_numpy(np.ascontiguousarray(colour.transpose(2, 0, 1), dtype=np.float32))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

"""Reading floating-point images in the formats of the high-dynamic-range world: OpenEXR and Radiance."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np

from udc_robust.errors import UserError


def read_radiance(path: Path | str) -> np.ndarray:
    """Return the pixels (H,W) or (H,W,C) of an .exr or .hdr file, RGB order, float32, as stored.

    Raises:
        UserError: when the file cannot be decoded, or OpenEXR is missing.
    """
    path = Path(path)
    image = _read_exr(path) if path.suffix.lower() == ".exr" else _read_hdr(path)
    if image is None or image.size == 0:
        raise UserError(f"{path} cannot be decoded: it is cut short or not an image; copy or export it again")
    return np.asarray(image, dtype=np.float32)


def radiance_size(path: Path | str) -> tuple[int, int]:
    """Return (height, width) of an .exr or .hdr file from its header.

    Raises:
        UserError: when there is no such header, or OpenEXR is missing.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".exr":
            with _openexr(path).File(str(path), header_only=True) as file:
                (left, top), (right, bottom) = file.header()["dataWindow"]
            return int(bottom - top + 1), int(right - left + 1)
        with open(path, "rb") as handle:
            # The resolution line "-Y height +X width" follows the first empty line (Radiance reference manual).
            head = handle.read(4096).split(b"\n\n", 1)[1].split(b"\n", 1)[0].split()
        size = {axis[-1:]: int(length) for axis, length in zip(head[::2], head[1::2], strict=True)}
        return size[b"Y"], size[b"X"]
    except (RuntimeError, OSError, LookupError, ValueError) as error:
        raise UserError(f"{path} has no readable image header; copy or export it again") from error


def _openexr(path: Path) -> ModuleType:
    # OpenCV 5 no longer reads OpenEXR, so the format's own package does.
    try:
        import OpenEXR
    except ImportError as error:
        raise UserError(
            f"{path} needs the OpenEXR package: pip install OpenEXR, or convert it to .hdr or .npy"
        ) from error
    return OpenEXR


def _read_exr(path: Path) -> np.ndarray | None:
    openexr = _openexr(path)
    try:
        with openexr.File(str(path)) as file:
            pixels = {name: channel.pixels for name, channel in file.channels().items()}
    except (RuntimeError, OSError, ValueError):
        return None
    for name in ("RGB", "RGBA", "Y"):
        if name in pixels:
            return pixels[name]
    raise UserError(f"{path} has the channels {sorted(pixels)}; export it with R, G, B or Y")


def _read_hdr(path: Path) -> np.ndarray | None:
    import cv2

    # Decoding bytes instead of a path works for every file name on every system.
    content = np.fromfile(path, dtype=np.uint8)
    try:
        image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    except cv2.error:
        return None
    return None if image is None else image[..., ::-1] if image.ndim == 3 else image

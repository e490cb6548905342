"""RAW captures: the four planes of a Bayer sensor, as UDC-SIT keeps them, and a simple way to a picture.

UDC-SIT (Ahn et al., NeurIPS 2023 datasets) holds pairs in the folders ``input`` and ``GT``: arrays (H,W,4) of 10 bits,
whose planes are GR, R, B, GB, the four pixels of a Bayer cell. A DNG is read through rawpy, where that is installed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from udc_robust.data.samples import Sample, keyed
from udc_robust.errors import UserError
from udc_robust.optics.domains import RAW_PLANES, developed

SUFFIXES = (".npy", ".dng")
_ALIKE = 0.5  # the two greens of a cell see the same light: no other two planes are twice as near each other
_NOTABLE = 0.02  # of the mean: nearer planes tell nothing about a pattern


@dataclass(frozen=True)
class Sensor:
    """How the numbers of files are read.

    Attributes:
        bits: of a value: full scale is ``2**bits - 1``. Of a DNG the file knows it.
        pattern: the colours of the planes, in their order in the files.
        white_balance: gains of red, green and blue when planes are developed.
    """

    bits: int = 10
    pattern: tuple[str, ...] = RAW_PLANES
    white_balance: tuple[float, float, float] = (2.0, 1.0, 1.7)

    def planes(self, path: Path) -> Tensor:
        """The planes GR, R, B, GB ``(4,H,W)`` of a file, as shares of full scale.

        Raises:
            UserError: naming the file and the fix, where it is no RAW of this pattern and these bits.
        """
        if path.suffix.lower() == ".dng":
            return _dng(path)
        array = _loaded(path)
        _check_bits(array, self.bits, path)
        order = [self.pattern.index(name) for name in RAW_PLANES]
        planes = torch.from_numpy(np.ascontiguousarray(array[..., order].transpose(2, 0, 1), dtype=np.float32))
        return planes / (2**self.bits - 1)


class RawCaptures(Sequence[Sample]):
    """RAW captures with or without ground truths, as planes (domain ``raw``) or developed (``srgb``)."""

    def __init__(self, lq: Path, gt: Path | None, sensor: Sensor, develop: bool) -> None:
        """List the files and look at the first.

        Args:
            lq: folder of captures, a file, or a folder with ``input`` (and ``GT``) in it, as UDC-SIT's splits are.
            develop: make sRGB pictures of half the sensor's size, see `developed`.

        Raises:
            UserError: missing folders or partners, pairs of different sizes, files of another pattern or bit depth.
        """
        if lq.is_dir() and (lq / "input").is_dir():
            lq, gt = lq / "input", gt or ((lq / "GT") if (lq / "GT").is_dir() else None)
        self._files, self._sensor, self._develop = keyed(_listed(lq)), sensor, develop
        self._truths = None if gt is None else dict(_partners(self._files, gt))
        self._sizes = [_size(path) for path in self._files.values()]
        for path, truth, size in self._pairs():
            if truth is not None and _size(truth) != size:
                sizes = [f"{height}x{width}" for height, width in (size, _size(truth))]
                raise UserError(f"{path} is {sizes[0]} but {truth} is {sizes[1]}; pairs need equal sizes")
        first = next(iter(self._files.values()))
        _check_pattern(sensor.planes(first), sensor.pattern, first)

    def _pairs(self) -> Iterator[tuple[Path, Path | None, tuple[int, int]]]:
        for (key, path), size in zip(self._files.items(), self._sizes, strict=True):
            yield path, None if self._truths is None else self._truths[key], size

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        key = self.keys()[index]
        path, truth = self._files[key], None if self._truths is None else self._truths[key]
        lq, gt = (None if file is None else self._picture(file) for file in (path, truth))
        assert lq is not None
        return Sample(key, lq, gt, "srgb" if self._develop else "raw", str(path))

    def _picture(self, path: Path) -> Tensor:
        planes = self._sensor.planes(path)
        return developed(planes, self._sensor.white_balance) if self._develop else planes

    def scenes(self) -> list[str]:
        """Each capture is a scene of its own."""
        return self.keys()

    def keys(self) -> list[str]:
        """Return the file stems."""
        return list(self._files)

    def sizes(self) -> list[tuple[int, int]]:
        """Return (height, width) of the planes of every capture."""
        return list(self._sizes)

    def files(self) -> list[Path]:
        """Return the files of all captures and their truths."""
        return [*self._files.values(), *(self._truths or {}).values()]

    @property
    def domain_told(self) -> str:
        """What was understood of the files."""
        planes = f"RAW planes {', '.join(self._sensor.pattern)} of {self._sensor.bits} bits"
        if not self._develop:
            return f"domain raw: {planes}, as shares of full scale; budgets too"
        gains = ", ".join(f"{gain:g}" for gain in self._sensor.white_balance)
        return f"domain srgb: {planes}, greens averaged, white balance {gains}, sRGB curve, half the sensor's size"


def _listed(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give a folder of RAW captures")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    if not found:
        raise UserError(f"{folder} holds no RAW capture; put files with the endings {', '.join(SUFFIXES)} there")
    return sorted(found, key=lambda path: (len(path.stem), path.stem))  # 2 before 10


def _partners(files: dict[str, Path], gt: Path) -> Iterator[tuple[str, Path]]:
    truths = {path.stem: path for path in _listed(gt)}
    for key, path in files.items():
        if path.stem not in truths:
            raise UserError(f"{path} has no ground truth {gt / path.stem}.*; add it or remove the capture")
        yield key, truths[path.stem]


def _size(path: Path) -> tuple[int, int]:
    if path.suffix.lower() == ".dng":
        with _opened_dng(path) as raw:
            height, width = raw.raw_image_visible.shape
        return height // 2, width // 2
    height, width = _shape(path)[:2]
    return height, width


def _shape(path: Path) -> tuple[int, ...]:
    """The shape of an array, from its header.

    Raises:
        UserError: it is no array (H,W,4).
    """
    try:
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except (ValueError, OSError, EOFError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{path} is no array that can be read ({reason}); copy or export it again") from error
    if len(shape) != 3 or shape[2] != 4 or not math.prod(shape):
        raise UserError(f"{path} has the shape {shape}: RAW captures are planes (H,W,4); pictures are of another kind")
    return tuple(shape)


def _loaded(path: Path) -> np.ndarray:
    _shape(path)
    return np.load(path, allow_pickle=False)


def _check_bits(array: np.ndarray, bits: int, path: Path) -> None:
    """Refuse numbers that are none of a sensor of so many bits."""
    if array.dtype.kind not in "uif" or not np.isfinite(array).all() or array.min() < 0:
        raise UserError(f"{path} holds {array.dtype} values that no sensor gives: save whole numbers from 0 up")
    highest = float(array.max())
    if highest > 2**bits - 1:
        enough = math.ceil(math.log2(highest + 1))
        raise UserError(f"{path} holds {highest:g}, more than {bits} bits: set `bits` of the data, {enough} or more")
    if array.dtype.kind == "f" and 0 < highest <= 1:
        raise UserError(f"{path} holds shares of full scale up to {highest:g}: save the sensor's own whole numbers")


def _check_pattern(planes: Tensor, pattern: Sequence[str], path: Path) -> None:
    """Refuse planes of which two others than GR and GB are the two greens, which see nearly the same light."""
    grey = planes.mean()
    apart = {
        (one, other): float((planes[i] - planes[j]).abs().mean() / grey.clamp_min(1e-6))
        for i, one in enumerate(RAW_PLANES) for j, other in enumerate(RAW_PLANES) if i < j
    }  # fmt: skip
    nearest = min(apart, key=lambda pair: apart[pair])
    greens = apart["GR", "GB"]
    if nearest != ("GR", "GB") and greens > _NOTABLE and apart[nearest] < _ALIKE * greens:
        raise UserError(
            f"{path}: {nearest[0]} and {nearest[1]} are alike as two greens are, and GR and GB are not: "
            f"set `pattern` of the data to the order of its planes (it is [{', '.join(pattern)}])"
        )


def _opened_dng(path: Path):  # type: ignore[no-untyped-def]
    try:
        import rawpy
    except ImportError as error:
        raise UserError(f"{path} needs rawpy: pip install 'udc_robust[raw]', or save its planes as .npy") from error
    try:
        return rawpy.imread(str(path))
    except Exception as error:  # LibRaw's own types
        raise UserError(f"{path} cannot be decoded ({' '.join(str(error).split())[:100]}): export it again") from error


def _dng(path: Path) -> Tensor:
    """The planes GR, R, B, GB of a Bayer DNG, black at 0 and white at 1.

    Raises:
        UserError: another filter array than Bayer's.
    """
    with _opened_dng(path) as raw:
        names, cell = raw.color_desc.decode(), np.asarray(raw.raw_pattern)
        if cell.shape != (2, 2) or sorted(names[i] for i in cell.flat) != ["B", "G", "G", "R"]:
            raise UserError(f"{path} has no Bayer pattern of red, green and blue: develop it, and give pictures")
        sensor = raw.raw_image_visible.astype(np.float32)
        black = np.asarray(raw.black_level_per_channel, dtype=np.float32)
        height, width = (length // 2 * 2 for length in sensor.shape)
        found = {}
        red_row = next(row for row in range(2) if "R" in (names[i] for i in cell[row]))
        for row in range(2):
            for column in range(2):
                index = cell[row, column]
                name = names[index] if names[index] != "G" else ("GR" if row == red_row else "GB")
                found[name] = (sensor[row:height:2, column:width:2] - black[index]) / (raw.white_level - black[index])
    return torch.from_numpy(np.stack([found[name] for name in RAW_PLANES])).clamp(0, 1)

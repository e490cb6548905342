"""Point spread functions of a camera behind a display, by scalar wave optics, and those measured by others.

Fraunhofer diffraction (Goodman, Introduction to Fourier Optics, section 5.2): a distant point's image is the squared
modulus of the Fourier transform of pupil times display, stretched in proportion to the wavelength.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from udc_robust.errors import UserError, unknown_name
from udc_robust.optics.layout import Display, Layout, phone_edges, poled_edges, toled_edges

# Wavelengths (micrometres) at which the red, green and blue filters are sampled, with equal weight.
CHANNEL_WAVELENGTHS = (
    (0.580, 0.595, 0.610, 0.625, 0.640),
    (0.510, 0.525, 0.540, 0.555, 0.570),
    (0.440, 0.452, 0.464, 0.476, 0.488),
)


@dataclass(frozen=True)
class Camera:
    """The camera behind the display. Lengths in micrometres.

    A pixel of 1.6 belongs to images 800 px wide; the same field of view on 256 px has pixels of 5.0.
    """

    focal_length: float = 4000.0
    aperture: float = 2000.0
    pixel: float = 5.0
    defocus: float = 0.0
    """Path error at the rim of the pupil: it widens the core."""

    @classmethod
    def for_field(cls, field: int, *, defocus: float = 0.0) -> Camera:
        """Return the camera whose images show one and the same field of view on ``field`` pixels."""
        return cls(pixel=1.6 * 800 / field, defocus=defocus)


def simulate_psf(layout: Layout, size: int, camera: Camera | None = None) -> Tensor:
    """Return the PSF (3,size,size) of a display in front of a camera, float32, each channel summing to 1.

    Args:
        layout: the display over the pupil; what lies outside its array is opaque.
        size: odd side in sensor pixels. Light that falls outside is lost, and the rest is rescaled to 1.
        camera: by default one with pixels for images of 256 px.

    Raises:
        UserError: on an even or non-positive size.
    """
    _check_size(size)
    camera = camera or Camera()
    channels = [
        sum(_intensity(layout, size, camera, wavelength) for wavelength in wavelengths)
        for wavelengths in CHANNEL_WAVELENGTHS
    ]
    return _normalised(torch.stack([torch.as_tensor(channel) for channel in channels]))


def encircled_energy(psf: Tensor, radii: Sequence[float]) -> Tensor:
    """Return the energy (C,len(radii)) in pixels whose centres lie within each radius (pixels) of the central one."""
    offset = torch.arange(psf.shape[-1], device=psf.device) - psf.shape[-1] // 2
    distance = torch.hypot(offset[:, None].double(), offset[None].double())
    within = torch.stack([distance <= radius for radius in radii])
    return torch.einsum("cij,rij->cr", psf.double(), within.double()).to(psf.dtype)


_NAMED: dict[str, Display] = {
    "toled": Display(toled_edges),
    "poled": Display(poled_edges),
    "phone": Display(phone_edges(), defocus=0.456),
    # The training family: the same kind of display turned, finer or coarser, and with less open area.
    "phone_turned": Display(phone_edges(), angle=12, defocus=0.456),
    "phone_counterturned": Display(phone_edges(), angle=-12, defocus=0.456),
    "phone_fine": Display(phone_edges(), scale=0.8, defocus=0.456),
    "phone_coarse": Display(phone_edges(), scale=1.3, defocus=0.456),
    "phone_dense": Display(phone_edges(1.2), defocus=0.456),
    "phone_harsh": Display(phone_edges(1.35), scale=1.3, defocus=0.55),
}


def named_display(name: str) -> Display | None:
    """The display behind a simulated PSF, or None: a measured one does not tell its display."""
    return _NAMED.get(name)


def psf_names() -> list[str]:
    """Return the names that `named_psf` knows."""
    return list(_NAMED)


@cache
def _simulated(name: str, size: int, field: int) -> Tensor:
    display = _NAMED[name]
    return simulate_psf(display.layout, size, Camera.for_field(field, defocus=display.defocus))


def named_psf(name: str, size: int = 129, field: int = 256) -> Tensor:
    """Return a simulated PSF (3,size,size) by its name.

    Args:
        name: one of `psf_names`.
        size: odd side of the PSF in pixels; 129 for ``field=256`` and 401 for ``field=800`` reach equally far.
        field: pixels across the camera's field of view, 256 or 800 in the literature's geometry. Crops keep the field
            of the image that they were cut from.

    Raises:
        UserError: on an unknown name or an even size.
    """
    if name not in _NAMED:
        raise unknown_name("PSF", name, _NAMED)
    _check_size(size)
    return _simulated(name, size, field).clone()


def read_psf(path: Path | str, key: str | None = None) -> Tensor:
    """Read a measured PSF (3,k,k), float32, each channel summing to 1.

    Layouts (k,k), (k,k,1), (k,k,3), (1,k,k) and (3,k,k) are understood; a grey PSF serves all three channels. An even
    side, like the 800 px of the ZTE Axon 20 files, loses its first row and column: the origin of an even FFT grid is
    pixel k/2, which then is the centre. Nothing is ever unpickled.

    Args:
        path: .npy, .npz, .mat or .exr. ``file.npz:name`` picks an array of an .npz or .mat file.
        key: the same choice as an argument; without one the array "psf", or the only one there is.

    Raises:
        UserError: when the file is missing or unreadable, not square, not finite, negative or all zero.
    """
    text, _, tail = str(path).rpartition(":")
    if key is None and text.endswith((".npz", ".mat")):
        path, key = text, tail
    path = Path(path)
    if not path.is_file():
        raise UserError(f"PSF {path} does not exist; give a file, or one of {', '.join(psf_names())}")
    try:
        array = _load(path, key)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"PSF {path} cannot be read ({error}); save it again, e.g. with numpy.save and no objects"
        ) from error
    return psf_of(array, path)


def _intensity(layout: Layout, size: int, camera: Camera, wavelength: float) -> np.ndarray:
    """Energy (size,size) of one wavelength in the sensor's pixels."""
    radius_squared = pupil_radius(layout.transmission.shape[0], layout.pitch, camera)
    phase = 2 * np.pi * camera.defocus / wavelength * radius_squared
    field = layout.transmission * (radius_squared <= 1) * np.exp(1j * phase)
    return diffracted(torch.from_numpy(field.astype(np.complex64)), layout.pitch, size, camera, wavelength).numpy()


def pupil_radius(count: int, pitch: float, camera: Camera) -> np.ndarray:
    """The square of the distance (count,count) from the middle of the pupil, 1 at its rim."""
    axis = (np.arange(count) - (count - 1) / 2) * pitch / (camera.aperture / 2)
    return axis[:, None] ** 2 + axis[None] ** 2


def diffracted(
    field: Tensor, pitch: float, size: int, camera: Camera, wavelength: float, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Energy (size,size) in the sensor's pixels of a field (n,n), complex64, in the pupil; differentiable."""
    samples = 2 * field.shape[0]  # twice the pupil's width: the intensity has twice the field's bandwidth
    spectrum = torch.fft.fftshift(torch.fft.fft2(field, s=(samples, samples)))
    step = wavelength * camera.focal_length / (samples * pitch)
    overlap = torch.from_numpy(_pixel_overlap(samples, step, size, camera.pixel)).to(dtype)
    return overlap @ spectrum.abs().square().to(dtype) @ overlap.T


def _pixel_overlap(samples: int, step: float, size: int, pixel: float) -> np.ndarray:
    """Share (size,samples) of every sample of width ``step`` that falls into each pixel: binning without loss."""
    centres = (np.arange(samples) - samples // 2) * step
    edges = (np.arange(size + 1) - size / 2) * pixel
    right = np.minimum(edges[1:, None], centres + step / 2)
    left = np.maximum(edges[:-1, None], centres - step / 2)
    return np.clip(right - left, 0, None) / step


def _normalised(psf: Tensor) -> Tensor:
    return (psf.double() / psf.double().sum(dim=(1, 2), keepdim=True)).float()


def _check_size(size: int) -> None:
    if size < 1 or size % 2 == 0:
        raise UserError(f"the size of a PSF must be odd and positive, got {size}; try {max(size, 0) + 1}")


def _load(path: Path, key: str | None) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[_pick(path, key, arrays.files)]
    if suffix == ".mat":
        from scipy.io import loadmat

        content = loadmat(path)
        return content[_pick(path, key, [name for name in content if not name.startswith("__")])]
    if suffix == ".exr":
        from udc_robust.optics.radiance_file import read_radiance

        return read_radiance(path)
    raise UserError(f"PSF {path} has the unknown ending {suffix!r}; give .npy, .npz, .mat, .exr, .png or .tif")


def array_shapes(path: Path | str) -> dict[str, tuple[int, ...]]:
    """The arrays of an .npz or .mat file by name, the one that is taken first; none for other files."""
    text, _, tail = str(path).rpartition(":")
    path, key = (Path(text), tail) if text.endswith((".npz", ".mat")) else (Path(path), "psf")
    shapes: dict[str, tuple[int, ...]] = {}
    if path.suffix.lower() == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            shapes = {name: arrays[name].shape for name in arrays.files}
    elif path.suffix.lower() == ".mat":
        from scipy.io import whosmat

        shapes = {name: tuple(shape) for name, shape, _ in whosmat(path)}
    return dict(sorted(shapes.items(), key=lambda item: item[0] != key))


def _pick(path: Path, key: str | None, names: list[str]) -> str:
    if key is None:
        key = "psf" if "psf" in names or len(names) != 1 else names[0]
    if key not in names:
        raise UserError(f"{path} has no array {key!r}: choose one of {names}, as in {path.name}:{(names or ['?'])[0]}")
    return key


def psf_of(array: np.ndarray, path: Path) -> Tensor:
    """A PSF (3,k,k), float32, each channel summing to 1, of an array in any layout that `read_psf` understands.

    Raises:
        UserError: not square, not finite, negative or all zero; it names ``path``.
    """
    if array.dtype.kind not in "fiub":
        raise UserError(f"PSF {path} holds {array.dtype} values; save real numbers")
    if array.ndim == 2:
        array = array[None]
    elif array.ndim == 3 and array.shape[-1] in (1, 3):
        array = np.moveaxis(array, -1, 0)
    if array.size == 0 or array.ndim != 3 or array.shape[0] not in (1, 3) or array.shape[1] != array.shape[2]:
        raise UserError(f"PSF {path} has the shape {array.shape}; save a square (k,k), (k,k,3) or (3,k,k) array")
    if not np.isfinite(array).all():
        raise UserError(f"PSF {path} holds NaN or infinity; replace them, e.g. with numpy.nan_to_num")
    if array.min() < 0:
        raise UserError(f"PSF {path} holds negative values; subtract the dark level and clip it at 0")
    if array.shape[1] % 2 == 0:
        array = array[:, 1:, 1:]
    peaks = array.max(axis=(1, 2), keepdims=True, initial=0).astype(np.float64)
    if (peaks <= 0).any():
        raise UserError(f"PSF {path} has a channel without light; save one with a positive sum in every channel")
    psf = _normalised(torch.from_numpy(array / peaks))  # of values near the largest that there are a sum would overflow
    return psf.repeat(3, 1, 1) if len(psf) == 1 else psf

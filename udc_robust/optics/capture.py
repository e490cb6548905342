"""What the sensor behind the display records: blur by the display, noise, clipping and the tone map.

The conventions are those of DISCNet (Feng et al., CVPR 2021): linear radiance in [0, 500], one convolution a channel,
tone map ``x / (x + 0.25)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Edge = Literal["replicate", "zero"]

MAX_RADIANCE = 500.0
TONE_KNEE = 0.25

# Highlights of DDRNet's pseudo-HDR recipe: box sides below the limit (pixels) get the gain.
_HIGHLIGHT_GAINS = ((36, 100.0), (64, 64.0))
_LARGE_HIGHLIGHT_GAIN = 8.0


def tone_map(linear: Tensor) -> Tensor:
    """Map radiance in [0, 500] to [0, 1) by ``x / (x + 0.25)``."""
    return linear / (linear + TONE_KNEE)


def inverse_tone_map(toned: Tensor) -> Tensor:
    """Map tone-mapped values in [0, 1] back to radiance; whatever exceeds the map's image of 500 becomes 500."""
    highest = MAX_RADIANCE / (MAX_RADIANCE + TONE_KNEE)
    held = toned.clamp(max=highest)
    return (TONE_KNEE * held / (1 - held)).clamp(max=MAX_RADIANCE)


def convolve(linear: Tensor, psf: Tensor, *, edge: Edge = "replicate") -> Tensor:
    """Convolve every channel with its PSF by FFT and keep the size.

    Args:
        linear: radiance (B,3,H,W).
        psf: (3,k,k) with odd k; the centre pixel is the origin. It may be larger than the image.
        edge: what lies beyond the border: the nearest pixel ("replicate") or darkness ("zero", as DISCNet does).

    Returns:
        Radiance (B,3,H,W), differentiable. Rounding of the FFT can leave values a little below zero.

    Raises:
        ValueError: on other shapes, an even k or another edge.
    """
    if linear.ndim != 4 or psf.ndim != 3 or linear.shape[1] != psf.shape[0]:
        raise ValueError(f"need (B,C,H,W) and (C,k,k), got {tuple(linear.shape)} and {tuple(psf.shape)}")
    if psf.shape[1] != psf.shape[2] or psf.shape[1] % 2 == 0:
        raise ValueError(f"the PSF must be square with an odd side, got {tuple(psf.shape)}")
    if edge not in ("replicate", "zero"):
        raise ValueError(f"edge must be 'replicate' or 'zero', got {edge!r}")

    return Blur(psf, edge)(linear)


class Blur:
    """A display's blur of many scenes: like `convolve`, and the PSF's spectrum is computed once for each size."""

    def __init__(self, psf: Tensor, edge: Edge = "replicate") -> None:
        self.psf, self.edge = psf, edge
        self._spectra: dict[tuple[int, int, torch.dtype, torch.device], Tensor] = {}

    def __call__(self, linear: Tensor) -> Tensor:
        """The radiance (B,C,H,W) behind the display, differentiable: two Fourier transforms, and two back."""
        radius = self.psf.shape[-1] // 2
        height, width = linear.shape[-2:]
        padded = functional.pad(linear, [radius] * 4, mode="replicate" if self.edge == "replicate" else "constant")
        # The circular wrap of the FFT only reaches the padding, which is cropped.
        grid = (_fast_length(padded.shape[-2]), _fast_length(padded.shape[-1]))
        blurred = torch.fft.irfft2(torch.fft.rfft2(padded, s=grid) * self._spectrum(grid, linear), s=grid)
        first = 2 * radius  # the padding, and the kernel's origin in its corner instead of its centre
        return blurred[..., first : first + height, first : first + width]

    def _spectrum(self, grid: tuple[int, int], like: Tensor) -> Tensor:
        key = (*grid, like.dtype, like.device)
        if key not in self._spectra:
            self._spectra[key] = torch.fft.rfft2(self.psf.to(like), s=grid)
        return self._spectra[key]


def recorded(light: Tensor, normal: Tensor | None, shot: float, read: float) -> Tensor:
    """What a sensor records of the light (B,C,H,W) that reaches it: noisy, in [0,500]; differentiable.

    Args:
        normal: standard normal numbers of that shape; None: without noise.
        shot, read: see `capture`.
    """
    if normal is None:
        return light.clamp(max=MAX_RADIANCE)
    # sqrt has an infinite slope at 0; the floor keeps the gradient finite in black pixels.
    deviation = (shot * light + read**2).clamp(min=1e-12).sqrt()
    return (light + deviation * normal).clamp(0, MAX_RADIANCE)


def capture(
    linear: Tensor,
    psf: Tensor,
    *,
    shot: float = 0.0,
    read: float = 0.0,
    generators: Sequence[torch.Generator] | None = None,
    edge: Edge = "replicate",
) -> Tensor:
    """Return the linear capture (B,3,H,W) in [0,500] of a scene behind a display.

    Args:
        linear: scene radiance (B,3,H,W).
        psf: (3,k,k), see `convolve`.
        shot: variance of the noise per unit of radiance (Poisson noise in its Gaussian limit).
        read: standard deviation of the signal-independent noise, in radiance.
        generators: one CPU generator per image, needed with noise: an image's noise must not depend on its batch.
        edge: see `convolve`.

    Raises:
        ValueError: when noise is asked for without one generator per image, or a noise level is negative.
    """
    if shot < 0 or read < 0:
        raise ValueError(f"noise levels must be at least 0, got shot={shot}, read={read}")
    clean = convolve(linear, psf, edge=edge).clamp(min=0)
    if shot == 0 and read == 0:
        return recorded(clean, None, shot, read)
    if generators is None or len(generators) != len(linear):
        raise ValueError(f"noise needs one generator per image: {len(linear)} images")
    normal = torch.stack([torch.randn(clean.shape[1:], generator=generator) for generator in generators])
    return recorded(clean, normal.to(clean), shot, read)


def expand_highlights(photo: Tensor) -> Tensor:
    """Turn a low-dynamic-range photograph into pseudo-HDR radiance (recipe of DDRNet's data synthesis).

    A highlight is where the channel mean exceeds 0.7 of its maximum and the largest channel exceeds 0.85. Every
    8-connected highlight is multiplied by one plus its gain: 100 when the longer side of its box is below 36 px, 64
    below 64 px, else 8. Small lights are thus bright, and skies stay moderate.

    Args:
        photo: (3,H,W) in [0,1], linear light.

    Returns:
        Radiance (3,H,W) in [0,500], float32; differentiable with the mask held fixed.
    """
    from scipy import ndimage

    values = photo.detach().cpu().numpy()
    mean = values.mean(axis=0)
    mask = (mean > 0.7 * mean.max()) & (values.max(axis=0) > 0.85)
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    gain_of = [0.0]  # label 0 is the background
    for rows, columns in ndimage.find_objects(labels):
        side = max(rows.stop - rows.start, columns.stop - columns.start)
        gain_of.append(next((gain for limit, gain in _HIGHLIGHT_GAINS if side < limit), _LARGE_HIGHLIGHT_GAIN))
    gain = torch.from_numpy(np.asarray(gain_of, dtype=np.float32)[labels]).to(photo.device)
    return (photo * (1 + gain)).clamp(max=MAX_RADIANCE)


def _fast_length(length: int) -> int:
    from scipy.fft import next_fast_len

    return int(next_fast_len(length, real=True))

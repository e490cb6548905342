"""Restorers without weights: non-blind deconvolution of the light behind a display whose PSF is known.

They take tone-mapped captures, go back to linear light, where the display is one convolution, undo it in a few steps
and tone-map again. A level of the capture is worth ``1 / slope`` of light, so light is trusted by the slope of the tone
curve to a power ``tone``, and clipped highlights, of which only a lower bound is known, not at all. All of it is
differentiable.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from udc_robust.data.psf_files import load_psf
from udc_robust.errors import UserError
from udc_robust.names import CLASSICAL_NAMES
from udc_robust.optics.capture import MAX_RADIANCE, TONE_KNEE, convolve, inverse_tone_map, tone_map

CLIPPED = 254.5 / 255
"""Tone-mapped values from here on are 255 in 8 bits: light of 127 or of 500."""
_DARK = 1e-6  # least light, which keeps quotients finite
_MOST_STEPS = 1000
_SMOOTH = 0.02  # of tone-mapped values: below it total variation is rounded off


class Deconvolution(nn.Module):
    """What all of them share: the PSF, tone curve and trust.

    ``(B,3,H,W)`` tone-mapped to the same, any size. Beyond the border the nearest pixel is assumed.

    Attributes:
        origin: which PSF it undoes, by name and digest: what makes it this restorer.
    """

    domain = "tonemapped"
    whole_image = True
    """Its steps reach as far as the PSF, each anew: tiles answer a little differently."""
    weightless = True
    tone: float = 0.0
    psf: Tensor
    settings: Tensor

    def __init__(self, psf: str, **settings: float) -> None:
        """Load the PSF.

        Args:
            psf: name of a simulated display, or a PSF file.
            settings: numbers that tell two restorers of one class apart.

        Raises:
            UserError: see `data.psf_files.load_psf`.
        """
        super().__init__()
        if not isinstance(psf, str):
            raise UserError(f"psf must be the name of a display or a file, not {psf!r}")
        with torch.device("cpu"):  # a rehearsal without numbers must not leave such a PSF in the cache of named ones
            self.register_buffer("psf", load_psf(psf))
        self.register_buffer("settings", torch.tensor(list(settings.values())))
        digest = hashlib.sha256(self.psf.numpy().tobytes()).hexdigest()[:16]
        self.origin = f"no weights; PSF {Path(psf).name}, sha256 {digest}"

    def forward(self, x: Tensor) -> Tensor:
        """Restore ``(B,3,H,W)`` in [0,1]."""
        captured = inverse_tone_map(x)
        light = self.deconvolved(captured, slope(captured) ** self.tone * (x < CLIPPED))
        return tone_map(light.clamp(0, MAX_RADIANCE))

    def deconvolved(self, captured: Tensor, trust: Tensor) -> Tensor:
        """The light before the display, from that behind it; ``trust`` is 0 where it is clipped."""
        raise NotImplementedError

    def blurred(self, light: Tensor) -> Tensor:
        """Light behind the display."""
        return convolve(light, self.psf)

    def gathered(self, light: Tensor) -> Tensor:
        """For each pixel the mean over where the display sends its light, by how much (the transpose of `blurred`)."""
        return convolve(light, self.psf.flip(-2, -1))


class RichardsonLucy(Deconvolution):
    """Richardson (1972) and Lucy (1974), with tone weights: ``x <- x K'(w b / Kx) / K'w``, optionally smoothed.

    Multiplying keeps light positive and lets it grow by orders of magnitude, so it copes with highlights best.

    Args:
        psf: name of a simulated display, or a PSF file.
        steps: 1 to 1000; more give more detail, and more of the noise.
        tone: power of the tone curve's slope by which light is trusted, 0 (all alike) to 2.
        tv: step down the total variation after each, 0 to 0.005 of tone-mapped values.
    """

    def __init__(self, psf: str = "phone", steps: int = 10, tone: float = 0.5, tv: float = 0.0) -> None:
        super().__init__(psf, steps=_steps(steps), tone=_number("tone", tone, 0, 2), tv=_number("tv", tv, 0, 0.005))
        self.steps, self.tone, self.tv = steps, tone, tv

    def deconvolved(self, captured: Tensor, trust: Tensor) -> Tensor:
        """See `Deconvolution.deconvolved`."""
        light, trusted = captured.clamp_min(_DARK), self.gathered(trust).clamp_min(_DARK)
        for _ in range(self.steps):
            ratio = self.gathered(trust * captured / self.blurred(light).clamp_min(_DARK)).clamp_min(0) / trusted
            light = (light * ratio).clamp(_DARK, MAX_RADIANCE)
            if self.tv:
                light = smoothed(light, self.tv).clamp_min(_DARK)
        return light


class TotalVariation(Deconvolution):
    """Gradient descent on the trusted squared error of light and the total variation of what is seen.

    Each pixel's step is the trusted mean of what is wrong where its light goes (SIRT, Gilbert 1972), then a step down
    the total variation (Rudin, Osher & Fatemi 1992) of the tone-mapped picture.

    Args:
        psf, steps, tone: see `RichardsonLucy`.
        tv: size of that step, 0 to 0.005 of tone-mapped values.
    """

    def __init__(self, psf: str = "phone", steps: int = 10, tone: float = 0.5, tv: float = 0.001) -> None:
        super().__init__(psf, steps=_steps(steps), tone=_number("tone", tone, 0, 2), tv=_number("tv", tv, 0, 0.005))
        self.steps, self.tone, self.tv = steps, tone, tv

    def deconvolved(self, captured: Tensor, trust: Tensor) -> Tensor:
        """See `Deconvolution.deconvolved`."""
        light, trusted = captured, self.gathered(trust).clamp_min(_DARK)
        for _ in range(self.steps):
            wrong = trust * (captured - self.blurred(light))
            light = (light + self.gathered(wrong) / trusted).clamp(0, MAX_RADIANCE)
            if self.tv:
                light = smoothed(light, self.tv)
        return light


class Wiener(Deconvolution):
    """Wiener (1949): one filter, ``conj(H) / (|H|^2 + noise)``, on what the capture itself does not explain.

    A filter is the same everywhere, so trust has no say in it but that clipped pixels ask for nothing.

    Args:
        psf: see `RichardsonLucy`.
        noise: power of the noise in that of the scene, 1e-6 to 1.
        steps: 1 to 1000 times; the noise passes more with each.
    """

    def __init__(self, psf: str = "phone", noise: float = 0.03, steps: int = 1) -> None:
        super().__init__(psf, noise=_number("noise", noise, 1e-6, 1), steps=_steps(steps))
        self.noise, self.steps = noise, steps

    def deconvolved(self, captured: Tensor, trust: Tensor) -> Tensor:
        """See `Deconvolution.deconvolved`."""
        light = captured
        for _ in range(self.steps):
            light = light + self._filtered((trust > 0) * (captured - self.blurred(light)))
        return light

    def _filtered(self, wrong: Tensor) -> Tensor:
        reach = self.psf.shape[-1] // 2
        padded = F.pad(wrong, [reach] * 4)
        grid = padded.shape[-2:]
        around_origin = F.pad(self.psf, (0, grid[1] - self.psf.shape[-1], 0, grid[0] - self.psf.shape[-2]))
        transfer = torch.fft.rfft2(around_origin.roll((-reach, -reach), (-2, -1)))
        wanted = torch.fft.rfft2(padded) * transfer.conj() / (transfer.abs().square() + self.noise)
        height, width = wrong.shape[-2:]
        return torch.fft.irfft2(wanted, s=grid)[..., reach : reach + height, reach : reach + width]


CLASSICAL: dict[str, type[Deconvolution]] = dict(
    zip(CLASSICAL_NAMES, (RichardsonLucy, TotalVariation, Wiener), strict=True)
)


def slope(light: Tensor) -> Tensor:
    """The slope of the tone curve, that at light 0 being 1: how exactly a level of the capture tells light."""
    return (TONE_KNEE / (light + TONE_KNEE)) ** 2


def smoothed(light: Tensor, step: float) -> Tensor:
    """Light ``(B,3,H,W)`` one step down the total variation of its tone-mapped values, rounded off below 0.02."""
    toned = tone_map(light)
    down = toned.diff(dim=-2, append=toned[..., -1:, :])
    across = toned.diff(dim=-1, append=toned[..., -1:])
    size = (down.square() + across.square() + _SMOOTH**2).sqrt()
    down, across = down / size, across / size
    curvature = down.diff(dim=-2, prepend=torch.zeros_like(down[..., :1, :])) + across.diff(
        dim=-1, prepend=torch.zeros_like(across[..., :1])
    )
    return inverse_tone_map((toned + step * curvature).clamp(0, 1))


def _steps(steps: int) -> int:
    return int(_number("steps", steps, 1, _MOST_STEPS, whole=True))


def _number(key: str, value: float, low: float, high: float, *, whole: bool = False) -> float:
    """A number in its range.

    Raises:
        UserError: another one, or none.
    """
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        raise UserError(f"{key} must be a {'whole ' if whole else ''}number from {low:g} to {high:g}, not {value!r}")
    return value

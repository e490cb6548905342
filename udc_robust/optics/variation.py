"""PSFs of a display that is not mounted or made quite as it should be, as differentiable functions of how much not.

A simulated display is turned, stretched, etched and focused in its pupil, and its light diffracted anew (`optics.psf`).
Of a measured PSF nobody knows the display: its picture is turned, stretched and moved (bilinear, which blurs it a
little), and blurred for defocus.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from udc_robust.errors import UserError
from udc_robust.optics.layout import Display
from udc_robust.optics.psf import CHANNEL_WAVELENGTHS, Camera, diffracted, pupil_radius

PARAMETERS = {
    "turn": "the display turned in its plane",
    "scale": "all of its lengths",
    "shift_x": "the picture of a point to the right",
    "shift_y": "the picture of a point downwards",
    "defocus": "focus",
    "opening": "every edge of what is opaque, outwards or, more open, inwards",
}
"""What can be off, in words."""
_WIDTH = 2048.0  # micrometres of the grid over the pupil
_LEAST_OPEN, _MOST_OPEN = 0.01, 0.999
_WIDEST_BLUR = 6  # px of a Gaussian's standard deviation

Values = Mapping[str, Tensor]
"""Numbers (0-dimensional tensors) by the names of parameters; what is not named is as it should be."""


class Variation(Protocol):
    """A PSF and what can be off about it.

    Attributes:
        units: of the parameters that it has, by name.
        usual: a tolerance of each.
        side: of the PSF in px.
    """

    side: int

    @property
    def units(self) -> Mapping[str, str]: ...  # noqa: D102

    @property
    def usual(self) -> Mapping[str, float]: ...  # noqa: D102

    def psf(self, values: Values) -> Tensor:
        """The PSF (3,side,side), float32, each channel summing to 1."""

    def check(self, name: str, value: float) -> None:
        """Refuse what cannot be computed.

        Raises:
            UserError: see above.
        """


class DisplayVariation:
    """A simulated display, by wave optics; see `Variation`."""

    units: ClassVar[Mapping[str, str]] = {
        "turn": "°", "scale": "%", "shift_x": "px", "shift_y": "px", "defocus": "µm", "opening": "µm",
    }  # fmt: skip
    usual: ClassVar[Mapping[str, float]] = {
        "turn": 1.0, "scale": 2.0, "shift_x": 0.5, "shift_y": 0.5, "defocus": 0.1, "opening": 1.0,
    }  # fmt: skip

    def __init__(self, display: Display, side: int = 129, field: int = 256, samples: int = 512) -> None:
        """Prepare.

        Args:
            side, field: see `psf.named_psf`.
            samples: of the grid over the pupil, a side.
        """
        self.side, self._display, self._pitch = side, display, _WIDTH / samples
        self._camera = Camera.for_field(field)
        axis = (torch.arange(samples, dtype=torch.float64) - (samples - 1) / 2) * self._pitch
        self._row, self._column = torch.meshgrid(axis, axis, indexing="ij")
        self._radius_squared = torch.from_numpy(pupil_radius(samples, self._pitch, self._camera))

    def transmission(self, values: Values) -> Tensor:
        """What passes of the light at each point of the pupil: the share of a cell that lies inside all edges."""
        angle = torch.deg2rad(torch.as_tensor(self._display.angle + values.get("turn", 0.0), dtype=torch.float64))
        scale = self._display.scale * (1 + values.get("scale", 0.0) / 100)
        x = (angle.cos() * self._column + angle.sin() * self._row) / scale
        y = (angle.cos() * self._row - angle.sin() * self._column) / scale
        passing = (self._radius_squared <= 1).double()
        for edge in self._display.edges(x, y):
            passing = passing * ((edge * scale + values.get("opening", 0.0)) / self._pitch + 0.5).clamp(0, 1)
        return passing

    def psf(self, values: Values) -> Tensor:
        """See `Variation.psf`."""
        passing, focus = self.transmission(values), self._display.defocus + values.get("defocus", 0.0)
        moved = [values.get(name, 0.0) * self._camera.pixel for name in ("shift_x", "shift_y")]
        tilt = (moved[0] * self._column + moved[1] * self._row) / self._camera.focal_length
        path = focus * self._radius_squared + tilt
        channels = []
        for wavelengths in CHANNEL_WAVELENGTHS:
            energy = torch.zeros(self.side, self.side)
            for wavelength in wavelengths:
                field = torch.polar(passing, 2 * math.pi / wavelength * path).to(torch.complex64)
                energy = energy + diffracted(field, self._pitch, self.side, self._camera, wavelength, torch.float32)
            channels.append(energy / energy.sum())
        return torch.stack(channels)

    def check(self, name: str, value: float) -> None:
        """See `Variation.check`."""
        shortest, radius = CHANNEL_WAVELENGTHS[2][0], self._camera.aperture / 2
        most = {
            "turn": 180.0, "scale": 50.0, "shift_x": self.side // 2, "shift_y": self.side // 2, "opening": math.inf,
            # Beyond it the phase turns by more than half a circle from one sample of the pupil to the next.
            "defocus": shortest * radius / (4 * self._pitch) - self._display.defocus,
        }  # fmt: skip
        _within(name, value, most[name], self.units[name])
        if name == "opening":
            with torch.no_grad():
                share = [self.transmission({name: torch.tensor(v)}).sum() / (self._radius_squared <= 1).sum()
                         for v in (-value, value)]  # fmt: skip
            if share[0] < _LEAST_OPEN or share[1] > _MOST_OPEN:
                raise UserError(
                    f"a tolerance of opening of {value:g} µm goes beyond the pupil: {share[0]:.0%} to {share[1]:.0%} "
                    "of it would be open; give less"
                )


class MeasuredVariation:
    """A measured PSF (3,k,k), as a picture; see `Variation`. How open its display is nobody knows."""

    units: ClassVar[Mapping[str, str]] = {
        "turn": "°", "scale": "%", "shift_x": "px", "shift_y": "px", "defocus": "px",
    }  # fmt: skip
    usual: ClassVar[Mapping[str, float]] = {
        "turn": 1.0, "scale": 2.0, "shift_x": 0.5, "shift_y": 0.5, "defocus": 0.5,
    }  # fmt: skip

    def __init__(self, psf: Tensor) -> None:
        self.side, self._psf = psf.shape[-1], psf

    def psf(self, values: Values) -> Tensor:
        """See `Variation.psf`; the orders of a display move inwards as it grows."""
        zero = torch.zeros(())
        turn, shift_x, shift_y = (values.get(name, zero) for name in ("turn", "shift_x", "shift_y"))
        angle, size = torch.deg2rad(turn), 1 + values.get("scale", zero) / 100
        cos, sin, half = angle.cos() * size, angle.sin() * size, self.side / 2
        right, down = -shift_x / half, -shift_y / half
        rows = [torch.stack([cos, sin, cos * right + sin * down]), torch.stack([-sin, cos, cos * down - sin * right])]
        grid = F.affine_grid(torch.stack(rows)[None].to(self._psf), [1, *self._psf.shape], align_corners=False)
        moved = F.grid_sample(self._psf[None], grid, mode="bilinear", align_corners=False)[0]
        if "defocus" in values:
            moved = _blurred(moved, values["defocus"].to(moved))
        return moved / moved.sum((1, 2), keepdim=True)

    def check(self, name: str, value: float) -> None:
        """See `Variation.check`."""
        if name not in self.units:
            raise UserError(
                f"a measured PSF does not tell its display, so no tolerance of {name}: name a simulated one"
            )
        reach = self.side // 2
        most = {"turn": 180.0, "scale": 50.0, "shift_x": reach, "shift_y": reach, "defocus": min(reach, _WIDEST_BLUR)}
        _within(name, value, most[name], self.units[name])


def _blurred(psf: Tensor, deviation: Tensor) -> Tensor:
    """With a Gaussian of so many px, whichever sign it has."""
    reach = 3 * _WIDEST_BLUR
    offset = torch.arange(-reach, reach + 1).to(psf)
    weights = torch.exp(-offset.square() / (2 * deviation.square() + 1e-4))
    weights = (weights / weights.sum()).view(1, 1, -1, 1)
    rows = F.conv2d(psf[:, None], weights, padding=(reach, 0))
    return F.conv2d(rows, weights.transpose(2, 3), padding=(0, reach))[:, 0]


def _within(name: str, value: float, most: float, unit: str) -> None:
    if not 0 < value < math.inf:
        raise UserError(
            f"a tolerance of {name} of {value:g} leaves nothing to vary: give more than 0, or leave it away"
        )
    if value > most:
        raise UserError(f"a tolerance of {name} of {value:g} {unit} goes beyond the pupil: at most {most:g} {unit}")

"""Openings of a display over the camera's pupil, on a fine grid.

A layout is what a microscope over the camera would show: light passes where the transmission is 1. Lengths are in
micrometres. The displays are of the two kinds of Zhou et al. (UDC, CVPR 2021), a transparent OLED with wide vertical
gaps and a pentile OLED with small openings, and a phone's, which leaves most of the area over the camera open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# Tells for coordinates x, y (micrometres, equal shapes) where the display is open.
Opening = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]

# For coordinates x, y (micrometres; arrays or tensors) the distance to the nearest edge of each kind of structure,
# positive where it lets light pass: the display is open where none is negative.
Edges = Callable[[Any, Any], list[Any]]

_SAMPLES = 512
_PITCH = 4.0
_SUBSAMPLES = 4


@dataclass(frozen=True, eq=False)
class Layout:
    """Transmission of a display over the pupil: `transmission` (n,n) in [0,1], and its `pitch` in micrometres."""

    transmission: NDArray[np.float32]
    pitch: float

    @property
    def open_ratio(self) -> float:
        """Share of the area that lets light through, and of that light which is left undiffracted."""
        return float(self.transmission.mean())


@dataclass(frozen=True)
class Display:
    """A display as it is built: its edges, how it is mounted, and the camera's defocus (micrometres, at the rim)."""

    edges: Edges
    angle: float = 0.0
    scale: float = 1.0
    defocus: float = 0.2

    @property
    def layout(self) -> Layout:
        """Its transmission over the pupil."""
        return rasterise(opening_of(self.edges), angle=self.angle, scale=self.scale)


def opening_of(edges: Edges) -> Opening:
    """Where all edges let light pass."""
    return lambda x, y: np.logical_and.reduce([edge >= 0 for edge in edges(x, y)])


def toled_edges(x: Any, y: Any) -> list[Any]:
    """See `toled`."""
    return [_to_cell(x, 160) - 20, _to_cell(y, 160) - 3]


def poled_edges(x: Any, y: Any) -> list[Any]:
    """See `poled`."""
    return [24 - _to_lattice(x, y, 120)]


def phone_edges(island: float = 1.0) -> Edges:
    """See `phone`."""
    return partial(_phone_edges, radius=26.5 * island)


def _phone_edges(x: Any, y: Any, radius: float) -> list[Any]:
    period = 130.9
    return [_to_lattice(x, y, period) - radius, _to_cell(y, period) - 4.9, _to_cell(x, period) - 2.8]


def toled(*, angle: float = 0.0, scale: float = 1.0) -> Layout:
    """Transparent OLED: opaque vertical stripes, 40 of every 160 micrometres, crossed by thin horizontal wires.

    Args:
        angle: rotation of the display, degrees.
        scale: factor on all its lengths; above 1 the diffraction orders move inwards.
    """

    return Display(toled_edges, angle, scale).layout


def poled(*, angle: float = 0.0, scale: float = 1.0) -> Layout:
    """Pentile OLED: round openings of 24 micrometres radius on a diagonal lattice with a period of 120 micrometres.

    Args: see `toled`.
    """

    return Display(poled_edges, angle, scale).layout


def phone(*, angle: float = 0.0, scale: float = 1.0, island: float = 1.0) -> Layout:
    """Display of a phone: round pixel islands on a diagonal lattice of 131 micrometres, and wires of 6 and 10.

    The numbers are fitted to the energy that the estimated PSF of a ZTE Axon 20 encircles (red channel, radii in pixels
    of 800, of which 256 px images see 0.32). With `psf.named_psf("phone")`:

    ======================  =====  =====  =====  =====  =====  =====
    radius                  1.5    2.5    10     20     40     80
    estimated               0.453  0.607  0.684  0.809  0.905  0.975
    simulated, 800 px       0.442  0.594  0.685  0.799  0.920  0.968
    simulated, 256 px       0.459         0.686  0.796  0.920  0.968
    ======================  =====  =====  =====  =====  =====  =====

    Args:
        angle: rotation of the display, degrees.
        scale: factor on all its lengths.
        island: factor on the islands' radius alone; above 1 less light passes and more of it is scattered.
    """
    return Display(phone_edges(island), angle, scale).layout


def of_cell(cell: NDArray[np.float32], period: float, *, angle: float = 0.0) -> Layout:
    """A display that repeats one cell, as a microscope's picture or a drawing shows it.

    Args:
        cell: ``(n,m)`` of one period of the display: 0 is opaque, from 0.5 light passes.
        period: length of the cell's shorter side in micrometres.
        angle: rotation of the display, degrees.

    Raises:
        ValueError: all of it is opaque, or open.
    """
    is_open = np.asarray(cell) >= 0.5
    if is_open.all() or not is_open.any():
        raise ValueError("it is all open, or all opaque: show one period of the display, white where light passes")
    height, width = is_open.shape
    step = period / min(height, width)

    def opening(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        rows, columns = (np.floor(y / step) % height).astype(int), (np.floor(x / step) % width).astype(int)
        return is_open[rows, columns]

    return rasterise(opening, angle=angle)


def rasterise(opening: Opening, *, angle: float = 0.0, scale: float = 1.0) -> Layout:
    """Sample an opening over 2 x 2 mm; every cell of 4 micrometres is the mean of 16 points, so edges stay soft."""
    count = _SAMPLES * _SUBSAMPLES
    axis = (np.arange(count) - (count - 1) / 2) * (_PITCH / _SUBSAMPLES)
    column, row = np.meshgrid(axis, axis)
    turn = np.deg2rad(angle)
    x = (np.cos(turn) * column + np.sin(turn) * row) / scale
    y = (np.cos(turn) * row - np.sin(turn) * column) / scale
    fine = opening(x, y).astype(np.float32)
    coarse = fine.reshape(_SAMPLES, _SUBSAMPLES, _SAMPLES, _SUBSAMPLES).mean(axis=(1, 3))
    return Layout(coarse, _PITCH)


def _to_cell(position: Any, period: float) -> Any:
    """Distance to the nearest multiple of ``period``."""
    return abs((position + period / 2) % period - period / 2)


def _to_lattice(x: Any, y: Any, period: float) -> Any:
    """Distance to the nearest point of a square lattice that also has a point in the middle of each cell."""
    corner = _to_cell(x, period) ** 2 + _to_cell(y, period) ** 2
    middle = _to_cell(x - period / 2, period) ** 2 + _to_cell(y - period / 2, period) ** 2
    lesser = torch.minimum(corner, middle) if isinstance(corner, torch.Tensor) else np.minimum(corner, middle)
    return (lesser + 1e-30) ** 0.5  # the slope of a root is infinite at 0

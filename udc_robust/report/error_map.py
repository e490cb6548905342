"""Where the error grew: for each victim the worst square of the photograph that lost most, at its own scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from udc_robust.report.damage import Damage, worst_damage, worst_square
from udc_robust.report.gallery import Pixels, data_uri
from udc_robust.report.panel import Panel
from udc_robust.report.words import number

_SMALLEST, _LARGEST = 32, 192
_COLOURS = "magma"


@dataclass(frozen=True)
class ErrorMap:
    """One map.

    Attributes:
        pictures: name and data URI of the square before and after, and the map itself.
        bar: data URI of its colours from 0 to ``top``, a growth in levels of 255.
        grown, whole: mean growth in the square and in the whole picture, in levels.
        place: where the square lies, in words.
    """

    damage: Damage
    pictures: Sequence[tuple[str, str]]
    bar: str
    top: float
    grown: float
    whole: float
    place: str


def error_maps(panels: Sequence[Panel]) -> Iterator[ErrorMap]:
    """One for each victim whose answers are images and were kept."""
    for panel in panels:
        damage = worst_damage([panel])
        if damage is not None and damage.answers:
            yield _error_map(damage)


def _error_map(damage: Damage) -> ErrorMap:
    grown, (before, after) = damage.grown(), damage.pictures()
    side = min(max(min(grown.shape) // 3, _SMALLEST), _LARGEST, *grown.shape)
    top, left = worst_square(grown, side)
    cut = np.s_[top : top + side, left : left + side]
    scale = max(float(np.percentile(grown[cut], 99.5)), 1.0)
    name = damage.panel.task.shown.name
    drawn = [(f"Clean {name}", before[cut]), (f"Attacked {name}", after[cut]), ("Growth", _coloured(grown[cut], scale))]
    ramp = np.linspace(0, scale, 256, dtype=np.float32)[None]
    return ErrorMap(
        damage, [(what, data_uri(pixels, lossless=True)) for what, pixels in drawn],
        data_uri(_coloured(ramp, scale), lossless=True), scale, float(grown[cut].mean()), float(grown.mean()),
        f"{side} x {side} px, {left} from the left and {top} from the top of {grown.shape[1]} x {grown.shape[0]}",
    )  # fmt: skip


def _coloured(values: npt.NDArray[np.float32], scale: float) -> Pixels:
    """Values ``(H,W)`` from 0 to ``scale`` as colours ``(H,W,3)`` in levels; what shrank is as dark as 0."""
    import matplotlib

    return 255 * matplotlib.colormaps[_COLOURS](np.clip(values / scale, 0, 1))[..., :3].astype(np.float32)


def told(made: ErrorMap) -> str:
    """A map in words."""
    return (
        f"{made.damage.image} under {made.damage.outcome.title}: in the square the error grew by "
        f"{number(made.grown, 1)} levels on average, in the whole picture by {number(made.whole, 1)}. {made.place}."
    )

"""The photograph that the hardest attack hurt most, of those whose pictures were kept, and where in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from udc_robust.report.gallery import Pixels, attacked_input_path, kept, read_pixels
from udc_robust.report.panel import Outcome, Panel
from udc_robust.report.worst import hardest


@dataclass(frozen=True)
class Damage:
    """One photograph under one attack.

    Attributes:
        clean, attacked: its quality, as people read it.
    """

    panel: Panel
    outcome: Outcome
    image: str
    clean: float
    attacked: float

    @property
    def lost(self) -> float:
        """What the attack took; without ground truth what is left ranks as well."""
        return self.clean - self.attacked if math.isfinite(self.clean) else -self.attacked

    @property
    def answers(self) -> bool:
        """Whether the pictures are the victim's answers, and not what it was shown."""
        return self.panel.task.shown.role == "output"

    def pictures(self) -> tuple[Pixels, Pixels]:
        """Before and after: two answers, or two inputs where answers are no images.

        Raises:
            UserError: a file of them is damaged.
        """
        if self.answers:
            names = ("clean.output.png", f"{self.outcome.cell.key}.output.png")
            before, after = (self.panel.picture(self.image, name) for name in names)
        else:
            before = self.panel.picture(self.image, "input.png", of_victim=False)
            found = attacked_input_path(self.panel, self.image, self.outcome)
            assert found is not None
            after = found
        return read_pixels(before), read_pixels(after)

    def grown(self) -> npt.NDArray[np.float32]:
        """By how much the error grew at each pixel ``(H,W)``: mean over the channels, in levels of 255.

        The error is the distance to the ground truth; where there is none, to the picture before.
        """
        before, after = self.pictures()
        truths = [self._truth(name) for name in ("clean", self.outcome.cell.key)]
        ought = [before if truth is None else truth for truth in truths]
        return (np.abs(after - ought[1]) - np.abs(before - ought[0])).mean(axis=2)

    def _truth(self, cell: str) -> Pixels | None:
        """What an answer ought to be: its own truth where an attack changes that too, or the image's."""
        own, common = (
            self.panel.picture(self.image, f"{cell}.truth.png"),
            self.panel.picture(self.image, "gt.png", of_victim=False),
        )
        path = own if own.is_file() else common
        return read_pixels(path) if self.answers and path.is_file() else None


def worst_damage(panels: Sequence[Panel]) -> Damage | None:
    """The photograph that lost most to the hardest attack of its victim; None where no pictures were kept."""
    found = [damage for panel in panels for damage in _damages(panel)]
    return max(found, key=lambda damage: damage.lost, default=None)


def _damages(panel: Panel) -> list[Damage]:
    free = [outcome for outcome in panel.outcomes if outcome.counts]
    outcomes = hardest(panel) or sorted(free, key=lambda outcome: outcome.left)[:1]
    clean, shown = {row["image"]: panel.figure(row) for row in panel.clean_rows}, set(kept(panel))
    return [
        Damage(panel, outcome, row["image"], clean[row["image"]], panel.figure(row))
        for outcome in outcomes
        for row in outcome.rows
        if row["image"] in shown and attacked_input_path(panel, row["image"], outcome) is not None
    ]


def worst_square(grown: npt.NDArray[np.float32], side: int) -> tuple[int, int]:
    """Top and left of the square of ``side`` pixels in which a map ``(H,W)`` has its largest mean.

    Args:
        side: at most the shorter side of the map.
    """
    sums = np.pad(grown.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    of_squares = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(of_squares.argmax(), of_squares.shape)
    return int(top), int(left)

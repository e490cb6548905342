"""What a study of tolerances found: curves, the worst display, and how much of a parameter costs so many dB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

COST = 3.0
"""dB that a parameter is asked for."""


@dataclass(frozen=True)
class Found:
    """One display.

    Attributes:
        kind: ``nominal``, a parameter that alone is off, ``corner`` or ``gradient``.
        values: how much what is off.
        figures: PSNR in dB by restorer and scene.
    """

    kind: str
    values: Mapping[str, float]
    figures: Mapping[str, Mapping[str, float]]

    def mean(self, restorer: str) -> float:
        """Over the scenes."""
        return fmean(self.figures[restorer].values())


@dataclass(frozen=True)
class Results:
    """All displays of a study, and what it varied by how much."""

    psf: str
    tolerances: Mapping[str, float]
    units: Mapping[str, str]
    restorers: Sequence[str]
    found: Sequence[Found]

    @property
    def nominal(self) -> Found:
        """The display as it should be."""
        return next(one for one in self.found if one.kind == "nominal")

    def curve(self, parameter: str, restorer: str) -> list[tuple[float, float]]:
        """Value and mean PSNR, rising, with the nominal display at 0."""
        points = [(one.values[parameter], one.mean(restorer)) for one in self.found if one.kind == parameter]
        return sorted([*points, (0.0, self.nominal.mean(restorer))])

    def cost_of_tolerance(self, parameter: str, restorer: str) -> float:
        """PSNR in dB that the worse end of a tolerance takes."""
        ends = [figure for value, figure in self.curve(parameter, restorer)
                if abs(abs(value) - self.tolerances[parameter]) < 1e-9]  # fmt: skip
        return self.nominal.mean(restorer) - min(ends)

    def that_costs(self, parameter: str, restorer: str, cost: float = COST) -> float | None:
        """The least amount, either way, that costs so many dB, between points by a straight line; None: none did."""
        curve, sides = self.curve(parameter, restorer), []
        for sign in (-1, 1):
            side = sorted((abs(value), self.nominal.mean(restorer) - figure) for value, figure in curve
                          if sign * value >= 0)  # fmt: skip
            for (near, less), (far, more) in pairwise(side):
                if less < cost <= more:
                    sides.append(near + (far - near) * (cost - less) / (more - less))
                    break
        return min(sides) if sides else None

    def reach(self, parameter: str) -> float:
        """How far the curve goes."""
        return max(abs(value) for value, _ in self.curve(parameter, self.restorers[0]))

    def worst(self, restorer: str, kind: str) -> Found | None:
        """Of the corners, or of the gradient's searches."""
        found = [one for one in self.found if one.kind == kind and restorer in one.figures]
        return min(found, key=lambda one: one.mean(restorer)) if found else None

    def worst_of_all(self, restorer: str) -> Found:
        """Within the tolerances."""
        inside = [one for one in self.found if restorer in one.figures and all(
            abs(value) <= self.tolerances[name] * (1 + 1e-6) for name, value in one.values.items()
        )]  # fmt: skip
        return min(inside, key=lambda one: one.mean(restorer))

    def told(self, parameter: str, restorer: str) -> str:
        """What costs 3 dB, in words."""
        amount = self.that_costs(parameter, restorer)
        unit = self.units[parameter]
        if amount is None:
            return f"not within ±{self.reach(parameter):.3g} {unit}"
        return f"{amount:.2g} {unit}"

    def rows(self) -> Iterator[dict[str, Any]]:
        """For the CSV: a row a display, restorer and scene."""
        for one in self.found:
            off = {name: one.values.get(name, 0.0) for name in self.tolerances}
            for restorer, figures in one.figures.items():
                for scene, figure in figures.items():
                    yield {"kind": one.kind, **off, "restorer": restorer, "scene": scene, "psnr": figure}

    def summary(self) -> dict[str, Any]:
        """For the JSON."""
        return {
            "psf": self.psf, "tolerances": dict(self.tolerances), "units": dict(self.units),
            "restorers": {name: self._summary_of(name) for name in self.restorers},
        }  # fmt: skip

    def _summary_of(self, restorer: str) -> dict[str, Any]:
        joint = {kind: self.worst(restorer, kind) for kind in ("corner", "gradient")}
        return {
            "nominal": self.nominal.mean(restorer),
            "at_tolerance": {name: self.cost_of_tolerance(name, restorer) for name in self.tolerances},
            f"costs_{COST:g}_db": {name: self.that_costs(name, restorer) for name in self.tolerances},
            **{kind: None if one is None else {"psnr": one.mean(restorer), "values": dict(one.values)}
               for kind, one in joint.items()},
        }  # fmt: skip

"""What a table, a curve and the glossary need to know of a figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scale:
    """How much of a figure counts, in the unit that people read, for flags and verdicts.

    Attributes:
        small: what chance may make; ``large``: by which an attack that is still gaining gains.
        nothing: what an attack of an unlimited budget leaves of a victim at most (at least, where lower is better);
            None: nobody knows.
        same_cost: clean costs within this count as the same.
    """

    small: float = 0.0
    large: float = 0.0
    nothing: float | None = None
    same_cost: float = 0.0


def not_measured(output: Tensor, target: Tensor) -> Tensor:
    """Stands for a measure in what reports know of a figure."""
    raise RuntimeError("this figure can be read, not measured: its code is not loaded")


@dataclass(frozen=True)
class Metric:
    """A figure of one answer.

    Attributes:
        name: of the column.
        measure: answers and targets of a batch in, one number ``(B,)`` an image out.
        higher_is_better: whether an attacker makes it fall.
        digits: after the point, where people read it.
        smallest_side: in pixels, under which it is not defined.
        label: as people call it; empty: the name. ``unit``: written after it.
        factor: from the table's figure to the one that people read: 100 for a share shown in percent.
        words: what the glossary says.
        scale: how much of it counts.
        learned: whether it is a network's opinion. An attacker who climbs it fools that network, whatever becomes of
            the picture: then it judges nothing.
    """

    name: str
    measure: Callable[[Tensor, Tensor], Tensor]
    higher_is_better: bool = True
    digits: int = 3
    smallest_side: int = 1
    label: str = ""
    unit: str = ""
    factor: float = 1.0
    words: str = ""
    scale: Scale = Scale()
    learned: bool = False

    @property
    def title(self) -> str:
        """As people call it."""
        return self.label or self.name

    def told(self) -> dict[str, Any]:
        """What a report must know of it: everything but the measure, which is code."""
        about = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**about, "measure": None, "scale": asdict(self.scale)}

    @classmethod
    def as_told(cls, about: Mapping[str, Any]) -> Metric:
        """The same figure, read from a file; it can be read, not measured."""
        return cls(**{**about, "measure": not_measured, "scale": Scale(**about["scale"])})

    def better(self, a: float, b: float) -> float:
        """By how much figure ``a`` is better than ``b``: negative where it is worse."""
        return a - b if self.higher_is_better else b - a

    def more(self, gain: float) -> str:
        """The word for a figure that is better by ``gain``: ``more`` or ``less`` of it."""
        return "more" if (gain >= 0) == self.higher_is_better else "less"

    def shown(self, row: Mapping[str, Any]) -> str:
        """The figure in a row of a table, as people read it."""
        return f"{self.factor * row[self.name]:.{self.digits}f} {self.unit}".rstrip()

    def draws(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Its figures ``(draws,B)`` of answers ``(draws,B,...)``; a target may have draws of its own."""
        targets = target if target.ndim == outputs.ndim else [target] * len(outputs)
        return torch.stack([self.measure(output, one) for output, one in zip(outputs, targets, strict=True)])

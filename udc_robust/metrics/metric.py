"""What a table, a curve and the glossary need to know of a figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


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

    @property
    def title(self) -> str:
        """As people call it."""
        return self.label or self.name

    def using(self, measure: Callable[[Tensor, Tensor], Tensor], words: str) -> Metric:
        """The same figure, measured in another way."""
        return replace(self, measure=measure, words=words)

    def draws(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Its figures ``(draws,B)`` of answers ``(draws,B,...)``; a target may have draws of its own."""
        targets = target if target.ndim == outputs.ndim else [target] * len(outputs)
        return torch.stack([self.measure(output, one) for output, one in zip(outputs, targets, strict=True)])

    def worst(self, values: Tensor, dim: int = 0) -> Tensor:
        """What an attacker would choose of several figures."""
        return values.amin(dim) if self.higher_is_better else values.amax(dim)

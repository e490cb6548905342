"""A victim that remembers what an attack asked it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


def wavy(x: Tensor) -> Tensor:
    """A restorer on which steps may overshoot."""
    return x + (40 * x).sin() / 5


class Witness(nn.Module):
    """Keeps every batch that it is asked about."""

    def __init__(self, answer: Callable[[Tensor], Tensor] = wavy) -> None:
        super().__init__()
        self.answer = answer
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return self.answer(x)

    def asked(self) -> list[Tensor]:
        """What it was asked, forgotten then."""
        found, self.seen = self.seen, []
        return found

    @property
    def images(self) -> int:
        return sum(len(x) for x in self.seen)

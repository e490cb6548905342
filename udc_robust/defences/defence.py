"""What stands before a network: an image transformation, and how the gradient of an attack gets through it.

The randomness of a defence is an explicit argument, so that attacks can replay it, average over it (EOT) and be
checkpointed exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from udc_robust.attacks.streams import Streams


class Defence(nn.Module):
    """Images ``(B,C,H,W)`` in [0,1] and their randomness in, images of the same shape out.

    A subclass writes ``forward(x, noise)``, the transformation as deployed; ``draw`` when it is random; ``stand_in`` or
    ``gradients`` when its own gradient is no use to an attacker.

    Attributes:
        nfe: model calls for one image.
        random: whether two answers to one image differ.
        learnt_domain: colour domain of the images that its weights learnt; None: it has none, or nobody says.
    """

    nfe: int = 0
    random: bool = False
    learnt_domain: str | None = None

    def load(self) -> Defence:
        """Read the weights that the options name; until then there are only options, which are checked."""
        return self

    def draw(self, x: Tensor, streams: Streams) -> Tensor:
        """Randomness ``(B,...)`` for these images, each from its own stream; empty for a deterministic defence."""
        return x.new_empty(len(x), 0)

    def stand_in(self, x: Tensor, noise: Tensor) -> Tensor:
        """A differentiable approximation of ``forward`` for the attacker; ``forward`` itself where it is one."""
        return self(x, noise)

    @property
    def gradients(self) -> Mapping[str, Gradient]:
        """The gradient of each access it has: ``bpda``, ``surrogate``, ``adaptive`` (the best there is)."""
        if type(self).stand_in is Defence.stand_in:
            return {"bpda": StraightThrough(), "adaptive": Exact()}
        return {"bpda": StraightThrough(), "surrogate": StandIn(), "adaptive": StandIn()}


class Gradient(Protocol):
    """How an attacker differentiates a defence.

    Only the gradient differs: an attack's values are always those of the defence.

    Attributes:
        exactness: what the gradient is, for the report.
        memory: what is kept for the backward pass, for the report.
    """

    exactness: ClassVar[str]
    memory: ClassVar[str]

    def __call__(self, defence: Defence, x: Tensor, noise: Tensor) -> Tensor:
        """Defend ``x``; the gradient goes back as this object says."""
        ...


@dataclass(frozen=True)
class Exact:
    """Through every operation."""

    exactness: ClassVar[str] = "exact"
    memory: ClassVar[str] = "activations of the whole defence"

    def __call__(self, defence: Defence, x: Tensor, noise: Tensor) -> Tensor:
        """Defend, keeping everything."""
        return defence(x, noise)


@dataclass(frozen=True)
class StraightThrough:
    """Back as if the defence were the identity (BPDA, Athalye et al. 2018)."""

    exactness: ClassVar[str] = "approximate: gradient of the identity"
    memory: ClassVar[str] = "nothing of the defence"

    def __call__(self, defence: Defence, x: Tensor, noise: Tensor) -> Tensor:
        """Defend, with the gradient of the identity."""
        return value_of(defence, x, noise) + (x - x.detach())


@dataclass(frozen=True)
class StandIn:
    """Back through the defence's differentiable approximation."""

    exactness: ClassVar[str] = "approximate: gradient of a differentiable stand-in"
    memory: ClassVar[str] = "activations of the stand-in"

    def __call__(self, defence: Defence, x: Tensor, noise: Tensor) -> Tensor:
        """Defend, with the gradient of the stand-in."""
        value = value_of(defence, x, noise)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return value
        smooth = defence.stand_in(x, noise)
        return value + (smooth - smooth.detach())


@torch.no_grad()
def value_of(defence: Defence, x: Tensor, noise: Tensor) -> Tensor:
    """The defence's answer without a gradient; detached, because a defence may hand back ``x`` itself."""
    return defence(x, noise).detach()


def fresh(defence: Defence, x: Tensor, streams: Streams) -> Tensor:
    """What the defence makes of ``x`` with a draw of its own, without a gradient: as deployed."""
    return value_of(defence, x, defence.draw(x, streams))


class Defended(nn.Module):
    """A network behind a defence: what is deployed, or, with another ``gradient``, what an attacker differentiates.

    Attributes:
        random: True when it must be called with streams.
    """

    def __init__(self, defence: Defence, network: Callable[..., Tensor], gradient: Gradient | None = None) -> None:
        super().__init__()
        self.defence, self.network, self.gradient = defence, network, gradient or Exact()
        self._random_network = bool(getattr(network, "random", False))
        self.random = defence.random or self._random_network

    def forward(self, x: Tensor, streams: Streams | None = None) -> Tensor:
        """Answer ``(B,C,H,W)`` images, one stream each where the defence or the network is random."""
        streams = Streams([]) if streams is None else streams
        seen = self.gradient(self.defence, x, self.defence.draw(x, streams))
        return self.network(seen, streams) if self._random_network else self.network(seen)

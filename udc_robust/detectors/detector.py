"""What a detector is: it learns from clean images, then gives each image a score, higher for stranger ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

Guarded = Literal["classifier", "restorer"]
"""What a detector may stand beside."""


class Detector(nn.Module):
    """Images ``(B,3,H,W)`` in, a score ``(B,)`` out, the same for an image whatever its batch.

    A subclass writes ``fit`` and ``forward``. The score is differentiable, so that an attacker who knows the detector
    can lower it; where ``forward`` has no useful gradient it hands back one that has.

    Attributes:
        beside: the kinds of networks that it can watch.
        learns: whether ``fit`` learns from images; one that does not needs clean images for its thresholds only.
    """

    beside: ClassVar[tuple[Guarded, ...]] = ("classifier", "restorer")
    learns: ClassVar[bool] = True

    def load(self) -> Detector:
        """Read the weights that the options name; until then there are only options, which are checked."""
        return self

    def fit(self, network: nn.Module, clean: Tensor, seed: int) -> None:
        """Learn what is usual.

        Args:
            network: that it watches, as deployed.
            clean: ``(N,3,H,W)`` images nobody attacked.
            seed: of all chance.
        """


def features(network: nn.Module, x: Tensor) -> Tensor:
    """What a network's last linear layer is given ``(B,F)``; of one without, its answer, flat."""
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear:
        return network(x).flatten(1)
    seen: list[Tensor] = []
    handle = linear[-1].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    try:
        network(x)
    finally:
        handle.remove()
    return seen[-1].flatten(1)


def in_parts(function: Callable[[Tensor], Tensor], x: Tensor, size: int = 64) -> Tensor:
    """A function of a batch, of many images, some at a time and without a gradient."""
    return torch.cat([function(part).detach() for part in x.split(size)])

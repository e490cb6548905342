"""Networks that an attacker has at hand instead of the victim: attacks are made on them, or take their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from udc_robust.attacks.meter import Meter
from udc_robust.attacks.objectives import Mean, Objective
from udc_robust.attacks.oracle import GradientOracle, Victim
from udc_robust.attacks.streams import Streams


class Ensemble(nn.Module):
    """Several networks that answer in one call: ``(B,members,...)``.

    Attributes:
        members: how many calls of a network one answer costs.
    """

    def __init__(self, networks: Sequence[Victim]) -> None:
        super().__init__()
        self._networks, self.members = list(networks), len(networks)
        self._modules_of = nn.ModuleList(network for network in networks if isinstance(network, nn.Module))

    def forward(self, x: Tensor) -> Tensor:
        """The answers of all."""
        return torch.stack([network(x) for network in self._networks], 1)


@dataclass(frozen=True)
class Sources:
    """An ensemble of networks, what is climbed on it (the mean of their objectives, Liu et al. 2017), and its target.

    Attributes:
        target: ``(B,members,...)``; None: each network's own clean answer.
    """

    ensemble: Ensemble
    objective: Mean
    target: Tensor | None

    @classmethod
    def of(cls, networks: Sequence[Victim], objective: Objective, target: Tensor | None) -> Sources:
        """Of networks that all share an objective and a target."""
        assert not isinstance(objective, Mean)
        if target is not None:
            target = torch.stack([target] * len(networks), 1)
        return cls(Ensemble(networks), Mean(objective), target)


class SourceOracle(GradientOracle):
    """The sources seen through a batch. They cost forwards and backwards, and no query: nobody asks the victim.

    Attributes:
        flat: ``(B,)`` whether the gradient at the clean image is zero.
    """

    def __init__(self, sources: Sources, x: Tensor, streams: Streams, meter: Meter) -> None:
        with torch.no_grad():
            outputs = sources.ensemble(x)[None]
        target = sources.objective.own_target(outputs) if sources.target is None else sources.target
        sources.objective.check(outputs[0], target)
        super().__init__(sources.ensemble, sources.objective, target, streams)
        self.flat, self._meter = sources.objective.flat(outputs, target), meter

    def gradient(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Gradient of the mean objective of each image; 0 where it is not finite."""
        self._meter.count(rows, backward=True, times=self._members)
        return super().gradient(x, rows)

"""The victims of a run: each restorer, bare and behind each defence."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor, nn

from udc_robust.attacks import Victim as Answering
from udc_robust.config import DefenceConfig, EvaluateConfig
from udc_robust.defences.defence import Defence, Defended
from udc_robust.defences.registry import build_defence
from udc_robust.errors import UserError
from udc_robust.evaluation.cells import Cell, cells
from udc_robust.evaluation.inputs import Inputs
from udc_robust.restorers.zoo import Restorer, RestorerSpec, load_restorer

NONE = "none"


class Named(Protocol):
    """A network with a name: a restorer or a classifier."""

    name: str

    def __call__(self, x: Tensor) -> Tensor:
        """Its answer."""


Network = TypeVar("Network", bound=Named)


def victim_label(network: str, defence: str) -> str:
    """Name of a network behind a defence."""
    return network if defence == NONE else f"{defence} + {network}"


@dataclass(frozen=True)
class Guarded(Generic[Network]):
    """A network behind a defence (None: bare).

    Attributes:
        cells: the attacks that it meets.
        deployed: what is judged.
    """

    network: Network
    block: DefenceConfig
    defence: Defence | None
    cells: Sequence[Cell]
    deployed: nn.Module

    @property
    def label(self) -> str:
        """Name in tables and folders."""
        return victim_label(self.network.name, self.defence_name)

    @property
    def defence_name(self) -> str:
        """Name of the defence in tables."""
        return NONE if self.defence is None else self.block.label

    @property
    def nfe(self) -> int:
        """Model calls of the defence for one image."""
        return 0 if self.defence is None else self.defence.nfe

    @property
    def random(self) -> bool:
        """Whether two answers to one image differ."""
        return self.defence is not None and self.defence.random

    @property
    def ways(self) -> Collection[str]:
        """Gradients that the defence has; none for a bare network."""
        return () if self.defence is None else self.defence.gradients

    def seen(self, access: str) -> Answering:
        """What an attacker with this access differentiates or asks."""
        if self.defence is None or access == "blind":
            return self.network
        return Defended(self.defence, self.network, self.defence.gradients.get(access))

    def gradients(self) -> dict[str, dict[str, str]]:
        """How exact each gradient past the defence is, and what it keeps in memory."""
        crossings = {} if self.defence is None else self.defence.gradients
        return {name: {"exactness": way.exactness, "memory": way.memory} for name, way in crossings.items()}

    def exactness(self, access: str) -> str:
        """What the attacker's gradient is; empty where there is none."""
        if access in ("none", "query"):
            return ""
        if self.defence is None:
            return "exact"
        return "of the bare restorer" if access == "blind" else self.defence.gradients[access].exactness


Victim = Guarded[Restorer]
"""A restorer behind a defence, for images of one domain."""


def load_restorers(config: EvaluateConfig, inputs: Sequence[Inputs]) -> dict[tuple[str, str], Restorer]:
    """Every restorer for every domain of the data, by (name, domain).

    Raises:
        UserError: unknown names, bad weights, or images smaller than a restorer takes.
    """
    loaded = {}
    for block in config.restorers:
        spec = RestorerSpec(**block.model_dump())
        for domain in {data.domain for data in inputs}:
            loaded[block.name, domain] = load_restorer(spec, domain, config.device, config.seed)
    for data in inputs:
        smallest = min(min(size) for size in data.sizes)
        for restorer in loaded.values():
            if smallest < restorer.min_size:
                raise UserError(
                    f"data {data.label!r} has an image with a side of {smallest} px; "
                    f"{restorer.name} needs {restorer.min_size}"
                )
    return loaded


def build_victims(
    config: EvaluateConfig,
    restorers: Mapping[tuple[str, str], Restorer],
    domain: str,
    tuned: Mapping[str, Mapping[str, Any]],
) -> list[Victim]:
    """The victims for one domain, restorer by restorer, in the order of the config.

    Args:
        tuned: options found for defences with ``match``, by victim label.
    """
    found = []
    for block in config.restorers:
        for defence in config.defences:
            if defence.restorers is None or block.name in defence.restorers:
                options = {**defence.options, **tuned.get(victim_label(block.name, defence.label), {})}
                found.append(_victim(config, restorers[block.name, domain], defence, options))
    return found


def _victim(config: EvaluateConfig, restorer: Restorer, block: DefenceConfig, options: Mapping[str, Any]) -> Victim:
    if block.kind == NONE:
        return Victim(restorer, block, None, cells(config, block, (), random=False), restorer)
    if restorer.domain == "linear":
        raise UserError(f"defence {block.label!r} takes images in [0,1], not linear light: tone-map the data")
    defence = build_defence(block.kind, options).to(config.device).eval()
    grid = cells(config, block, defence.gradients, defence.random)
    return Victim(restorer, block, defence, grid, Defended(defence, restorer).eval())

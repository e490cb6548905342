"""The victims of a run: each network, bare and behind each defence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from udc_robust.attacks import Streams
from udc_robust.attacks import Victim as Answering
from udc_robust.defences.config import DefenceConfig
from udc_robust.defences.defence import Defence, Defended
from udc_robust.defences.registry import build_defence
from udc_robust.errors import UserError
from udc_robust.grid.cells import Cell, cells
from udc_robust.grid.network import Network
from udc_robust.grid.schema import RunConfig
from udc_robust.grid.sources import aimed, made_on
from udc_robust.names import NONE


def victim_label(network: str, defence: str) -> str:
    """Name of a network behind a defence."""
    return network if defence == NONE else f"{defence} + {network}"


def is_random(network: Network) -> bool:
    """Whether a network answers differently each time, with noise in its features: it is then called with streams."""
    return bool(getattr(network, "random", False))


@dataclass(frozen=True)
class Victim:
    """A network behind a defence (None: bare).

    Attributes:
        options: of the defence, tuned ones among them.
        cells: the attacks that it meets.
        deployed: what is judged.
    """

    network: Network
    block: DefenceConfig
    defence: Defence | None
    options: Mapping[str, Any]
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
        return is_random(self.network) or (self.defence is not None and self.defence.random)

    @property
    def gradients(self) -> Mapping[str, Any]:
        """Gradients past the defence by access; none for a bare network."""
        return {} if self.defence is None else self.defence.gradients

    def averages(self, cell: Cell) -> bool:
        """Whether the attacker of a cell has several answers to one image to average."""
        if cell.access in self.gradients:
            return self.random or cell.jitter > 0
        return is_random(self.network) and cell.access in ("gradient", "blind")

    def seen(self, cell: Cell) -> Answering:
        """What the attacker of a cell differentiates or asks."""
        if self.defence is None or cell.access == "blind":
            return self.network
        known = Defended(self.defence, self.network, self.gradients.get(cell.access))
        return Jittered(known, cell.jitter) if cell.jitter else known

    def exactness(self, cell: Cell, network: str) -> str:
        """What the attacker's gradient is; empty where there is none.

        Args:
            network: what the task calls a network.
        """
        if cell.sources:
            return made_on([source.name for source in cell.sources])
        if cell.access in ("none", "query", "output"):
            return ""
        if self.defence is None:
            return "exact"
        return f"of the bare {network}" if cell.access == "blind" else self.gradients[cell.access].exactness


class Jittered(nn.Module):
    """A victim as an attacker explores it: every image is shown with Gaussian noise of its own.

    Attributes:
        random: True: it must be called with streams.
    """

    random = True

    def __init__(self, victim: Answering, sigma: float) -> None:
        super().__init__()
        self.victim, self.sigma = victim, sigma

    def forward(self, x: Tensor, streams: Streams) -> Tensor:
        """Answer to the images and some noise."""
        noisy = x + self.sigma * streams.normal(x)
        return self.victim(noisy, streams) if getattr(self.victim, "random", False) else self.victim(noisy)


def build_victims(
    config: RunConfig, networks: Sequence[Network], tuned: Mapping[str, Mapping[str, Any]],
    sources: Mapping[str, Network],
) -> list[Victim]:  # fmt: skip
    """The victims for images of one domain, network by network, the bare one first: blind attacks are made on it.

    Args:
        tuned: options found for defences with ``match``, by victim label.
        sources: networks that attackers have instead of the victim, by name.

    Raises:
        UserError: a defence that cannot be built, or one before a network that takes linear light.
    """
    found = []
    for network in networks:
        mine = [block for block in config.defences if network.name in (block.networks or [network.name])]
        for block in sorted(mine, key=lambda block: block.kind != NONE):
            options = {**block.options, **tuned.get(victim_label(network.name, block.label), {})}
            found.append(_victim(config, network, block, options, sources))
    return found


def _victim(
    config: RunConfig, network: Network, block: DefenceConfig, options: Mapping[str, Any],
    sources: Mapping[str, Network],
) -> Victim:  # fmt: skip
    attacks, eps = config.attacks, config.eps
    if block.kind == NONE:
        assert isinstance(network, nn.Module)
        met = aimed(cells(attacks, eps, block, random=is_random(network)), network, sources)
        return Victim(network, block, None, {}, met, network)
    if network.domain == "raw":
        raise UserError(f"defence {block.label!r} takes pictures, not RAW planes: set `develop: true` of the data")
    if network.domain == "linear":
        raise UserError(f"defence {block.label!r} takes images in [0,1], not linear light: tone-map the data")
    defence = build_defence(block.kind, options).to(config.device).eval()
    random = defence.random or is_random(network)
    met = aimed(cells(attacks, eps, block, defence.gradients, random), network, sources)
    return Victim(network, block, defence, options, met, Defended(defence, network).eval())

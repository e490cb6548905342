"""The networks that attackers have instead of the victim: loaded as victims are, and never their own victim."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch

from udc_robust.errors import UserError
from udc_robust.grid.cells import Cell
from udc_robust.grid.images import Images
from udc_robust.grid.network import Network, require_size
from udc_robust.grid.schema import RunConfig
from udc_robust.grid.task import Task

Networks = Mapping[str, Mapping[str, Network]]
"""By colour domain of the data, and by name."""


def sources_of(task: Task, config: RunConfig, sets: Sequence[Images], networks: Networks) -> Networks:
    """The networks that attacks of a run name as sources: those of the run, and others, loaded by the same rules.

    Raises:
        UserError: an unknown name, bad weights or none, images smaller than a source takes.
    """
    names = {source.name for attack in config.attacks for source in attack.sources or []}
    if not names:
        return {}
    others = config.model_copy(update={config.network_key: config.source_blocks})
    found: dict[str, dict[str, Network]] = {}
    for domain, mine in networks.items():
        try:
            loaded = task.load(others, domain) if config.source_blocks else {}
        except UserError as error:
            raise UserError(f"sources: {error}") from error
        found[domain] = {name: network for name, network in {**mine, **loaded}.items() if name in names}
        for network in found[domain].values():
            if not network.trained:
                raise UserError(f"source {network.name!r} has random weights, give it `weights`")
    for images in sets:
        require_size(images, found[images.domain].values())
    return found


def aimed(cells: Sequence[Cell], victim: Network, sources: Mapping[str, Network]) -> list[Cell]:
    """The cells of a victim with the sources of each, without those that its own network alone would be the source of.

    Args:
        sources: by name.
    """
    return [cell for cell in _with_sources(cells, victim, sources) if cell.sources or not cell.attack.sources]


def made_on(sources: Sequence[str]) -> str:
    """Whose gradient an attack on sources follows, in the words of the tables."""
    return f"of {' and '.join(sources)} alone"


def _with_sources(cells: Sequence[Cell], victim: Network, sources: Mapping[str, Network]) -> Iterator[Cell]:
    for cell in cells:
        named = [sources[source.name] for source in cell.attack.sources or []]
        yield replace(cell, sources=tuple(source for source in named if not same_network(source, victim)))


def same_network(one: Network, other: Network) -> bool:
    """Whether two networks are one, be it under two names: of one class and of equal weights."""
    if one is other:
        return True
    mine, theirs = one.network.state_dict(), other.network.state_dict()
    alike = bool(mine) and type(one.network) is type(other.network) and mine.keys() == theirs.keys()
    return alike and all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())

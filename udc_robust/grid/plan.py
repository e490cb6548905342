"""From a config to a plan: the one place where a run's schema is read; what follows takes only what it uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from udc_robust.config_file import twice_in
from udc_robust.errors import UserError
from udc_robust.grid.cells import Cell, batches
from udc_robust.grid.corrupting import Corrupted, possible
from udc_robust.grid.images import Batch, Images
from udc_robust.grid.network import require_size
from udc_robust.grid.schema import RunConfig
from udc_robust.grid.sources import Networks
from udc_robust.grid.task import Task
from udc_robust.grid.victims import Victim, build_victims
from udc_robust.limits import require_memory
from udc_robust.metrics import Metric


@dataclass(frozen=True)
class Share:
    """A batch and a network: what one process does in one go.

    Attributes:
        victims: of this network, the bare one first.
        corruptions: that all of them meet.
    """

    images: Images
    indices: Sequence[int]
    victims: Sequence[Victim]
    corruptions: Sequence[Corrupted]

    def units(self) -> Iterator[tuple[Victim, Cell | Corrupted | None]]:
        """Each victim unattacked (None), then in its cells."""
        for victim in self.victims:
            for cell in [None, *victim.cells, *self.corruptions]:
                if not isinstance(cell, Cell) or self.images.meets(cell.attack.label):
                    yield victim, cell


@dataclass(frozen=True)
class Plan:
    """A run, ready to go.

    Attributes:
        metrics: figures of an answer beside the quality; ``missing``: why one of them cannot be had.
        shares: all work, in order.
    """

    task: Task
    name: str
    out: Path
    seed: int
    device: str
    draws: int
    gallery: int
    save_images: bool
    round_8_bit: bool
    sets: Sequence[Images]
    metrics: Sequence[Metric]
    missing: str
    victims: Mapping[str, Sequence[Victim]]
    shares: Sequence[Share]

    def batch(self, share: Share) -> Batch:
        """The images of a share, read."""
        return Batch.load(share.images, share.indices, self.device, self.seed, self.draws)


def opened(task: Task, config: RunConfig) -> list[Images]:
    """The data of a run.

    Raises:
        UserError: bad data, two blocks of one name, or linear light where 8-bit levels are asked for.
    """
    sets = [task.open(block) for block in config.data]
    names = [images.label for images in sets]
    if twice := twice_in(names):
        raise UserError(f"two data blocks are called {twice!r}: give them different names")
    for images in sets:
        if images.stated_in == "linear" and config.round_8_bit:
            raise UserError(f"data {images.label!r} is linear light, which has no 8-bit levels: set round_8_bit: false")
        if images.domain == "raw" and config.round_8_bit:
            raise UserError(f"data {images.label!r} is RAW, which has more than 8-bit levels: set round_8_bit: false")
        together = min(config.batch_size, len(images.keys))
        largest = max(height * width for height, width in images.sizes)
        require_memory(4 * 3 * together * largest, f"a batch of {together} images of {images.label!r} and its attack")
    return sets


def loaded(task: Task, config: RunConfig, sets: Sequence[Images]) -> Networks:
    """Every network for every colour domain of the data.

    Raises:
        UserError: unknown names, bad weights, or images smaller than a network takes.
    """
    found = {domain: task.load(config, domain) for domain in dict.fromkeys(images.domain for images in sets)}
    for images in sets:
        require_size(images, found[images.domain].values())
    return found


def planned(
    task: Task, config: RunConfig, out: Path, sets: Sequence[Images], networks: Networks,
    tuned: Mapping[str, Mapping[str, Any]], sources: Networks,
) -> Plan:  # fmt: skip
    """Everything that a run does.

    Args:
        sources: networks that attackers have instead of the victim.
        tuned: options found for defences with ``match``, by victim label.

    Raises:
        UserError: a defence that cannot be built, a figure that an attack needs and that cannot be had.
    """
    metrics, missing = task.metrics(config)
    victims = {
        domain: build_victims(config, list(mine.values()), _options_only(tuned), sources.get(domain, {}))
        for domain, mine in networks.items()
    }
    shares = [
        Share(
            images, indices, [victim for victim in victims[images.domain] if victim.network.name == name],
            possible(config.corruptions, images),
        )
        for images in sets
        for indices in batches(images.sizes, config.batch_size)
        for name in networks[images.domain]
        if images.networks is None or name in images.networks
    ]  # fmt: skip
    return Plan(
        task, config.name, out, config.seed, config.device, config.draws, config.gallery, config.save_images,
        config.round_8_bit, sets, [*metrics, *(block.found() for block in config.metrics)], missing, victims, shares,
    )  # fmt: skip


def _options_only(tuned: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What was tuned, without the facts about it."""
    return {label: {k: v for k, v in found.items() if k != "facts"} for label, found in tuned.items()}

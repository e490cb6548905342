"""From a config to a plan: the one place where a run's schema is read; what follows takes only what it uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from udc_robust.attacks import answers, frozen
from udc_robust.errors import UserError, unknown_name
from udc_robust.grid.cells import Cell, batches
from udc_robust.grid.images import Batch, Images
from udc_robust.grid.schema import RunConfig
from udc_robust.grid.task import Network, Task
from udc_robust.grid.victims import Victim, build_victims
from udc_robust.metrics import Metric

Networks = Mapping[str, Mapping[str, Network]]
"""By colour domain of the data, and by name."""


@dataclass(frozen=True)
class Share:
    """A batch and a network: what one process does in one go.

    Attributes:
        victims: of this network, the bare one first.
    """

    images: Images
    indices: Sequence[int]
    victims: Sequence[Victim]

    def units(self) -> Iterator[tuple[Victim, Cell | None]]:
        """Each victim unattacked (None), then in its cells."""
        for victim in self.victims:
            for cell in [None, *victim.cells]:
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
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two data blocks are called {twice!r}: give them different names")
    for images in sets:
        if images.domain == "linear" and config.round_8_bit:
            raise UserError(f"data {images.label!r} is linear light, which has no 8-bit levels: set round_8_bit: false")
    return sets


def loaded(task: Task, config: RunConfig, sets: Sequence[Images]) -> Networks:
    """Every network for every colour domain of the data.

    Raises:
        UserError: unknown names, bad weights, or images smaller than a network takes.
    """
    found = {domain: task.load(config, domain) for domain in dict.fromkeys(images.domain for images in sets)}
    for images in sets:
        smallest = min(min(size) for size in images.sizes)
        for network in found[images.domain].values():
            if smallest < network.min_size:
                raise UserError(
                    f"data {images.label!r} has an image with a side of {smallest} px; "
                    f"{network.name} needs {network.min_size}"
                )
    return found


def planned(
    task: Task, config: RunConfig, out: Path, sets: Sequence[Images], networks: Networks,
    tuned: Mapping[str, Mapping[str, Any]],
) -> Plan:  # fmt: skip
    """Everything that a run does.

    Args:
        tuned: options found for defences with ``match``, by victim label.

    Raises:
        UserError: a defence that cannot be built, a figure that an attack needs and that cannot be had.
    """
    metrics, missing = task.metrics(config)
    victims = {
        domain: build_victims(config, list(mine.values()), _options_only(tuned)) for domain, mine in networks.items()
    }
    shares = [
        Share(images, indices, [victim for victim in victims[images.domain] if victim.network.name == name])
        for images in sets
        for indices in batches(images.sizes, config.batch_size)
        for name in networks[images.domain]
    ]
    return Plan(
        task, config.name, out, config.seed, config.device, config.draws, config.gallery, config.save_images,
        config.round_8_bit, sets, [*metrics, *(block.found() for block in config.metrics)], missing, victims, shares,
    )  # fmt: skip


def _options_only(tuned: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What was tuned, without the facts about it."""
    return {label: {k: v for k, v in found.items() if k != "facts"} for label, found in tuned.items()}


@torch.no_grad()
def check_victims(task: Task, config: RunConfig, sets: Sequence[Images], networks: Networks) -> None:
    """Let every network, and every victim whose defence is not to be tuned, answer to one image, before any work.

    Raises:
        UserError: a defence that cannot be built, a network that does not take the images, or an answer that is not
            finite or not what the task needs.
    """
    untuned = config.model_copy(update={"defences": [block for block in config.defences if block.match is None]})
    victims = {domain: build_victims(untuned, list(mine.values()), {}) for domain, mine in networks.items()}
    for images in sets:
        batch = Batch.load(images, [0], config.device, config.seed, 1)
        for network in networks[images.domain].values():
            answer = _answer(network, batch, f"{task.network} {network.name!r}", network.origin)
            task.check(config, batch, network, answer)
        for victim in victims[images.domain]:
            if victim.defence is not None:
                _answer(victim.deployed, batch, f"victim {victim.label!r}", victim.network.origin)


def _answer(victim: Any, batch: Batch, what: str, origin: str) -> Tensor:
    """The answer ``(1,B,...)`` to a batch."""
    try:
        with frozen(victim):
            answer = answers(victim, batch.x, [0])
    except RuntimeError as error:
        size = f"{batch.x.shape[-2]} x {batch.x.shape[-1]} px"
        raise UserError(f"{what} does not take the images of {batch.images.label}, {size}: {error}") from error
    if not answer.isfinite().all():
        raise UserError(f"{what} answers with NaN or infinity: check {origin}")
    return answer


def checked_device(name: str) -> str:
    """The device, which torch must have.

    Raises:
        UserError: no device of that name, or none here.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise unknown_name("device", name, ["cpu", "cuda", "cuda:0"]) from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name!r} is none that this suite runs on: use cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("device: this machine has no CUDA GPU that torch can use; use `device: cpu`")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA GPUs, counted from 0")
    return name

"""A batch of images with what every unit of a grid needs of them; the grids of restorers and classifiers share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from udc_robust.attacks import Result, answers, frozen, image_seed


class Drawn(Protocol):
    """What a config says of luck: the run's ``seed``, and how many ``draws`` of a random victim are judged."""

    @property
    def seed(self) -> int: ...  # noqa: D102

    @property
    def draws(self) -> int: ...  # noqa: D102


class Judged(Protocol):
    """A victim, by its name in tables and as it is deployed."""

    @property
    def label(self) -> str: ...  # noqa: D102

    @property
    def deployed(self) -> nn.Module: ...  # noqa: D102


@dataclass
class Batch:
    """Images of one size.

    Attributes:
        data: name of the data set; ``total``: how many images it has.
        keys: names of this batch's images; ``indices``: where they stand in the set.
        x: ``(B,3,H,W)``; ``target``: ground truths, labels, or None.
        clean: judged answers to the unattacked images, by victim.
        bare: attacks made on bare networks, by network and cell: blind attacks are these, judged elsewhere.
    """

    data: str
    total: int
    keys: Sequence[str]
    indices: Sequence[int]
    x: Tensor
    target: Any
    clean: dict[str, Tensor] = field(init=False, default_factory=dict)
    bare: dict[tuple[str, str], Result] = field(init=False, default_factory=dict)

    def seeds(self, config: Drawn, name: str) -> list[int]:
        """A seed for each image, of the run's seed and a name."""
        return [image_seed(config.seed, f"{self.data}/{key}", name) for key in self.keys]

    def clean_outputs(self, config: Drawn, victim: Judged) -> Tensor:
        """What a victim answers to the unattacked images ``(draws,B,...)``, computed once."""
        if victim.label not in self.clean:
            with torch.no_grad(), frozen(victim.deployed):
                self.clean[victim.label] = answers(victim.deployed, self.x, self.seeds(config, "judge"), config.draws)
        return self.clean[victim.label]

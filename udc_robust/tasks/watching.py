"""Detectors in a restoration run: what they make of each capture that a restorer was shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from udc_robust.attacks import frozen
from udc_robust.grid.images import Images
from udc_robust.restorers.zoo import Restorer
from udc_robust.tasks.clean_images import clean_images
from udc_robust.tasks.guard import Guard, guard
from udc_robust.tasks.restoration_schema import RestorationConfig


def watch(
    restorers: Mapping[str, Restorer], config: RestorationConfig, opened: Callable[[Any], Images], domain: str
) -> None:
    """Put the run's detectors beside each restorer, as ``watchers``: functions of captures that give their scores.

    Raises:
        UserError: clean captures that are too few, of another domain or size, or among those judged.
    """
    clean = clean_images(config.clean, config.data, opened, domain, config.device)
    for restorer in restorers.values():
        guards = {block.name: guard(block, restorer, clean, config.seed) for block in config.detectors}
        object.__setattr__(restorer, "watchers", {name: _scores(made) for name, made in guards.items()})


def _scores(made: Guard) -> Callable[[Tensor], list[float]]:
    @torch.no_grad()
    def scores(captures: Tensor) -> list[float]:
        with frozen(made):
            found: list[float] = made.score(captures).tolist()
        return found

    return scores

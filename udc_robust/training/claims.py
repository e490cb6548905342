"""What a training says of its result beside figures: a licence and a description, true of what they were written of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from udc_robust.training.config import Training

# What a licence and a description are true of.
MADE_OF = {
    "train", "validation", "parent", "teacher", "network", "options", "weights", "recipe", "purifier", "mode", "steps",
}  # fmt: skip


def about(config: Training, what: str) -> str:
    """The first paragraph of a card: the config's own words, or what was trained on what."""
    data = Path(config.train) if isinstance(config.train, str) else config.train
    return config.about.strip() or f"{what}, trained on `{data.name}` for {config.steps:,} steps."


def without_claims(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A training's values without ``licence`` and ``about`` where an override changes what they were written of.

    Nor does another network take the ``options`` of the one that the config was written for.
    """
    changed = {override.partition("=")[0].split(".")[0] for override in overrides}
    claims = {"licence", "about"} - changed if changed & MADE_OF else set()
    claims |= {"options"} - changed if "network" in changed else set()
    return {key: value for key, value in values.items() if key not in claims}

"""The card that travels with trained weights, as Markdown: what was made, from what, how, and how good it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from udc_robust.config_file import plain
from udc_robust.portable import portable
from udc_robust.training.claims import about
from udc_robust.training.config import Training
from udc_robust.training.loop import Trained


def common_facts(config: Training, trained: Trained, network: nn.Module) -> dict[str, Any]:
    """What every card and every weights file says of its training.

    Args:
        network: what is shipped of the trained network.
    """
    return {
        "name": config.name, "parameters": sum(p.numel() for p in network.parameters()), "steps": config.steps,
        "seconds": round(trained.seconds), "arithmetic": trained.arithmetic, "validation": trained.validation,
        "licence": config.licence, "seed": config.seed,
    }  # fmt: skip


def metadata(facts: dict[str, Any]) -> dict[str, Any]:
    """What a weights file says of itself: the same for the same training, however often it was stopped and where."""
    return portable({key: value for key, value in facts.items() if key not in ("seconds", "arithmetic")})


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def model_card(
    config: Training,
    facts: dict[str, Any],
    *,
    command: str,
    tags: str,
    what: str,
    lines: Sequence[str],
    figures: str,
    library: str = "udc_robust",
) -> str:
    """A card for the Hugging Face hub.

    Args:
        facts: those of `common_facts` and the training's own.
        command: that made it.
        what: it is, for a config that says nothing about it.
        lines: one fact each: network, data ...
        figures: tables and words on how good it is.
    """
    settings = portable(plain(config, {"out", "about", "train", "validation"}))
    spent = f"trained for {facts['steps']} steps, {facts['seconds']} seconds, in {facts['arithmetic']}"
    lines = [*lines, f"{spent}; the averaged (EMA {config.ema}) weights are shipped"]
    listed = "\n".join(f"- {line}" for line in portable(lines))
    return f"""---
license: {config.licence.lower()}
library_name: {library}
tags: [{tags}]
---
# {config.name}

{about(config, what)}

{listed}

{portable(figures)}

Made by `udc-robust {command}` with

```json
{json.dumps(settings, indent=1)}
```
"""

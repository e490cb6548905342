"""The state of a training, in one file that is written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from udc_robust.errors import UserError
from udc_robust.files import atomic_path
from udc_robust.grid.identity import changed_files


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write the state; a kill at any moment leaves the old file or the new one."""
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path, settings: dict[str, Any], inputs: Mapping[str, str]) -> dict[str, Any] | None:
    """Read the state, or None where there is none yet.

    Args:
        inputs: a digest of every file that the training reads, by its name.

    Raises:
        UserError: the file is damaged, or belongs to a training with other settings or files (they are named).
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler answers garbage with any exception there is
        raise UserError(f"{path} is damaged ({type(error).__name__}): delete it to start again") from error
    differing = [key for key in settings if state["settings"].get(key) != settings[key]]
    if differing:
        raise UserError(
            f"{path.parent} holds a training with another {', '.join(differing)}: choose another `out`, or delete it"
        )
    if changed := changed_files(state.get("inputs", {}), inputs):
        raise UserError(
            f"{path.parent} holds a training of other files ({changed} changed): choose another `out`, or delete it"
        )
    return state

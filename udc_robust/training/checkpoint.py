"""The state of a training, in one file that is written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from udc_robust.errors import UserError
from udc_robust.files import atomic_path
from udc_robust.grid.identity import changed_files
from udc_robust.training.curves import CURVES

STATE = "state.pt"


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
    if not path.exists():
        return None
    with whole(path):
        if not path.is_file():  # reading a pipe would wait without end
            raise ValueError
        state = torch.load(path, map_location="cpu", weights_only=True)
        differing = [key for key in settings if state["settings"].get(key) != settings[key]]
        changed = changed_files(state.get("inputs", {}), inputs)
    if differing:
        raise UserError(
            f"{path.parent} holds a training with another {', '.join(differing)}: choose another `out`, or delete it"
        )
    if changed:
        raise UserError(
            f"{path.parent} holds a training of other files ({changed} changed): choose another `out`, or delete it"
        )
    return state


@contextlib.contextmanager
def whole(path: Path) -> Iterator[None]:
    """Tell what a damaged state makes of its reading: torch answers with any exception there is."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}): delete it to start again") from error


def check_result(path: Path) -> None:
    """Make sure that a result is this training's: it lies beside a state or curves, or it is not there yet.

    Raises:
        UserError: something else is at its place.
    """
    if os.path.lexists(path) and not any((path.parent / name).exists() for name in (STATE, CURVES)):
        raise UserError(f"{path} is there already, and no training of it: choose another `name` or `out`")

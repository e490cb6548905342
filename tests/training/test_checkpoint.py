"""The state of a training: whose it is, and whole or not there."""

from __future__ import annotations

import os

import pytest
import torch

from udc_robust.errors import UserError
from udc_robust.training.checkpoint import load_state, save_state


def test_a_state_belongs_to_its_settings(tmp_path) -> None:
    path, settings = tmp_path / "out" / "state.pt", {"lr": 0.1, "weights": None, "steps": 3}
    assert load_state(path, settings, {}) is None
    save_state(path, {"settings": settings, "inputs": {}, "step": 2, "network": {"w": torch.ones(2)}})
    state = load_state(path, dict(settings), {})
    assert state is not None and state["step"] == 2 and state["network"]["w"].tolist() == [1, 1]
    for change, named in (
        ({"lr": 0.2}, "lr"),
        ({"clip": 1.0}, "clip"),
        ({"weights": "x", "steps": 4}, "weights, steps"),
    ):
        with pytest.raises(UserError, match=f"holds a training with another {named}: choose another `out`"):
            load_state(path, {**settings, **change}, {})


def test_a_pipe_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "state.pt")
    with pytest.raises(UserError, match=r"state\.pt is damaged"):
        load_state(tmp_path / "state.pt", {}, {})

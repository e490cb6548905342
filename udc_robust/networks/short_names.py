"""How a config may name a network in short: by its weights file, or by its code. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SUFFIXES = (".safetensors", ".pth", ".pt", ".th", ".ckpt")
"""Endings of weights files."""


def named_by_file(values: Any) -> Any:
    """A block of a config whose ``name`` is a weights file, or code: that file's stem, or the class, is its name.

    So ``restorers: runs/train/mine/mine.safetensors`` and ``restorers: nets.py:Net`` work wherever a name does.
    """
    name = values.get("name") if isinstance(values, Mapping) else None
    if not isinstance(name, str):
        return values
    if name.endswith(SUFFIXES) and values.get("weights") is None:
        return {**values, "name": Path(name).stem, "weights": name}
    if ":" in name and values.get("network") is None:
        return {**values, "name": name.rpartition(":")[2], "network": name}
    return values

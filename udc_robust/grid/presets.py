"""Presets: attacks under one name that anyone can quote, for every task.

``preset: standard`` means the newest version, whose name (``standard-3``) the run keeps: a preset never changes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from udc_robust.errors import unknown_name
from udc_robust.files import shipped

USUAL = "standard"
OTHERS = "others"


def names() -> list[str]:
    """All versions of all presets, the newest of each last."""
    return sorted((path.stem for path in (shipped("configs") / "presets").glob("*.yaml")), key=_version)


def _version(name: str) -> tuple[str, int]:
    kind, _, number = name.rpartition("-")
    return kind, int(number)


def full_name(preset: str) -> str:
    """``standard-3`` for ``standard``; a version stays what it is.

    Raises:
        UserError: no such preset.
    """
    found = [name for name in names() if preset in (name, _version(name)[0])]
    if not found:
        kinds = dict.fromkeys(_version(name)[0] for name in names())
        raise unknown_name("preset", preset, [*kinds, *names()])
    return found[-1]


@functools.cache
def _read(name: str) -> Mapping[str, Any]:
    path: Path = shipped("configs") / "presets" / f"{name}.yaml"
    loaded: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def blocks(name: str, task: str, networks: Sequence[str]) -> list[dict[str, Any]]:
    """The attack blocks of a preset.

    Args:
        name: with its version.
        networks: of the run: ``sources: others`` are all of them, as each is left out of its own sources. Where there
            is one only, a transfer has no source and is left out, and a query attack begins by itself.

    Raises:
        UserError: the preset has no attacks for this task.
    """
    known = _read(name)
    if task not in known:
        raise unknown_name(f"task of preset {name!r}", task, known)
    found = []
    for block in known[task]:
        if block.get("sources") != OTHERS:
            found.append(dict(block))
        elif len(networks) > 1:
            found.append({**block, "sources": list(networks)})
        elif block.get("access") != "transfer":
            found.append({key: value for key, value in block.items() if key not in ("sources", "start")})
    return found


def with_preset(values: Mapping[str, Any], task: str, networks: Sequence[str]) -> dict[str, Any]:
    """A config with its preset's attacks before its own; without either, those of ``standard``, or corruptions alone.

    Those that are there already, by name, stay: a run's config.yaml holds both the preset and its attacks.
    """
    own, preset = values.get("attacks") or [], values.get("preset")
    if preset is None and (own or values.get("corruptions")):
        return dict(values)
    name = full_name(USUAL if preset is None else str(preset))
    known = [block.get("name") for block in own if isinstance(block, Mapping)]
    missing = [block for block in blocks(name, task, networks) if block["name"] not in known]
    return {**values, "preset": name, "attacks": [*missing, *own]}

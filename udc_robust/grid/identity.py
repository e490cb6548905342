"""What makes a run this run: its config and every file that the config names; and the facts that travel with it.

The files are found by looking at the config itself: whatever is written in it that is a file, a folder, code of the
user or a checkpoint that ships. Nothing is listed by hand, so an option that a defence gains tomorrow is covered.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import BaseModel

import udc_robust
from udc_robust.config_file import plain
from udc_robust.defences.registry import stated_texts
from udc_robust.errors import UserError
from udc_robust.files import disk_errors, read_text, sha256_of, shipped, write_text
from udc_robust.grid.images import Images
from udc_robust.grid.network import Network
from udc_robust.grid.plan import Networks, Plan
from udc_robust.grid.schema import RunConfig
from udc_robust.grid.task import Task
from udc_robust.networks.source_files import source_files
from udc_robust.portable import portable

INPUTS = "inputs.json"
# Names and places that a config holds beside what it is made of.
_NO_INPUTS = {"name", "out", "device", "task", "licence", "about"}


def claim_folder(
    task: Task, config: RunConfig, out: Path, sets: Sequence[Images], networks: Sequence[Mapping[str, Network]]
) -> None:
    """Write the resolved config into an empty run folder; in a used one make sure that it is the same run.

    Args:
        networks: by name, those under test and the sources of attacks.
    """
    images = digest([(data.label, data.keys, data.sizes, data.digest()) for data in sets])
    weights = {network.name: file_digest(network.origin) for mine in networks for network in mine.values()}
    models = [text for kind, options in config.all_defences for text in stated_texts(kind, options)]
    claim(out, config, {"images": images, "weights": weights}, former_schema=task.schema, also=models)


def claim(
    out: Path, config: BaseModel, fingerprint: Mapping[str, Any], *, former_schema: type[BaseModel] | None = None,
    also: Sequence[str] = (),
) -> None:  # fmt: skip
    """Write a resolved config with what it was run on into an empty folder; in a used one make sure they are the same.

    Args:
        former_schema: reads the config of an older run, in which later keys are missing.
        also: files and folders that the config means without naming them: defaults.

    Raises:
        UserError: ``out`` holds another run, or something else; the message names the keys or the files that differ.
    """
    files = input_digests(config, also)
    fingerprint = {**fingerprint, "inputs": digest(files)}
    files = {str(portable(name)): found for name, found in files.items()}
    resolved = plain(config, {"out"}) | {"fingerprint": fingerprint}
    path = out / "config.yaml"
    if path.exists():
        former = _former(path, former_schema)
        if former and former_schema is not None:  # an evaluation's name is a title; a training's names its files
            former["name"] = resolved["name"]
        _check_same(out, resolved, former, files)
        return
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    others = sorted(name.name for name in out.iterdir() if not name.name.startswith(".") and name.name != INPUTS)
    if others:
        holds = "has lost its config.yaml" if "journal.jsonl" in others else "holds no run"
        raise UserError(f"{out} is not empty and {holds}: choose another `out`, or delete that folder")
    write_text(out / INPUTS, json.dumps(files, indent=1))
    write_text(path, yaml.safe_dump(resolved, sort_keys=False))


def _former(path: Path, schema: type[BaseModel] | None) -> dict[str, Any]:
    """The config of the run that a folder holds, with every default written out.

    Raises:
        UserError: it cannot be read.
    """
    try:
        former = yaml.safe_load(read_text(path))
        if not isinstance(former, dict):
            raise ValueError(f"it holds {type(former).__name__}")
        if not isinstance(former.get("fingerprint", {}), dict):
            raise ValueError("its fingerprint is no block")
        if schema is not None:
            known = plain(schema.model_validate(former), {"out"})
            former = {**known, "fingerprint": former.get("fingerprint", {})}
    except (OSError, yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} is damaged ({reason}): put it back, choose another `out`, or delete that folder to run again"
        ) from error
    return former


def _check_same(out: Path, resolved: Mapping[str, Any], former: Mapping[str, Any], files: Mapping[str, str]) -> None:
    if not former:
        raise UserError(
            f"{out} holds a run that this version cannot go on with: its config.yaml is damaged or of an older one; "
            "choose another `out` (`udc-robust report` may still read it)"
        )
    differing = sorted(key for key in {*resolved, *former} if former.get(key) != resolved.get(key))
    if not differing:
        return
    if differing != ["fingerprint"]:
        told = [key for key in differing if key != "fingerprint"]
        where = "; ".join(_change(key, former.get(key), resolved.get(key)) for key in told)
        raise UserError(f"{out} holds a run with another {where}: choose another `out`, or delete that folder")
    try:
        before = json.loads(read_text(out / INPUTS))
    except (OSError, ValueError):
        before = {}
    before = before if isinstance(before, dict) else {}
    named = (changed_files(before, files) if before else "") or "its images or weights"
    raise UserError(f"{out} holds a run of other inputs ({named} changed): choose another `out`, or delete that folder")


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The names under which two tables of `input_digests` differ, in short; empty where they agree."""
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    return f"{', '.join(changed[:3])}{' and more' if len(changed) > 3 else ''}"


def _change(key: str, before: Any, now: Any) -> str:
    """The first key within a block that differs, with both values; a block that is on one side only by its name."""
    if isinstance(before, dict) and isinstance(now, dict):
        inner = next(name for name in {**before, **now} if before.get(name) != now.get(name))
        return _change(f"{key}.{inner}", before.get(inner), now.get(inner))
    if isinstance(before, list) and isinstance(now, list):
        if len(before) != len(now):
            return f"{key} ({len(before)} there, {len(now)} here)"
        place = next(i for i, (one, other) in enumerate(zip(before, now, strict=True)) if one != other)
        return _change(f"{key}.{place}", before[place], now[place])
    return f"{key} ({before} there, {now} here)"


def input_digests(config: BaseModel, also: Sequence[str] = ()) -> dict[str, str]:
    """A short hash of every file that a config names, by the name it has there."""
    found: dict[str, str] = {}
    for written, path in input_paths(config, also).items():
        if path.is_file():
            found[written] = file_digest(str(path))
        else:
            for file in sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")):
                found[f"{written}/{file.relative_to(path)}"] = file_digest(str(file))
    return found


def input_paths(config: BaseModel, also: Sequence[str] = ()) -> dict[str, Path]:
    """Every file and folder that a config names, by the name it has there, and what code of the user imports."""
    found: dict[str, Path] = {}
    for written in sorted({*_texts(config.model_dump(mode="json")), *also}):
        path = _input(written)
        found |= source_files(written) if path is None else {written: path}
    return found


def _texts(value: Any, key: str = "") -> Iterator[str]:
    """All texts in plain values, but for names."""
    if isinstance(value, str) and key not in _NO_INPUTS:
        yield value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _texts(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part, key)


def _input(written: str) -> Path | None:
    """The file or folder that a text of a config means, or None."""
    try:
        path = Path(written)
        if written.strip(". ") and path.exists():
            return path
        checkpoints = shipped("checkpoints")
        kinds = [checkpoints, *(folder for folder in checkpoints.iterdir() if folder.is_dir())]
        for path in (*(kind / f"{written}.safetensors" for kind in kinds), checkpoints / written):
            if written.strip("./ ") and "/" not in written and path.exists():
                return path
    except OSError:  # a text too long for a path
        return None
    return None


def digest(value: Any) -> str:
    """A short hash of plain values."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def file_digest(origin: str) -> str:
    """A short hash of a file; what is no file is told as it is."""
    return sha256_of(origin)[:16] if Path(origin).is_file() else origin


def versions() -> dict[str, str]:
    """Of what figures depend on."""
    import torchvision

    return {
        "udc_robust": udc_robust.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }


def facts_of(
    plan: Plan, config: RunConfig, command: str, networks: Networks, tuned: Mapping[str, Mapping[str, Any]],
    sources: Networks,
) -> dict[str, Any]:  # fmt: skip
    """How a run was called and on what, as ``run.json`` tells it."""
    victims = [victim for listed in plan.victims.values() for victim in listed]
    return {
        "name": plan.name,
        "task": plan.task.name,
        "preset": config.preset,
        "command": command,
        "seed": plan.seed,
        "device": plan.device,
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "data": {
            data.label: {"images": len(data.keys), "domain": data.domain, "truth": data.truth, **data.facts}
            for data in plan.sets
        },
        "networks": _networks_facts(plan.task, networks),
        **({"sources": _networks_facts(plan.task, sources)} if sources else {}),
        "defences": {
            victim.label: {
                "kind": victim.block.kind,
                "options": {**victim.options, **tuned.get(victim.label, {})},
                "gradients": {
                    name: {"exactness": way.exactness, "memory": way.memory} for name, way in victim.gradients.items()
                },
                "random": victim.random,
                "nfe": victim.nfe,
            }
            for victim in victims
        },
        "metrics": {metric.name: metric.told() for metric in plan.metrics},
        "missing": plan.missing,
    }  # fmt: skip


def _networks_facts(task: Task, networks: Networks) -> dict[str, dict[str, Any]]:
    """Class, size and weights of networks, by name."""
    return {
        network.name: {
            "network": type(network.network).__name__,
            "parameters": sum(p.numel() for p in network.network.parameters()),
            "trained": network.trained,
            "origin": Path(network.origin).name if network.trained else network.origin,
            **task.facts(network),
        }
        for mine in networks.values() for network in mine.values()
    }  # fmt: skip

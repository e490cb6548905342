"""Run folders of versions before 0.2, in which each task had a schema and names of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def as_now(settings: Any, facts: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config and the facts of a run as this version writes them; what is written so already stays.

    Raises:
        TypeError, AttributeError, KeyError: they are not what any version wrote.
    """
    if "task" in settings:
        return dict(settings), dict(facts)
    classifies = "classifiers" in settings
    kind = "classifiers" if classifies else "restorers"
    settings = {"task": "classification" if classifies else "restoration", **settings}
    settings["attacks"] = [_without(block, classifies) for block in settings["attacks"]]
    settings["defences"] = [
        {key: value for key, value in block.items() if not (classifies and key == "restorers")}
        for block in settings["defences"]
    ]
    truth = {block.get("name") or block.get("kind"): block.get("kind") != "folder" for block in settings["data"]}
    data = {
        name: {"domain": "srgb", "truth": classifies or truth.get(name, _has_truth(settings, name)), **about}
        for name, about in facts["data"].items()
    }
    networks = {
        name: {**about, "domain": about["light"]} if "light" in about else about for name, about in facts[kind].items()
    }
    unknown = {"exactness": "", "memory": ""}
    defences = {
        name: {**about, "gradients": about.get("gradients") or dict.fromkeys(about["ways"], unknown)}
        for name, about in facts["defences"].items()
    }
    now = {"data": data, "networks": networks, "defences": defences, "missing": facts.get("lpips_reason", "")}
    return settings, {**facts, "task": settings["task"], **now}


def former_columns(settings: Mapping[str, Any]) -> dict[str, str]:
    """Columns that another name has now, or none (empty): the one of LPIPS was always there and named no backbone."""
    backbone = settings.get("lpips")
    return {"lpips": f"lpips_{backbone}" if isinstance(backbone, str) else ""}


def _without(block: Mapping[str, Any], classifies: bool) -> dict[str, Any]:
    return {key: value for key, value in block.items() if not (classifies and key in ("against", "drop_db"))}


def _has_truth(settings: Mapping[str, Any], name: str) -> bool:
    """Of data that is named by its folder."""
    return not any(
        block.get("kind") == "folder" and str((block.get("lq") or [""])[0]).rstrip("/").endswith(name)
        for block in settings["data"]
    )

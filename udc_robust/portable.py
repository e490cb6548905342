"""Texts that travel: reports, cards and weights name files, but not where they lie on somebody's machine."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Not within a longer path, an address of the web, or a fraction.
_START = r"(?<![\w.~/)-])"
_PATH = re.compile(_START + r"/(?!/)[^\s'\"`=,;:{}\[\]()<>|]*")
_END = r"(?=$|[/\s'\"`:,}\]])"
_HOMES = re.compile(_START + r"(?:/(?:home|Users)/[^/\s'\"`:,}\]]+|/root)" + _END)


def portable(value: Any) -> Any:
    """Plain values in which absolute paths are relative to here or to the home, or else their last two parts."""
    if isinstance(value, str):
        return _portable(value)
    if isinstance(value, Mapping):
        return {key: portable(part) for key, part in value.items()}
    return [portable(part) for part in value] if isinstance(value, list | tuple) else value


def _portable(text: str) -> str:
    if "/" not in text:
        return text
    for folder, below, alone in _known_folders():
        text = re.sub(f"{_START}{re.escape(folder)}/", below, text)
        text = re.sub(f"{_START}{re.escape(folder)}{_END}", alone, text)
    text = _HOMES.sub("~", text)
    before, equals, value = text.partition("=")
    if text.startswith("/"):
        return _last_parts(text)
    if equals and value.startswith("/"):
        return f"{before}={_last_parts(value)}"
    return _PATH.sub(lambda found: _last_parts(found[0]), text)


def _known_folders() -> list[tuple[str, str, str]]:
    """The working folder and the home, in all their spellings, with what stands for them before a name and alone."""
    here = {os.getcwd(), os.environ.get("PWD", "")} - {"", "/"}
    home = os.path.expanduser("~")
    homes = {home, os.path.realpath(home)} - {"", "/", "~"}
    return [*((folder, "", ".") for folder in here), *((folder, "~/", "~") for folder in homes)]


def _last_parts(path: str) -> str:
    return str(Path(*Path(path).parts[1:][-2:])) if path.strip("/") else path

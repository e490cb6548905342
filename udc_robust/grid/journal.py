"""The journal of a run: append-only JSON lines that survive a kill at any byte."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from udc_robust.errors import UserError
from udc_robust.files import disk_errors

_RUN: Mapping[str, type] = {"rows": list, "cost": dict}


class Journal:
    """Finished units of a run, by key.

    A unit is one (data, batch, victim, attack, eps). Its line is written and synced after its images, so what the
    journal names is complete; a line cut off by a kill is dropped when its process opens the journal again. Each
    process of a run writes a file of its own and reads those of all, also of an earlier run with more processes.
    """

    def __init__(self, folder: Path, rank: int = 0, *, holds: Mapping[str, type] = _RUN) -> None:
        """Read what is there.

        Args:
            folder: of the run.
            rank: of this process.
            holds: what each line says of its unit, with its type.

        Raises:
            UserError: a line or a file is damaged.
        """
        self._path = folder / (f"journal.{rank}.jsonl" if rank else "journal.jsonl")
        self._holds = {"unit": str, **holds}
        self.units: dict[str, dict[str, Any]] = {}
        for path in sorted(folder.glob("journal*.jsonl")):
            self._read(path)

    def _read(self, path: Path) -> None:
        if not path.is_file():
            raise UserError(f"{path} is no file: move it away to redo its units")
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for i, line in enumerate(whole.splitlines(), 1):
            try:
                self._keep(json.loads(line))
            except (ValueError, RecursionError) as error:
                reason = " ".join(str(error).split())
                raise UserError(f"{path}: line {i} is damaged ({reason}): delete that line to redo its unit") from error
        if whole != content and path == self._path:
            with disk_errors(self._path), open(self._path, "r+b") as handle:
                handle.truncate(len(whole))

    def _keep(self, entry: Any) -> None:
        """Take a line in.

        Raises:
            ValueError: it is no line of a journal.
        """
        if not isinstance(entry, dict):
            raise ValueError("it is no object")
        for name, kind in self._holds.items():
            if not isinstance(entry.get(name), kind):
                raise ValueError(f"it has no {name}")
        for row in entry.get("rows", []):
            known = isinstance(row, dict) and isinstance(row.get("image"), str)
            size = row.get("severity", row.get("eps")) if known else None
            if isinstance(size, bool) or not isinstance(size, int | float):
                raise ValueError("a row of it names no image or budget")
        self.units[entry["unit"]] = entry

    def add(self, unit: str, **entry: Any) -> None:
        """Append one finished unit and wait until it is on disk."""
        line = json.dumps({"unit": unit, **entry}, separators=(",", ":")) + "\n"
        with disk_errors(self._path), open(self._path, "ab") as handle:
            before = handle.tell()
            try:
                handle.write(line.encode())
                handle.flush()
                os.fsync(handle.fileno())
            except OSError:
                handle.truncate(before)
                raise
        self.units[unit] = {"unit": unit, **entry}

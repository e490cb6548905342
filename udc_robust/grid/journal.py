"""The journal of a run: append-only JSON lines that survive a kill at any byte."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from udc_robust.errors import UserError
from udc_robust.files import disk_errors


class Journal:
    """Finished units of a run, by key.

    A unit is one (data, batch, victim, attack, eps). Its line is written and synced after its images, so what the
    journal names is complete; a line cut off by a kill is dropped when its process opens the journal again. Each
    process of a run writes a file of its own and reads those of all, also of an earlier run with more processes.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self._path = folder / (f"journal.{rank}.jsonl" if rank else "journal.jsonl")
        self.units: dict[str, dict[str, Any]] = {}
        for path in sorted(folder.glob("journal*.jsonl")):
            self._read(path)

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for i, line in enumerate(whole.splitlines(), 1):
            try:
                entry = json.loads(line)
                self.units[entry["unit"]] = entry
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise UserError(f"{path}: line {i} is damaged ({error}): delete that line to redo its unit") from error
        if whole != content and path == self._path:
            with disk_errors(self._path), open(self._path, "r+b") as handle:
                handle.truncate(len(whole))

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

"""Cost of an attack, counted at the victim's door: forwards, backwards, queries, seconds and peak memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor


@dataclass
class Meter:
    """Counts for each image of a batch. A query is a forward whose gradient nobody asked for."""

    batch: int
    forwards: Tensor = field(init=False)
    backwards: Tensor = field(init=False)
    queries: Tensor = field(init=False)
    seconds: float = 0.0
    peak_bytes: int = 0

    def __post_init__(self) -> None:
        self.forwards, self.backwards, self.queries = (torch.zeros(self.batch, dtype=torch.long) for _ in range(3))

    def count(self, rows: Tensor | None, *, backward: bool, times: int = 1) -> None:
        """Note ``times`` forwards (and backwards) of the images ``rows``, all of them when None."""
        where = slice(None) if rows is None else rows.cpu()
        self.forwards[where] += times
        (self.backwards if backward else self.queries)[where] += times

    @contextlib.contextmanager
    def running(self, device: torch.device) -> Iterator[None]:
        """Measure wall seconds and the peak memory above the level at the start, for the whole batch."""
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
        else:
            before = _reset_resident_peak()
        started = time.perf_counter()
        yield
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            peak = torch.cuda.max_memory_allocated(device)
        else:
            peak = _resident_peak()
        self.seconds += time.perf_counter() - started
        self.peak_bytes = max(self.peak_bytes, peak - before)


def _reset_resident_peak() -> int:
    """Ask Linux to forget this process's peak resident size; return the present size (0 where there is no /proc)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status_bytes("VmRSS")


def _resident_peak() -> int:
    return _status_bytes("VmHWM")


def _status_bytes(name: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return 0

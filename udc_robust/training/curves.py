"""Training curves for TensorBoard, in files whose names say nothing of whose machine wrote them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CURVES = "tensorboard"


class Curves:
    """Numbers by name and step, in a file of this process; use as ``with Curves(out / CURVES) as curves:``.

    TensorBoard's own writer puts the host's name into the file's (``tensorboard.summary.Writer``).

    Args:
        folder: is made; None: nothing is written.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        if self._folder is not None:
            from tensorboard.summary.writer.record_writer import RecordWriter

            self._folder.mkdir(parents=True, exist_ok=True)
            # TensorBoard takes files with `tfevents` in their name, sorted by it.
            name = f"events.out.tfevents.{int(time.time()):010d}.{os.getpid()}"
            self._file = open(self._folder / name, "wb")
            self._records = RecordWriter(self._file)
            self._write(file_version="brain.Event:2")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        if self._folder is not None:
            self._file.close()

    def add(self, numbers: Mapping[str, float], step: int) -> None:
        """Add a point to each of some curves."""
        if self._folder is not None:
            from tensorboard.compat.proto.summary_pb2 import Summary

            values = [Summary.Value(tag=name, simple_value=number) for name, number in numbers.items()]
            self._write(step=step, summary=Summary(value=values))

    def _write(self, **parts: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **parts).SerializeToString())
        self._records.flush()

"""The processes of one run, as ``torchrun`` or ``accelerate launch`` start them; mostly there is one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def is_main() -> bool:
    """Whether this process is the only one or the first: the one that speaks and writes what all share."""
    return int(os.environ.get("RANK", "0")) == 0


def several() -> bool:
    """Whether this process was launched with others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def first_to_speak() -> bool:
    """Of the processes of one launch on one machine, the first to ask is the one that tells why the run ends."""
    if not several():
        return True
    place = os.environ.get("TORCHELASTIC_ERROR_FILE")  # .../launch/attempt/rank/error.json
    if place is None:
        return is_main()
    try:
        os.close(os.open(Path(place).parents[1] / "told", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    except OSError:
        return is_main()
    return True


class Processes:
    """Rank and count of this run's processes, and ways to wait for one another.

    Attributes:
        rank: number of this process from 0.
        count: how many there are.
    """

    def __init__(self) -> None:
        self.rank, self.count, self._state = 0, 1, None
        if several():
            from accelerate import PartialState

            self._state = PartialState(cpu=True)  # units need no communication: the processes only wait for one another
            self.rank, self.count = self._state.process_index, self._state.num_processes

    @property
    def is_main(self) -> bool:
        """Whether this is the first process."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self._state is not None:
            self._state.wait_for_everyone()

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process do this first; the others then find it done."""
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()

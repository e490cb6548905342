"""Ctrl-C and SIGTERM: a command stops at once, and says in one line how to go on.

Only the standard library is loaded here, so that this works from the first moment of a command.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

from udc_robust.processes import first_to_speak

# What is left half done by these is made again; all the others keep what they have finished.
STARTS_AGAIN = {"init", "restore", "purify", "report", "leaderboard", "psf", "psf-code", "models", "configs", "doctor"}
_PATIENCE = 3.0
"""Seconds that a computation outside of Python has to end after a signal."""


class Stopped(BaseException):
    """The user or the system asked to stop; no handler of ordinary exceptions catches it."""


class Stop:
    """The signal that came, if one did."""

    def __init__(self) -> None:
        self.signal = 0

    def leave(self) -> None:
        """Say how to go on, and end without waiting for threads of libraries: 130 for Ctrl-C, 143 for SIGTERM."""
        verb = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        again = "starts again" if verb in STARTS_AGAIN else "goes on where it was"
        if first_to_speak():
            os.write(2, f"udc-robust: stopped; the same command {again}\n".encode())
        os._exit(128 + self.signal)


_active: list[Stop] = []


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` when a signal asks to stop, and leave when all is in order; the outermost of several does."""
    if _active or threading.current_thread() is not threading.main_thread():
        yield
        return
    stop, process = Stop(), os.getpid()

    def handle(number: int, frame: object) -> None:
        if os.getpid() != process:  # a worker that a library forked
            os._exit(128 + number)
        if stop.signal:
            stop.leave()
        stop.signal = number
        raise Stopped

    # A command in the background of a shell is started with Ctrl-C ignored, and so it stays.
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in numbers}
    _active.append(stop)
    try:
        with _watched(stop, numbers):
            yield
    except BaseException:
        if not stop.signal:
            raise
        stop.leave()
    finally:
        _active.remove(stop)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _watched(stop: Stop, numbers: Sequence[int]) -> Iterator[None]:
    """A thread that leaves when a computation outside of Python, or another thread, lets a signal wait."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    ended = threading.Event()

    def watch() -> None:
        while came := os.read(reading, 1):
            if came[0] in numbers and not ended.wait(_PATIENCE):
                stop.signal = came[0]
                stop.leave()
        os.close(reading)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        if not stop.signal:  # else the watch goes on until the end
            ended.set()
        signal.set_wakeup_fd(before)
        os.close(writing)


# A signal to a worker that a library forked is no signal to this process.
os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))

"""Progress bars for long work; plain lines now and then where the output is no terminal."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from udc_robust.processes import is_main
from udc_robust.terminal import shown


def plain_console(**options: Any) -> Console:
    """A console that takes no text for markup or emoji."""
    return Console(markup=False, emoji=False, highlight=False, **options)


console = plain_console(stderr=True)
_PATIENCE = 4.5  # seconds: nothing stands still for more than five
Tick = Callable[..., None]


def note(text: str) -> None:
    """One line to the user on stderr, once for all processes; what looks like markup in it is text."""
    if is_main():
        console.print(shown(text), soft_wrap=True)


_running: list[Callable[[str], None]] = []


@dataclass
class _Work:
    """What is being done within a step of the innermost bar.

    Attributes:
        passes: through a network that it will take, where it is known; 0: it is not.
        begun: passes begun; ``parts``: parts of images that are done, in all passes.
    """

    text: str = ""
    passes: int = 0
    begun: int = 0
    parts: int = 0
    since: float = field(default_factory=time.monotonic)

    def part(self, number: int, count: int) -> str:
        """What to say when part ``number`` of ``count`` of a pass is done."""
        self.begun += number == 1
        self.parts += 1
        passes = max(self.passes, self.begun)
        left = (time.monotonic() - self.since) / self.parts * (passes * count - self.parts)
        of = f"pass {self.begun}/{passes}, " if self.passes else ""
        return f"{self.text}, {of}tile {number}/{count}, about {spell(max(left, 0))} left".removeprefix(", ")


_work = _Work()


def doing(text: str, passes: int = 0) -> None:
    """What is being done within a step of the innermost bar, where there is one.

    Args:
        passes: through a network that it will take: large images are told tile by tile, with the time that is left.
    """
    global _work
    _work = _Work(text, passes)
    if _running:
        _running[-1](text)


def part_done(number: int, count: int) -> None:
    """Tell that part ``number`` of ``count`` of an image went through a network."""
    if _running:
        _running[-1](_work.part(number, count))


def spell(seconds: float) -> str:
    """A time as people say it: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@contextlib.contextmanager
def progress(
    title: str, total: int, done: int = 0, *, quiet: bool = False, brief: bool = False
) -> Iterator[Tick]:  # fmt: skip
    """Yield ``tick(note="", advance=1)``.

    On a terminal it draws a bar, whose spinner and clock never stand still; elsewhere (CI, a log file) it prints a line
    every five seconds, within a long step too.

    Args:
        brief: for what is mostly done at once: the bar is gone afterwards, and no line says that it is done.
    """
    if quiet:
        yield lambda note="", advance=1: None
        return
    columns = (
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=brief) as bar:
        title = shown(title)
        task = bar.add_task(title, total=total, completed=done, note="")
        started = last_line = time.monotonic()
        over = threading.Event()

        def line(text: str) -> None:
            nonlocal last_line
            last_line = time.monotonic()
            console.print(f"{title}: {bar.tasks[0].completed:.0f}/{total} {text}")

        def tick(note: str = "", advance: int = 1) -> None:
            bar.update(task, advance=advance)
            note = shown(note)
            if note:
                bar.update(task, note=note)
            if not console.is_terminal and (
                time.monotonic() - last_line > _PATIENCE or (bar.tasks[0].completed == total and not brief)
            ):
                line(note)

        def beat() -> None:  # torch leaves the interpreter free while it computes
            while not over.wait(_PATIENCE / 10):
                if time.monotonic() - last_line > _PATIENCE:
                    line(f"{bar.tasks[0].fields['note']} ({time.monotonic() - started:.0f} s)")

        _running.append(lambda text: bar.update(task, note=shown(text)))
        if not console.is_terminal:
            threading.Thread(target=beat, daemon=True).start()
        try:
            yield tick
        finally:
            over.set()
            _running.pop()

"""Progress bars for long work; plain lines now and then where the output is no terminal."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
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


def doing(text: str) -> None:
    """What is being done within a step of the innermost bar, where there is one."""
    if _running:
        _running[-1](text)


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

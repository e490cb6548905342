"""Progress bars for long work; plain lines now and then where the output is no terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from udc_robust.processes import is_main

console = Console(stderr=True)
Tick = Callable[..., None]


def note(text: str) -> None:
    """One line to the user on stderr, once for all processes; what looks like markup in it is text."""
    if is_main():
        console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextlib.contextmanager
def progress(title: str, total: int, done: int = 0, *, quiet: bool = False) -> Iterator[Tick]:
    """Yield ``tick(note="", advance=1)``.

    On a terminal it draws a bar; elsewhere (CI, a log file) it prints a line at most every 15 seconds.
    """
    if quiet:
        yield lambda note="", advance=1: None
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total, completed=done, note="")
        last_line = time.monotonic()

        def tick(note: str = "", advance: int = 1) -> None:
            nonlocal last_line
            bar.update(task, advance=advance)
            if note:
                bar.update(task, note=note)
            finished = bar.tasks[0].completed
            if not console.is_terminal and (time.monotonic() - last_line > 15 or finished == total):
                last_line = time.monotonic()
                console.print(f"{title}: {finished:.0f}/{total} {note}", highlight=False)

        yield tick

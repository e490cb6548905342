"""Progress that never stands still, and lines that hold what users wrote."""

from __future__ import annotations

import time

from udc_robust import progress


def test_a_long_step_is_told_without_a_tick(monkeypatch, capsys) -> None:
    monkeypatch.setattr(progress, "_PATIENCE", 0.05)
    with progress.progress("working", 2) as tick:
        progress.doing("scoring [bold]x[/bold]")
        time.sleep(0.3)
        tick("done")
    told = capsys.readouterr().err
    assert "working: 0/2 scoring" in told and "[bold]x" in told
    progress.doing("nothing runs")  # no bar: nothing to tell


def test_a_note_is_text_and_not_markup(capsys) -> None:
    progress.note("file [red]x[/red].png")
    assert capsys.readouterr().err == "file [red]x[/red].png\n"

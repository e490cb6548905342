"""Where reports, leaderboards and slides may be written: new files, or ones of ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from udc_robust.errors import UserError
from udc_robust.outputs import output_file


def output_page(out: Path, runs: Sequence[Path]) -> Path:
    """The HTML file of a report: a new one, or one that a report of ours may replace.

    Raises:
        UserError: it is no HTML file, one that something else wrote, or the page of one of several runs.
    """
    output_file(out, (".html", ".htm"), [run / "report.html" for run in runs] if len(runs) > 1 else [])
    return _replaceable(out, b": robustness report</title>", "report")


def output_board(out: Path, sources: Sequence[Path]) -> Path:
    """The HTML file of a leaderboard, with a JSON file beside it: new ones, or those of one of ours that is not read.

    Raises:
        UserError: see `output_page`.
    """
    output_file(out, (".html", ".htm"))
    output_file(out.with_suffix(".json"), (".json",), sources)
    _replaceable(out.with_suffix(".json"), b'"udc_robust leaderboard ', "leaderboard")
    output_file(out.with_suffix(".csv"), (".csv",), sources)
    _replaceable(out.with_suffix(".csv"), b"run,data,victim,", "leaderboard")
    return _replaceable(out, b": robustness leaderboard</title>", "leaderboard")


def _replaceable(out: Path, mark: bytes, what: str) -> Path:
    """A file that is not there, or that has the mark of what we write."""
    if out.is_file() and mark not in out.read_bytes()[: 1 << 20]:
        raise UserError(f"--out {out} is there already, and is no {what} of ours: choose another name")
    return out


def output_slide(out: Path | None) -> Path | None:
    """The picture of a slide: a new one, or one of ours.

    Raises:
        UserError: it is no picture that can be written, or one that something else wrote.
    """
    if out is not None:
        output_file(out, (".png", ".svg"), option="--slide")
        if out.is_file() and b"udc_robust" not in out.read_bytes()[:4096]:
            raise UserError(f"--slide {out} is there already, and is no slide of ours: choose another name")
    return out

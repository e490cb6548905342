"""Names with escape bytes, markup and stray bytes are shown, not obeyed."""

from __future__ import annotations

import os

import pytest

from udc_robust.terminal import shown


@pytest.mark.parametrize(
    "text, expected",
    [
        ("plain [bold] name: ölwechsel 写真 🙂", "plain [bold] name: ölwechsel 写真 🙂"),
        ("a\x1b[31mred\x07", r"a\x1b[31mred\x07"),
        ("two\nlines\ttab", r"two\nlines\ttab"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("\udcc3\udcb6l", "öl"),
        ("half \ud800", r"half \ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text, expected) -> None:
    assert shown(text) == expected
    shown(text).encode()

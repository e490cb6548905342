"""Text of users on its way to a terminal, a table or a page: shown as it is, never obeyed."""

from __future__ import annotations

import re

# Control characters, line and paragraph separators, overrides of the writing direction, and halves of characters, which
# is what Python makes of the bytes of a file name that are not UTF-8.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: object) -> str:
    r"""The text with everything that a terminal would obey written out: ``a\x1b[1mb``, ``caf\xe9``; one line."""
    return _OBEYED.sub(_written_out, _utf8(str(text)))


def _utf8(text: str) -> str:
    """A file name in UTF-8, whatever encoding Python was told that files are named in (LC_ALL=C)."""
    try:
        return text.encode(errors="surrogateescape").decode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text


def _written_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name
        return f"\\x{code - 0xDC00:02x}"
    return found[0].encode("unicode_escape", "backslashreplace").decode("ascii")


def say(line: object, *, err: bool = False) -> None:
    """Print a line with text of users in it."""
    import typer

    typer.echo(shown(line), err=err)

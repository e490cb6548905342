"""The one exception type for mistakes that the user can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the user's files, keys or options.

    The message is one line: it names the file or key and the fix. The command line prints it without a
    traceback and exits with code 2.
    """


def nearest(name: str, known: Iterable[str], alike: float = 0.5) -> str | None:
    """The known name that is spelt most like this one; None where none is ``alike`` (1: the same)."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=alike)), None)


def unknown_name(what: str, name: str, known: Iterable[str]) -> UserError:
    """Build the error for a name that is not in ``known``, with the nearest spelling as a suggestion."""
    names = sorted(known)
    near = nearest(name, names)
    hint = f"did you mean {near!r}? " if near else ""
    return UserError(f"unknown {what} {name!r}: {hint}known are {', '.join(names)}")

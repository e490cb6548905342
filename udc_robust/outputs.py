"""Where a verb may write: asked before any work, by every verb that writes.

Nothing that a verb reads is written over, nor a file that it did not write itself.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from udc_robust.errors import UserError
from udc_robust.files import read_text, write_text

# Room for the folders, the pictures and the temporary names below a run's folder.
_LONGEST_PATH, _LONGEST_NAME = 3000, 255
_LONGEST_FILE_NAME = 100
_WRITTEN = ".written.json"


def file_name(text: str) -> str:
    """The name of a run or a training, which names files: no path, nothing hidden, nothing that cannot be typed.

    Raises:
        ValueError: it is none.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if not text.strip() or text.startswith(".") or "/" in text or "\\" in text or not text.isprintable():
        raise ValueError(f"{text!r} must be a file name: no slashes, no dot in front, no control characters, not empty")
    if size > _LONGEST_FILE_NAME:
        raise ValueError(f"a name of {size} bytes is too long for files: use at most {_LONGEST_FILE_NAME}")
    return text


def output_folder(out: Path, reads: Iterable[Path] = (), *, below: Sequence[str] = (), apart: bool = False) -> Path:
    """A folder that can be written to, and that holds nothing that is read.

    Args:
        out: where the user wants results; it need not exist.
        reads: files and folders that the verb reads.
        below: folders inside ``out`` that are written to as well.
        apart: whether ``out`` may not lie inside a folder that is read either, as its files would then be read.

    Raises:
        UserError: ``out`` is or lies under something else than a folder, is too long, cannot be written, or is read.
    """
    _check_length(out)
    _check_place(out)
    places = [os.path.realpath(place) for place in (out, *(out / name for name in below))]
    for read in reads:
        real = os.path.realpath(read)
        holder = real if os.path.isdir(real) else os.path.dirname(real)
        if holder in places:
            raise UserError(f"--out {out} would be written into where {read} is read from: choose another folder")
        if apart and os.path.isdir(real) and places[0].startswith(real + os.sep):
            raise UserError(f"--out {out} lies in {read}, which is read: choose a folder outside of it")
    return out


def output_file(out: Path, endings: Sequence[str], reads: Iterable[Path] = (), option: str = "--out") -> Path:
    """A file that can be written, of one of the endings, and that is not read; ``option``: which names it.

    Raises:
        UserError: another ending, a folder, a device, a file that is read, or a place that cannot be written.
    """
    if out.suffix.lower() not in endings:
        raise UserError(f"{option} {out} must end in {' or '.join(endings)}")
    _check_length(out, option)
    if os.path.lexists(out) and not out.is_file():
        raise UserError(f"{option} {out} is no file: choose another name")
    if os.path.realpath(out) in {os.path.realpath(read) for read in reads}:
        raise UserError(f"{option} {out} is read: choose another name")
    _check_place(out.parent, option)
    return out


def check_files(out: Path, names: Iterable[str]) -> None:
    """Make sure that files of these names are written for the first time, or were written here before.

    Raises:
        UserError: a file of such a name is there that `note_file` was not told of.
    """
    for name in sorted(set(names) - _noted(out)):
        if os.path.lexists(out / name):
            raise UserError(f"{out / name} is there already, and was not written by this verb: choose another --out")


def note_file(path: Path) -> Path:
    """Note in its folder that a file is about to be written there, and so may be written over later."""
    noted = _noted(path.parent)
    if path.name not in noted:
        write_text(path.with_name(_WRITTEN), json.dumps(sorted(noted | {path.name})))
    return path


def _noted(folder: Path) -> set[str]:
    try:
        return set(json.loads(read_text(folder / _WRITTEN)))
    except (OSError, ValueError, TypeError):
        return set()


def _check_length(out: Path, option: str = "--out") -> None:
    longest = max((len(os.fsencode(part)) for part in out.parts), default=0)
    if "\0" in str(out) or longest > _LONGEST_NAME or len(os.fsencode(os.path.abspath(out))) > _LONGEST_PATH:
        start = str(out)[:60].replace("\0", "\\0")
        raise UserError(f"{option} {start}... is no path that a disk can hold: choose a shorter one")


def _check_place(out: Path, option: str = "--out") -> None:
    """The folder, or the nearest one above that is there, takes files."""
    for place in (out, *out.parents):
        if os.path.isdir(place):
            break
        if os.path.islink(place):
            raise UserError(f"{option} {out}: {place} is a link to nothing that is there; remove it, or choose another")
        if os.path.lexists(place):
            raise UserError(f"{option} {out}: {place} is no folder; choose another")
    try:
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(bytes(4096))
    except OSError as error:
        raise UserError(
            f"{option} {out} cannot be written ({error.strerror}): free some space, or choose another"
        ) from error

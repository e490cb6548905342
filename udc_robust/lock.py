"""One folder, one writer: a lock that a kill leaves behind is no hindrance, and leftovers of kills are cleaned up."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from udc_robust.errors import UserError
from udc_robust.files import disk_errors
from udc_robust.processes import is_main

LOCK = ".lock"
_LEFTOVER = re.compile(r"\..+\.(\d+)\.tmp(\.[^.]*)?")
_held: set[Path] = set()


@contextlib.contextmanager
def sole_writer(folder: Path, *, whole: bool = True) -> Iterator[None]:
    """Be the only one that writes into a folder, which is made if need be; remove what killed processes left in it.

    Args:
        whole: whether everything below the folder is ours too; else only the files in it are looked at.

    The processes of one launch share the lock of their first. The system frees it when its process ends, however that
    ends; the file only tells others who holds it.

    Raises:
        UserError: another process is writing there.
    """
    place = Path(os.path.realpath(folder))
    if not is_main() or place in _held:
        yield
        return
    made = not folder.exists()
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(folder)
    _held.add(place)
    try:
        _clean(folder, whole)
        yield
    finally:
        _held.discard(place)
        (folder / LOCK).unlink(missing_ok=True)
        os.close(descriptor)
        if made:
            with contextlib.suppress(OSError):  # it holds something
                folder.rmdir()


def _locked(folder: Path) -> int:
    """An open descriptor that holds the lock."""
    path = folder / LOCK
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode(errors="replace") or "it has not said which"
            os.close(descriptor)
            raise UserError(
                f"another process is writing to {folder} ({holder}): wait until it is done, or choose another folder"
            ) from None
        except OSError:  # a file system without locks
            return descriptor
        # Its holder may have removed the file between our opening and locking it: then it locks nothing.
        if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
            os.truncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return descriptor
        os.close(descriptor)


def _clean(folder: Path, whole: bool) -> None:
    """Remove temporary files and folders whose process is gone."""
    for place, folders, files in os.walk(folder):
        if not whole:
            folders.clear()
        for name in [*folders, *files]:
            found = _LEFTOVER.fullmatch(name)
            if found is None or _alive(int(found[1])):
                continue
            path = Path(place) / name
            if name in folders:
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return process != os.getpid()

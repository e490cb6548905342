"""Files that are written whole or not at all, and the folders that ship with the package."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from udc_robust.errors import UserError

_PACKAGE = Path(__file__).resolve().parent
_LONGEST_PART = 150
LONG = "~"
"""Stands before the digest of a shortened name."""


def shipped(folder: str) -> Path:
    """Return the ``configs`` or ``checkpoints`` folder: beside the package in a checkout, inside it in a wheel."""
    beside = _PACKAGE.parent / folder
    return beside if beside.is_dir() else _PACKAGE / "_shipped" / folder


def shipped_weights(kind: str = "") -> dict[str, Path]:
    """Names and weights files that come with the package, of one folder of ``checkpoints``; without one: restorers."""
    return {path.stem: path for path in sorted((shipped("checkpoints") / kind).glob("*.safetensors"))}


DISK = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR,
    errno.EEXIST,    errno.ENAMETOOLONG, errno.EIO,
)  # fmt: skip
# What libraries make of a write that the disk cut short: torch, numpy, safetensors.
_CUT_SHORT = re.compile(r"file write failed|inline_container|requested and \d+ written|os error \d+|I/?O ?[Ee]rror")


@contextlib.contextmanager
def disk_errors(path: Path | str) -> Iterator[None]:
    """Turn what a full, limited or read-only disk does to a write into a UserError that names ``path``."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        known = error.errno in DISK if isinstance(error, OSError) and error.errno else _CUT_SHORT.search(str(error))
        if not known:
            raise
        reason = getattr(error, "strerror", None) or "the disk is full, or files may not grow so large"
        raise UserError(
            f"cannot write {getattr(error, 'filename', None) or path}: {reason}; free some space or choose another "
            "folder, then run the same command again: what was already finished is kept"
        ) from error


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it is renamed to ``path``, on failure removed."""
    path = Path(path)
    with disk_errors(path):
        if path.is_dir():
            raise UserError(f"{path} is a folder, and a file is to be written there: move it away, then go on")
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix stays last, because image and array writers choose the format by it.
        temporary = path.with_name(f".{shortened(path.stem)}.{os.getpid()}.tmp{path.suffix}")
        try:
            yield temporary
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def read_text(path: Path) -> str:
    """The text of a file in UTF-8.

    Raises:
        OSError: there is none, or something else that reading would wait for without end: a pipe, a device.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return path.read_text(encoding="utf-8")


def sha256_of(path: Path | str) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write ``content`` whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path | str, content: str) -> None:
    """Write ``content`` as UTF-8, whole or not at all; halves of characters are written out."""
    write_bytes(path, content.encode(errors="backslashreplace"))


def file_part(text: str) -> str:
    """A text as a part of a path: odd characters percent-encoded; what is too long ends in a digest of the whole."""
    part = quote(text, safe="", errors="surrogatepass")
    return shortened(part.replace(".", "%2E") if part in (".", "..") else part)


def shortened(part: str) -> str:
    """A part of a path that leaves room for an ending; what is too long ends in a digest of the whole."""
    encoded = os.fsencode(part)
    if len(encoded) <= _LONGEST_PART:
        return part
    start = re.sub("%.?$", "", encoded[:100].decode(errors="ignore"))
    return f"{start}{LONG}{hashlib.sha256(encoded).hexdigest()[:16]}"

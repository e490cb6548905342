"""Fetching HDR panoramas (Poly Haven, CC0) for synthesis, with resume and checksums.

The UDC set of DISCNet was made from the same site, then called HDRI Haven. No checksums are published with the files:
the first download records size and sha256 in ``checksums.json`` beside them, and every later run is held to it. Hand
that file on as a list, and others are held to it too.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from udc_robust.errors import UserError
from udc_robust.files import disk_errors, write_text
from udc_robust.lock import sole_writer
from udc_robust.progress import progress

POLY_HAVEN = "https://dl.polyhaven.org/file/ph-assets/HDRIs/hdr/1k/{name}_1k.hdr"

PANORAMAS = (
    "adams_place_bridge", "aerodynamics_workshop", "aristea_wreck_puresky", "autoshop_01", "blocky_photo_studio",
    "blouberg_sunrise_2", "brown_photostudio_01", "brown_photostudio_02", "brown_photostudio_06",
    "brown_photostudio_07", "chinese_garden", "christmas_photo_studio_07", "circus_arena", "dancing_hall",
    "dikhololo_night", "drachenfels_cellar", "empty_warehouse_01", "forest_slope", "hilly_terrain_01",
    "immenstadter_horn", "kiara_1_dawn", "kloppenheim_05", "lebombo", "modern_buildings_2", "narrow_moonlit_road",
    "noon_grass", "peppermint_powerplant", "phalzer_forest_01", "potsdamer_platz", "rainforest_trail", "rooitou_park",
    "sepulchral_chapel_rotunda", "spruit_sunrise", "st_fagans_interior", "st_peters_square_night", "studio_small_03",
    "studio_small_05", "venice_sunset", "vestibule",
)  # fmt: skip
"""Night, indoor and sunset scenes whose lights make a display's diffraction visible."""

CHECKSUMS = "checksums.json"
_BLOCK = 1 << 20
_TIMEOUT = 30.0
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Download:
    """A file to fetch: its name on disk, its address, and size in bytes and sha256 where they are known."""

    file: str
    url: str
    size: int | None = None
    sha256: str | None = None


def panoramas(names: Sequence[str] = PANORAMAS) -> list[Download]:
    """Return the downloads of Poly Haven panoramas, 1024x512 Radiance files, by name."""
    return [Download(f"{name}.hdr", POLY_HAVEN.format(name=name)) for name in names]


def read_list(path: Path | str) -> list[Download]:
    """Read a list of downloads: JSON objects with ``file`` and ``url``, and ``size`` and ``sha256`` where known.

    Raises:
        UserError: when the list is missing or malformed; it names the entry.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is no file: check the path of the list of downloads")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        downloads = [Download(**entry) for entry in entries]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} is no list of downloads ({error}); write a JSON list of file, url, size, sha256"
        ) from error
    for entry in downloads:
        if not isinstance(entry.file, str) or not _SAFE_NAME.fullmatch(entry.file):
            raise UserError(f"{path}: {entry.file!r} is no plain file name; use letters, digits, '_', '-' and '.'")
        if not str(entry.url).startswith(("https://", "http://")):
            raise UserError(f"{path}: the address of {entry.file} must begin with https:// or http://")
        if not _well_formed(entry.url):
            raise UserError(f"{path}: the address of {entry.file}, {entry.url!r}, is malformed; correct it")
        if not isinstance(entry.size, int | None) or not isinstance(entry.sha256, str | None):
            raise UserError(f"{path}: size and sha256 of {entry.file} must be a number and a text")
    return downloads


def _well_formed(url: str) -> bool:
    """Whether an address has a host, a port that is a number, and no spaces or control characters."""
    try:
        parts = urllib.parse.urlsplit(url)
        parts.port  # noqa: B018  # raises where it is none
        return bool(parts.hostname) and url.isascii() and url.isprintable() and " " not in url
    except ValueError:
        return False


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects within the web only: a server must not send us to ftp or to a file."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if not newurl.startswith(("https://", "http://")) or not _well_formed(newurl):
            raise urllib.error.HTTPError(req.full_url, code, f"sends us on to {newurl!r}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_WebOnly)


def fetch(
    out: Path | str,
    downloads: Sequence[Download] | None = None,
    *,
    tries: int = 4,
    pause: Callable[[float], None] = time.sleep,
) -> list[Path]:
    """Download files into a folder; run it again to resume where it stopped.

    Args:
        out: folder; unfinished files lie there as ``.<file>.part``.
        downloads: by default the panoramas of Poly Haven.
        tries: attempts a file, with growing pauses, before giving up.
        pause: how to wait between attempts, in seconds.

    Returns:
        The paths of the files, all checked.

    Raises:
        UserError: when a server refuses or keeps failing, or a checksum or size is wrong; nothing wrong is kept.
    """
    out = Path(out)
    downloads = panoramas() if downloads is None else downloads
    recorded = {entry.file: entry for entry in read_list(out / CHECKSUMS)} if (out / CHECKSUMS).is_file() else {}
    paths = []
    with sole_writer(out), progress("fetching", len(downloads)) as tick:
        for wanted in downloads:
            known = recorded.get(wanted.file, wanted)
            expected = Download(wanted.file, wanted.url, wanted.size or known.size, wanted.sha256 or known.sha256)
            path = out / wanted.file
            if not path.is_file():
                _download(path, expected, tries, pause)
            recorded[wanted.file] = _checked(path, expected)
            write_text(out / CHECKSUMS, json.dumps([vars(entry) for entry in recorded.values()], indent=1))
            paths.append(path)
            tick(wanted.file)
    return paths


def _download(path: Path, expected: Download, tries: int, pause: Callable[[float], None]) -> None:
    """Complete the partial file, check it, and only then give it its name."""
    part = path.with_name(f".{path.name}.part")
    for attempt in range(tries):
        try:
            _receive(part, expected.url)
            break
        except urllib.error.HTTPError as error:
            if error.code == 416:  # nothing lies beyond what is here: another file's remains, or a whole one
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code != 429:
                raise UserError(
                    f"{expected.url} answers {error.code} {error.reason}; correct the name or list"
                ) from error
            problem: Exception = error
        except ValueError as error:  # of the standard library, which reads the address before our handler does
            raise UserError(f"{expected.url} sends us on to a malformed address ({error}); correct the list") from error
        except (OSError, HTTPException) as error:
            problem = error
        if attempt + 1 == tries:
            raise UserError(
                f"{expected.url} cannot be fetched ({problem}); check the network and run the same command again"
            ) from problem
        pause(2.0**attempt)
    try:
        _checked(part, expected)
    except UserError:
        part.unlink()
        raise
    part.replace(path)


def _receive(part: Path, url: str) -> None:
    """Append what is missing of a file; a short answer raises ConnectionError."""
    with disk_errors(part):
        part.parent.mkdir(parents=True, exist_ok=True)
    begun = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "udc-robust"})
    if begun:
        request.add_header("Range", f"bytes={begun}-")
    with _OPENER.open(request, timeout=_TIMEOUT) as response:
        resumed = response.status == 206
        missing = response.headers.get("Content-Length")
        before = begun if resumed else 0
        with disk_errors(part):
            _copy(response, part, "ab" if resumed else "wb")
    if missing is not None and part.stat().st_size != before + int(missing):
        raise ConnectionError("the connection broke off")


def _copy(response: HTTPResponse, part: Path, mode: str) -> None:
    with open(part, mode) as handle:
        while block := response.read(_BLOCK):
            handle.write(block)


def _checked(path: Path, expected: Download) -> Download:
    """Return the download with the file's size and sha256; they must be the expected ones."""
    with open(path, "rb") as handle:
        found = Download(
            expected.file, expected.url, path.stat().st_size, hashlib.file_digest(handle, "sha256").hexdigest()
        )
    for what in ("size", "sha256"):
        wanted, has = getattr(expected, what), getattr(found, what)
        if wanted is not None and wanted != has:
            raise UserError(
                f"{expected.file} has {what} {has} instead of {wanted}; delete it, or correct the list, and retry"
            )
    return found

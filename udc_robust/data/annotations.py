"""What is known of images beside their pixels: a CSV with a row an image, as UDC-SIT has one."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from udc_robust.errors import UserError

_SPLITS = ("dataset", "split", "set")
"""Columns that say which split an image is of: no property of it."""


def read_annotations(
    path: Path, keys: Sequence[str], names: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, list[str]]:
    """What each image is: ``["Indoor/Outdoor 1", "Glare", "no Streak"]``.

    The first column names images by their files' stems. A column of 0 and 1 says whether its name is true of an image;
    of a column of other numbers the number is told, of one of words the word.

    Args:
        keys: of all images; rows of others are left out.
        names: by column what its values are called, such as ``{"Day/Night": {"1": "day", "2": "night"}}``.

    Raises:
        UserError: no such file, columns of another table, or an image without a row.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"annotations {path} cannot be read ({error}): give a CSV with a row an image") from error
    columns = list(rows[0]) if rows else []
    if len(columns) < 2:
        raise UserError(f"annotations {path} have no columns: the first names images, the others say what they are")
    if unknown := next((name for name in names or {} if name not in columns), None):
        raise UserError(f"annotations {path} have no column {unknown!r}: it has {', '.join(columns)}")
    by_name = {Path(str(row[columns[0]])).stem: row for row in rows}
    told = [name for name in columns[1:] if name is not None and name.strip().lower() not in _SPLITS]
    binary = {name for name in told if {row[name] for row in rows} <= {"0", "1"}}
    found = {}
    for key in keys:
        row = by_name.get(Path(key).name)
        if row is None:
            raise UserError(f"annotations {path} have no row for the image {key!r}: add it, or name another file")
        if None in row or None in row.values():
            raise UserError(f"annotations {path}: the row of {key!r} has more or fewer fields than the first line")
        found[key] = [_label(name, row[name].strip(), name in binary, (names or {}).get(name, {})) for name in told]
    return found


def _label(column: str, value: str, binary: bool, names: Mapping[str, str]) -> str:
    if value in names:
        return names[value]
    if binary:
        return column if value == "1" else f"no {column}"
    return f"{column} {value}" if value.lstrip("-").isdigit() or not value else value

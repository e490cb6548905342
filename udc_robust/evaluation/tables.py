"""The tables of a run: ``results.csv`` (a row an image and cell), ``summary.csv`` (a row a cell), ``timings.csv``."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from udc_robust.files import write_text

NAMES = (
    "data", "restorer", "defence", "attack", "method", "norm", "eps", "objective", "against", "access", "exactness",
    "eot", "draws", "known_seed", "nfe", "reference",
)  # fmt: skip
FIGURES = ("psnr", "ssim", "lpips", "ms_ssim", "gmsd")
DRAWS = ("psnr_worst_draw", "psnr_average", "psnr_draw_std")
RESULT_COLUMNS = (
    *NAMES, "image", "height", "width", *FIGURES, *DRAWS, "psnr_clean", "psnr_noise", "psnr_input",
    "psnr_to_clean_output", "psnr_of_attacked_input", "objective_clean", "objective_attacked", "broken", "linf", "l2",
    "forwards", "backwards", "queries", "bad_gradients",
)  # fmt: skip
SUMMARY_COLUMNS = (
    *NAMES, "images", *FIGURES, *DRAWS, "psnr_std", "psnr_worst", "psnr_clean", "drop", "noise_drop", "psnr_input",
    "worse_than_input", "broken", "linf", "l2", "rms", "forwards", "backwards", "queries", "bad_gradients",
)  # fmt: skip


def write_tables(out: Path, units: Sequence[dict[str, Any]]) -> None:
    """Write the three tables of a run from its journal's units."""
    write_grid(out, units, NAMES, RESULT_COLUMNS, SUMMARY_COLUMNS, _figures)


def write_grid(
    out: Path,
    units: Sequence[dict[str, Any]],
    names: Sequence[str],
    result_columns: Sequence[str],
    summary_columns: Sequence[str],
    figures: Callable[[list[dict[str, Any]]], dict[str, Any]],
) -> None:
    """Write ``results.csv``, ``summary.csv`` and ``timings.csv``, in an order that no unit's finish changes.

    Args:
        names: the columns that name a cell, the first seven of which order the rows.
        figures: what ``summary.csv`` says of the rows of one cell, beside its names and number of images.
    """

    def order(row: dict[str, Any]) -> tuple[Any, ...]:
        return (*(row["eps"] if name == "eps" else str(row.get(name, "")) for name in names[:7]), row["image"])

    units = sorted(units, key=lambda unit: unit["unit"])
    rows = sorted((row for unit in units for row in unit["rows"]), key=order)
    write_text(out / "results.csv", to_csv(result_columns, rows))
    write_text(out / "summary.csv", to_csv(summary_columns, _summary(rows, names, figures)))
    timings = [{"unit": unit["unit"], **unit["cost"]} for unit in units if "seconds" in unit["cost"]]
    write_text(out / "timings.csv", to_csv(("unit", "images", "seconds", "peak_bytes"), timings))


def _summary(
    rows: Iterable[dict[str, Any]], names: Sequence[str], figures: Callable[[list[dict[str, Any]]], dict[str, Any]]
) -> list[dict[str, Any]]:
    """One row a cell, in the order of its first image."""
    cells: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault(tuple(row.get(name, "") for name in names), []).append(row)
    return [
        dict(zip(names, cell, strict=True)) | {"images": len(members)} | figures(members)
        for cell, members in cells.items()
    ]


def _figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the images of a cell.

    ``drop`` is ``psnr_clean - psnr`` (against the ground truth; empty without one), ``noise_drop`` the same for random
    noise of each image's own attack norm. ``worse_than_input`` is the share of images whose attacked restoration is
    further from the ground truth than the unrestored, unattacked input; ``rms`` is the L2 norm per value.
    """
    summary: dict[str, Any] = {}
    for column in (*FIGURES, *DRAWS, "psnr_clean", "psnr_input", "linf", "l2", "forwards", "backwards", "queries"):
        summary[column] = _mean([row.get(column) for row in rows])
    summary["bad_gradients"] = sum(row.get("bad_gradients", 0) for row in rows)
    psnrs = [row["psnr"] for row in rows]
    summary["psnr_worst"] = min(psnrs)
    summary["psnr_std"] = pstdev(psnrs) if all(map(math.isfinite, psnrs)) else None
    if "broken" in rows[0]:
        summary["broken"] = _mean([float(row["broken"]) for row in rows])
        summary["rms"] = _mean([row["l2"] / math.sqrt(3 * row["height"] * row["width"]) for row in rows])
    if rows[0].get("reference") == "gt":
        summary["drop"] = _mean([row["psnr_clean"] - row["psnr"] for row in rows])
        summary["worse_than_input"] = _mean([float(row["psnr"] < row["psnr_input"]) for row in rows])
        if "psnr_noise" in rows[0]:
            summary["noise_drop"] = _mean([row["psnr_clean"] - row["psnr_noise"] for row in rows])
    else:
        summary["psnr_clean"] = summary["psnr_input"] = None
    return summary


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) and known else None


def to_csv(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    """CSV text; missing figures are ``n/a``, floats have seven significant digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in columns])
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.7g}" if isinstance(value, float) else str(value)

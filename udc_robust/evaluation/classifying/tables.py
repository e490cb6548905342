"""The tables of a study: ``results.csv`` (a row an image and cell), ``summary.csv`` (a row a cell), ``timings.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from udc_robust.evaluation.tables import write_grid
from udc_robust.evaluation.verdict import mean_interval

NAMES = (
    "data", "classifier", "defence", "attack", "method", "norm", "eps", "objective", "access", "exactness", "eot",
    "draws", "known_seed", "nfe",
)  # fmt: skip
SHARES = (
    "top1", "top5", "top1_one_draw", "top1_worst_draw", "top1_clean", "top5_clean", "top1_noise", "top5_noise",
)  # fmt: skip
COSTS = ("linf", "l2", "forwards", "backwards", "queries")
RESULT_COLUMNS = (
    *NAMES, "image", "label", "answer", *SHARES, "margin", "objective_clean", "objective_attacked", *COSTS,
    "bad_gradients",
)  # fmt: skip
SUMMARY_COLUMNS = (*NAMES, "images", *SHARES, "top1_low", "top1_high", "margin", *COSTS, "bad_gradients")


def write_tables(out: Path, units: Sequence[dict[str, Any]]) -> None:
    """Write the three tables of a study from its journal's units."""
    write_grid(out, units, NAMES, RESULT_COLUMNS, SUMMARY_COLUMNS, _figures)


def _figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares of a cell's images in [0,1] and means; ``top1_low`` to ``top1_high`` is the 95 % interval."""
    summary: dict[str, Any] = {}
    for column in (*SHARES, "margin", *COSTS):
        known: list[float] = [row[column] for row in rows if column in row]
        summary[column] = fmean(known) if known else None
    summary["bad_gradients"] = sum(row.get("bad_gradients", 0) for row in rows)
    summary["top1_low"], summary["top1_high"] = mean_interval([row["top1"] for row in rows]) or (None, None)
    return summary

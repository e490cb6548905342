"""The columns of a restoration run's tables, and what they say of one cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import pstdev
from typing import Any

from udc_robust.grid.tables import BAD, COSTS, cell_names, mean_of
from udc_robust.grid.task import Row

NAMES = cell_names("restorer", of_objective=["against"], of_data=["reference"])
FIGURES = ("psnr", "ssim", "ms_ssim", "gmsd")
DRAWS = ("psnr_worst_draw", "psnr_average", "psnr_draw_std")
RESULT_COLUMNS = (
    *NAMES, "image", "height", "width", "channels", *FIGURES, *DRAWS, "psnr_clean", "psnr_noise", "psnr_input",
    "psnr_to_clean_output", "psnr_of_attacked_input", "objective_clean", "objective_attacked", "broken", *COSTS,
    BAD,
)  # fmt: skip
SUMMARY_COLUMNS = (
    *NAMES, "images", *FIGURES, *DRAWS, "psnr_std", "psnr_worst", "psnr_clean", "drop", "noise_drop", "psnr_input",
    "worse_than_input", "broken", "linf", "l2", "rms", "forwards", "backwards", "queries", BAD,
)  # fmt: skip


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Means over the images of a cell.

    ``drop`` is ``psnr_clean - psnr`` (against the ground truth; empty without one), ``noise_drop`` the same for random
    noise of each image's own attack norm. ``worse_than_input`` is the share of images whose attacked restoration is
    further from the ground truth than the unrestored, unattacked input; ``rms`` is the L2 norm per value.
    """
    columns = (*FIGURES, *DRAWS, "psnr_clean", "psnr_input")
    found: dict[str, Any] = {column: mean_of([row.get(column) for row in rows]) for column in columns}
    psnrs = [row["psnr"] for row in rows]
    found["psnr_worst"] = min(psnrs)
    found["psnr_std"] = pstdev(psnrs) if all(map(math.isfinite, psnrs)) else None
    if "broken" in rows[0]:
        found["broken"] = mean_of([float(row["broken"]) for row in rows])
        found["rms"] = mean_of([rms_of(row) for row in rows])
    if rows[0].get("reference") == "gt":
        found["drop"] = mean_of([row["psnr_clean"] - row["psnr"] for row in rows])
        found["worse_than_input"] = mean_of([float(row["psnr"] < row["psnr_input"]) for row in rows])
        if "psnr_noise" in rows[0]:
            found["noise_drop"] = mean_of([row["psnr_clean"] - row["psnr_noise"] for row in rows])
    else:
        found["psnr_clean"] = found["psnr_input"] = None
    return found


def rms_of(row: Row) -> float:
    """The L2 norm of an image's change per value; results of 0.2 do not say that they are of three channels."""
    return float(row["l2"] / math.sqrt((row.get("channels") or 3) * row["height"] * row["width"]))

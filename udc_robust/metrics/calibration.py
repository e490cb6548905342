"""Whether a classifier is right as often as it says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def expected_calibration_error(confidence: Sequence[float], right: Sequence[float], bins: int = 15) -> float:
    """Mean distance of confidence and share of right answers, over equal bins of confidence (Guo et al. 2017, eq. 3).

    Few images bias it upwards: compare figures of as many images only.

    Args:
        confidence: largest probability of each answer, in [0,1]; ``right``: 1 where it is right, else 0.

    Raises:
        ValueError: no answers, or lists of different length.
    """
    sure, true = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    if sure.shape != true.shape or not sure.size:
        raise ValueError(f"need as many answers as confidences, one or more, not {true.size} and {sure.size}")
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    gaps = [abs(sure[place == b].sum() - true[place == b].sum()) for b in range(bins)]
    return float(sum(gaps) / sure.size)

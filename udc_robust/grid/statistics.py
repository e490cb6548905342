"""The uncertainty of a mean over images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Interval = tuple[float, float] | None


def mean_interval(values: Sequence[float], draws: int = 4000) -> Interval:
    """95 % percentile bootstrap interval of the mean (Efron 1979), always with the same seed; None under 3 values."""
    if len(values) < 3 or not all(map(math.isfinite, values)):
        return None
    data = np.asarray(values)
    picks = np.random.default_rng(0).integers(len(data), size=(draws, len(data)))
    low, high = np.percentile(data[picks].mean(1), [2.5, 97.5])
    return float(low), float(high)

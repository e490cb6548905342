"""The uncertainty of a mean over images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Interval = tuple[float, float] | None


def mean_interval(values: Sequence[float], scenes: Sequence[str] | None = None, draws: int = 4000) -> Interval:
    """95 % percentile bootstrap interval of the mean (Efron 1979), always with the same seed.

    Args:
        scenes: of each value; those of one scene are drawn together (cluster bootstrap: Davison & Hinkley 1997, section
            3.8), because crops of one picture tell less than as many pictures. None: each is its own.

    Returns:
        None under three scenes, and where a value is not finite.
    """
    names, places = np.unique(np.arange(len(values)) if scenes is None else np.asarray(scenes), return_inverse=True)
    if len(names) < 3 or not all(map(math.isfinite, values)):
        return None
    sums, sizes = np.bincount(places, np.asarray(values, float)), np.bincount(places)
    picks = np.random.default_rng(0).integers(len(names), size=(draws, len(names)))
    low, high = np.percentile(sums[picks].sum(1) / sizes[picks].sum(1), [2.5, 97.5])
    return float(low), float(high)

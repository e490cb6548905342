"""How well a score tells attacked images from clean ones: AUROC with its interval, and thresholds by false alarms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

FALSE_ALARMS = (0.01, 0.05)
"""Shares of clean images that a detector may flag."""


def auroc(attacked: Sequence[float], clean: Sequence[float]) -> float:
    """Chance that an attacked image scores above a clean one, a tie counting half; 0.5 is guessing."""
    return float(_above(attacked, clean).mean())


def auroc_interval(
    attacked: Sequence[float], clean: Sequence[float], scenes: Sequence[str] | None = None
) -> tuple[float, float] | None:
    """95 % interval of the AUROC of images scored before and after an attack, in the same order.

    DeLong et al. (1988), eq. 4 to 6, with the scores of an image, and of all images of a scene, taken together
    (Obuchowski 1997), as they are of one picture. It has no width where the scores are apart altogether.

    Args:
        scenes: of each image; None: each is its own.

    Returns:
        None under three scenes.

    Raises:
        ValueError: not as many clean scores as attacked ones.
    """
    if len(attacked) != len(clean):
        raise ValueError(f"{len(attacked)} attacked scores and {len(clean)} clean ones are not of the same images")
    names, places = np.unique(np.arange(len(clean)) if scenes is None else np.asarray(scenes), return_inverse=True)
    count = len(names)
    if count < 3:
        return None
    above = _above(attacked, clean)
    mean = float(above.mean())
    of_image = above.mean(1) + above.mean(0) - 2 * mean  # what an image adds by its attacked and by its clean score
    of_scene = np.bincount(places, of_image)
    half = 1.96 * math.sqrt(count / (count - 1) * np.square(of_scene).sum()) / len(clean)
    return max(0.0, mean - half), min(1.0, mean + half)


def _above(attacked: Sequence[float], clean: Sequence[float]) -> np.ndarray:
    ours, theirs = np.asarray(attacked, dtype=float)[:, None], np.asarray(clean, dtype=float)[None]
    return (ours > theirs) + 0.5 * (ours == theirs)


def fewest_clean(false_alarms: float) -> int:
    """Held-out clean images that a threshold of this share of false alarms takes: 19 for 5 %, 99 for 1 %."""
    return math.ceil(1 / false_alarms - 1e-9) - 1


def threshold(clean: Sequence[float], false_alarms: float) -> float | None:
    """The score above which an image is flagged, of held-out clean images; None where they are too few.

    Of ``n`` of them the ``floor(false_alarms (n + 1))``-th highest is taken, so that the next clean image is flagged
    with a chance of ``false_alarms`` at most, whatever the scores are distributed like (Vovk et al. 2005, conformal).
    """
    rank = math.floor(false_alarms * (len(clean) + 1) + 1e-9)
    return float(np.sort(np.asarray(clean, dtype=float))[-rank]) if rank else None

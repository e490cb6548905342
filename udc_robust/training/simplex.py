"""Gaussian class-conditional targets at the corners of a simplex (GCCS, after arXiv 2010.15487; formula recalled)."""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 0.05
"""Added to a class's covariance, in units of the target's variance: a batch has few images a class."""


def simplex_divergence(scores: Tensor, labels: Tensor, height: float, spread: float) -> Tensor:
    """Divergence of each class's scores ``(B,K)``, taken for a Gaussian, from the one at its corner; mean of classes.

    ``KL(N(m_c, S_c) || N(height e_c, spread^2 I))``, with mean and covariance of the class's rows in the batch. Whose
    class is the highest score is nearest to its corner, so that a classifier decides as any other.

    Raises:
        ValueError: no class has two rows: one has no covariance.
    """
    classes = scores.shape[1]
    eye = torch.eye(classes, device=scores.device, dtype=scores.dtype)
    found = []
    for label in range(classes):
        rows = scores[labels == label]
        if len(rows) < 2:
            continue
        mean = rows.mean(0)
        away = (rows - mean) / spread
        covariance = away.T @ away / (len(rows) - 1)
        distance = ((mean - height * eye[label]) / spread).square().sum()
        # With fewer rows than scores the covariance is singular; the ridge keeps its logarithm finite.
        volume = torch.logdet(covariance + RIDGE * eye)
        found.append((covariance.diagonal().sum() + distance - classes - volume) / 2)
    if not found:
        raise ValueError("no class has two images in this batch")
    return torch.stack(found).mean()

"""A one-class model of plain vectors: how far one lies from those of clean images."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class OneClass(nn.Module):
    """Squared Mahalanobis distance over the number of dimensions, by a covariance that scikit-learn shrinks.

    Ledoit & Wolf (2004) shrink it by as much as the number of vectors asks for, so that fewer vectors than dimensions
    are enough. The distance itself is computed here, where it has a gradient.
    """

    mean: Tensor
    precision: Tensor

    def fit(self, vectors: Tensor) -> None:
        """Learn of clean vectors ``(N,D)``; each dimension counts in units of its own spread."""
        from sklearn.covariance import LedoitWolf

        values = vectors.detach().double().cpu()
        mean, spread = values.mean(0), values.std(0, correction=0).clamp_min(1e-9)
        found = LedoitWolf().fit(((values - mean) / spread).numpy())
        precision = torch.from_numpy(found.precision_) / spread / spread[:, None]
        self.register_buffer("mean", mean.to(vectors), persistent=False)
        self.register_buffer("precision", precision.to(vectors), persistent=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Distance ``(B,)``: about 1 for clean vectors."""
        offset = vectors - self.mean
        return (offset @ self.precision * offset).mean(1)

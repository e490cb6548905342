"""xAT and xVAT (arXiv 1912.01810): a generator learns which pixels a classifier cannot do without, and masks them.

Masks multiply: a masked pixel is black. They are hard-concrete variables (Louizos et al. 2018): exactly 0 or 1 most of
the time, and differentiable.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

LOW, HIGH, TEMPERATURE = -0.1, 1.1, 0.66
"""How far a hard-concrete variable is stretched beyond [0,1] before it is clipped, and its temperature."""


class Reversed(torch.autograd.Function):
    """The identity, whose gradient changes its sign: what comes before it maximises what comes after it minimises."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Hand ``x`` on."""
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Turn the gradient round."""
        return -gradients[0]


class MaskedClassifier(nn.Module):
    """A classifier and the generator of masks that trains against it, as one network with one backward pass.

    The generator is a 3 x 3 convolution from the image to one mask for its three channels. It climbs the classifier's
    loss, and, as the loss counts the pixels kept, prefers masks of few pixels. It learns at the classifier's rate.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.generator = nn.Conv2d(3, 1, 3, padding=1)
        nn.init.constant_(self.generator.bias, 2.0)  # type: ignore[arg-type]  # most pixels are kept at first

    def forward(self, x: Tensor, uniform: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Scores of ``(B,3,H,W)``; with uniform numbers ``(B,1,H,W)`` also those of the masked images.

        Returns:
            The scores alone, or (scores, scores of masked images, expected share of pixels kept).
        """
        if uniform is None:
            return self.classifier(x)
        logits = Reversed.apply(self.generator(x))
        scores, masked = self.classifier(torch.cat([x, x * hard_concrete(logits, uniform)])).chunk(2)
        return scores, masked, kept(logits)


def hard_concrete(logits: Tensor, uniform: Tensor) -> Tensor:
    """A mask in [0,1] drawn by ``uniform`` numbers in [0,1)."""
    u = uniform.clamp(1e-6, 1 - 1e-6)
    soft = torch.sigmoid((u.log() - (-u).log1p() + logits) / TEMPERATURE)
    return (soft * (HIGH - LOW) + LOW).clamp(0, 1)


def kept(logits: Tensor) -> Tensor:
    """Mean probability that a pixel of a mask is not 0."""
    return torch.sigmoid(logits - TEMPERATURE * math.log(-LOW / HIGH)).mean()

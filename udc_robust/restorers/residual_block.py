"""The two-convolution residual block that DISCNet and UDC-UNet share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def small_kaiming_(conv: nn.Conv2d) -> nn.Conv2d:
    """Fill with a tenth of the Kaiming-normal start (fan-in, gain sqrt 2) and no bias, for small residuals."""
    nn.init.kaiming_normal_(conv.weight)
    with torch.no_grad():
        conv.weight.mul_(0.1)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class ResidualBlock(nn.Module):
    """``x + scale * conv2(LReLU_0.2(conv1(x)))`` on ``(B,C,H,W)``."""

    def __init__(self, channels: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.conv1 = small_kaiming_(nn.Conv2d(channels, channels, 3, padding=1))
        self.conv2 = small_kaiming_(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B,C,H,W)`` to ``(B,C,H,W)``."""
        return torch.add(x, self.conv2(F.leaky_relu(self.conv1(x), 0.2)), alpha=self.scale)

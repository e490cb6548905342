"""BNUDC: a two-branched deep neural network for UDC images (Koh, Lee and Yoon, CVPR 2022).

A high-resolution branch scales and shifts every pixel, a low-resolution branch then corrects its colour. Written from a
description of the network; attribute names are the keys of the published checkpoints.
"""

from __future__ import annotations

import torch
from torch import nn

from udc_robust.restorers.two_branches import SmoothDilatedBlock, TwoBranchNet, plain_conv


class ResidualGroup(nn.Module):
    """``blocks`` smooth dilated blocks and a convolution, added to the input."""

    def __init__(self, channels: int, blocks: int, kernel_size: int) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.body = nn.Sequential(*(SmoothDilatedBlock(channels) for _ in range(blocks)), conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, H, W) to the same shape."""
        return self.body(x) + x


class HighResolutionTrunk(nn.Module):
    """Three residual groups in series."""

    def __init__(self, channels: int, blocks: int, kernel_size: int) -> None:
        super().__init__()
        self.orb1 = ResidualGroup(channels, blocks, kernel_size)
        self.orb2 = ResidualGroup(channels, blocks, kernel_size)
        self.orb3 = ResidualGroup(channels, blocks, kernel_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, H, W) to the same shape."""
        return self.orb3(self.orb2(self.orb1(x)))


class BNUDCnet(TwoBranchNet):
    """BNUDC's network; the default arguments are those of all its published weights.

    Works on tone-mapped images (published SYNTH weights) or 8-bit values over 255 (POLED and TOLED weights). The output
    is not clamped. Every pixel depends on the size of the whole frame, so tiles differ.

    Args:
        n_feat_high: channels of the high-resolution branch, even.
        n_feat_low: channels of the low-resolution branch at its finest level, even.
        scale_feats: channels added at each of its coarser levels, even.
        num_blk: blocks in each of the three residual groups.
        kernel_size: side of the plain convolutions, odd.
        bias: whether the first and last convolutions of the branches have a bias.
    """

    tail: nn.Module
    channels_last = True
    source = "https://github.com/JaihyunKoh/BNUDC"
    weights_licence = "BSD-2-Clause text in the repository"

    def __init__(
        self,
        n_feat_high: int = 72,
        n_feat_low: int = 32,
        scale_feats: int = 8,
        num_blk: int = 6,
        kernel_size: int = 3,
        bias: bool = True,
    ) -> None:
        first = plain_conv(12, n_feat_high, kernel_size, bias)
        super().__init__(
            n_feat_low, scale_feats, kernel_size, bias,
            shallow_feat=nn.Sequential(first, SmoothDilatedBlock(n_feat_high)),
            orsnet=HighResolutionTrunk(n_feat_high, num_blk, kernel_size),
            tail=plain_conv(n_feat_high, 24, kernel_size, bias),
        )  # fmt: skip
        # A box blur at the start, but trained with the rest.
        self.box_filter = nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)
        nn.init.ones_(self.box_filter.weight)

    def high_resolution(self, x: torch.Tensor) -> torch.Tensor:
        """Scale and shift every pixel of (B, 3, H, W)."""
        features = self.orsnet(self.shallow_feat(nn.functional.pixel_unshuffle(x, 2)))
        scale, shift = nn.functional.pixel_shuffle(self.tail(features), 2).chunk(2, 1)
        return x * scale + shift

    def smoothed(self, small: torch.Tensor) -> torch.Tensor:
        """The small image blurred; dividing by the answer to ones keeps the gain at 1, also at the borders."""
        return self.box_filter(small) / self.box_filter(torch.ones_like(small[:1]))

"""NAFNet (Chen et al., ECCV 2022) and its local-pooling variant for large images (TLC, Chu et al., ECCV 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from udc_robust.errors import UserError
from udc_robust.restorers.base import RestorerMixin


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel, ``(B,C,H,W)`` to ``(B,C,H,W)``, biased variance, eps 1e-6."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise ``(B,C,H,W)``."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def simple_gate(x: torch.Tensor) -> torch.Tensor:
    """First half of the channels times the second half (eq. 5 of the NAFNet paper)."""
    first, second = x.chunk(2, dim=1)
    return first * second


class NAFBlock(nn.Module):
    """Gated convolution block with channel attention; the identity at initialisation (beta = gamma = 0)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        self.conv1 = nn.Conv2d(c, 2 * c, 1)
        self.conv2 = nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
        self.conv3 = nn.Conv2d(c, c, 1)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1))
        self.conv4 = nn.Conv2d(c, 2 * c, 1)
        self.conv5 = nn.Conv2d(c, c, 1)
        self.norm1 = ChannelNorm(c)
        self.norm2 = ChannelNorm(c)
        self.beta = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, c, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B,C,H,W)`` to ``(B,C,H,W)``."""
        gated = simple_gate(self.conv2(self.conv1(self.norm1(x))))
        y = x + self.beta * self.conv3(gated * self.sca(gated))
        return y + self.gamma * self.conv5(simple_gate(self.conv4(self.norm2(y))))


class NAFNet(RestorerMixin, nn.Module):
    """U-shaped stack of NAFBlocks for sRGB images ``(B,3,H,W)`` in [0,1]; any size, output not clamped.

    The image is zero-padded on the right and bottom to a multiple of ``2 ** len(enc_blk_nums)``. The padding enters
    the global pools, so it changes every pixel; it is kept because the official weights were tested so.

    Args:
        img_channel: channels of the input and the output.
        width: channels at full resolution; doubled at every level.
        middle_blk_num: blocks at the lowest resolution.
        enc_blk_nums: blocks of each encoder level, finest first.
        dec_blk_nums: blocks of each decoder level, coarsest first; as many levels as the encoder.
    """

    domain = "srgb"
    whole_image = True
    channels_last = True
    source = "https://github.com/megvii-research/NAFNet"
    weights_licence = "MIT"

    def __init__(
        self,
        img_channel: int = 3,
        width: int = 16,
        middle_blk_num: int = 1,
        enc_blk_nums: Sequence[int] = (),
        dec_blk_nums: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if len(enc_blk_nums) != len(dec_blk_nums):
            raise UserError(
                f"NAFNet: enc_blk_nums has {len(enc_blk_nums)} levels and dec_blk_nums {len(dec_blk_nums)}; "
                "give both the same number"
            )
        self.img_channel = img_channel
        self.padder_size = 2 ** len(enc_blk_nums)
        widths = [width * 2**level for level in range(len(enc_blk_nums))]
        self.intro = nn.Conv2d(img_channel, width, 3, padding=1)
        self.ending = nn.Conv2d(width, img_channel, 3, padding=1)
        self.encoders = nn.ModuleList(_blocks(c, n) for c, n in zip(widths, enc_blk_nums, strict=True))
        self.decoders = nn.ModuleList(_blocks(c, n) for c, n in zip(widths[::-1], dec_blk_nums, strict=True))
        self.middle_blks = _blocks(width * self.padder_size, middle_blk_num)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * c, 4 * c, 1, bias=False), nn.PixelShuffle(2)) for c in widths[::-1]
        )
        self.downs = nn.ModuleList(nn.Conv2d(c, 2 * c, 2, stride=2) for c in widths)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restore ``(B,img_channel,H,W)``; the result has the same shape and is not clamped."""
        self.check_image(x, self.img_channel)
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.padder_size, 0, -height % self.padder_size))
        z = self.intro(x)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            z = encoder(z)
            skips.append(z)
            z = down(z)
        z = self.middle_blks(z)
        for decoder, up, skip in zip(self.decoders, self.ups, skips[::-1], strict=True):
            z = decoder(up(z) + skip)
        return (self.ending(z) + x)[..., :height, :width]


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(channels) for _ in range(count)))


class NAFNetLocal(NAFNet):
    """NAFNet whose pools see the window they saw in training instead of the whole image (TLC).

    Same weights, names and first five arguments as NAFNet, and the same output up to 1.5 times the training size.

    Args:
        train_size: height and width of the training crops in pixels; longer sequences count from the end, so that the
            ``(1, 3, 256, 256)`` of official option files works too.
    """

    def __init__(
        self,
        img_channel: int = 3,
        width: int = 16,
        middle_blk_num: int = 1,
        enc_blk_nums: Sequence[int] = (),
        dec_blk_nums: Sequence[int] = (),
        train_size: Sequence[int] = (256, 256),
    ) -> None:
        super().__init__(img_channel, width, middle_blk_num, enc_blk_nums, dec_blk_nums)
        train_height, train_width = train_size[-2:]
        levels = [*self.encoders, self.middle_blks]
        for level, stage in enumerate([*levels, *list(self.decoders)[::-1]]):
            scale = 2 ** (level if level < len(levels) else level - len(levels))
            window = (self._window(train_height, scale), self._window(train_width, scale))
            for block in stage:
                block.sca[0] = LocalMean(window)

    def _window(self, train_side: int, scale: int) -> int:
        """Pool window, in feature pixels at ``1/scale``: 1.5 times the padded training crop's side there."""
        padded = train_side + -train_side % self.padder_size
        return padded // scale * (train_side * 3 // 2) // train_side


class LocalMean(nn.Module):
    """Mean over a window around each pixel, shifted inwards at the borders; the global mean for small maps.

    Args:
        window: height and width of the window in feature pixels.
    """

    def __init__(self, window: tuple[int, int]) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B,C,H,W)`` to ``(B,C,1,1)`` where the window covers the map, else to ``(B,C,H,W)``."""
        height, width = x.shape[-2:]
        if self.window[0] >= height and self.window[1] >= width:
            return x.mean(dim=(-2, -1), keepdim=True)
        rows, columns = min(self.window[0], height), min(self.window[1], width)
        top, left = (rows - 1) // 2, (columns - 1) // 2
        border = (left, columns - 1 - left, top, rows - 1 - top)
        return F.pad(box_mean(x, rows, columns), border, mode="replicate")


def box_mean(x: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Mean of every whole ``rows x columns`` window: ``(B,C,H,W)`` to ``(B,C,H-rows+1,W-columns+1)``.

    The cost does not depend on the window. The running sums are float64, as differences of large float32 or half
    sums would lose the signal.
    """
    sums = F.pad(x.double().cumsum(-2).cumsum(-1), (1, 0, 1, 0))
    bands = sums[..., rows:, :] - sums[..., :-rows, :]
    return ((bands[..., columns:] - bands[..., :-columns]) / (rows * columns)).to(x.dtype)

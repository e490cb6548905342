"""The form of BNUDC (Koh et al., CVPR 2022) and FSI (Liu et al., ICCV 2023), and its parts.

Both restore detail in a high-resolution branch and colour in a low-resolution branch. The latter looks at the image at
a quarter of its size and predicts, per pixel, a 3x3 colour matrix and an offset. It is built of smooth dilated residual
blocks (Wang and Ji 2018 describe the shared smoothing). Attribute names are the keys of the published checkpoints.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from udc_robust.restorers.base import RestorerMixin

_DILATIONS = (1, 2, 4, 8)


def normed_conv(inputs: int, outputs: int, side: int, dilation: int = 1) -> nn.Module:
    """Build a size-keeping convolution without bias whose weight is normalised per output channel."""
    padding = dilation * (side // 2)
    return weight_norm(nn.Conv2d(inputs, outputs, side, padding=padding, dilation=dilation, bias=False))


def plain_conv(inputs: int, outputs: int, side: int, bias: bool) -> nn.Conv2d:
    """Build a size-keeping convolution."""
    return nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=bias)


class SharedFilter(nn.Module):
    """One learned ``side`` x ``side`` kernel applied to every channel alike, zero padded; starts as the identity.

    It smooths before a dilated convolution, so that neighbouring outputs do not see disjoint grids of inputs.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1, side, side))
        nn.init.dirac_(self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filter (B, C, H, W) to the same shape."""
        channels = x.shape[1]
        return F.conv2d(x, self.weight.expand(channels, -1, -1, -1), padding="same", groups=channels)


class SmoothDilatedBlock(nn.Module):
    """Four smoothed convolutions of dilation 1, 2, 4 and 8 side by side, merged, added to the input; LReLU(0.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for dilation in _DILATIONS:
            self.add_module(f"pre_conv{dilation}", SharedFilter(2 * dilation - 1))
        for dilation in _DILATIONS:
            self.add_module(f"conv{dilation}", normed_conv(channels, channels // 2, 3, dilation))
        self.conv = nn.Conv2d(4 * (channels // 2), channels, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, H, W) to the same shape."""
        branches = []
        for dilation in _DILATIONS:
            smooth, conv = self.get_submodule(f"pre_conv{dilation}"), self.get_submodule(f"conv{dilation}")
            branches.append(F.leaky_relu(conv(smooth(x)), 0.2))
        return F.leaky_relu(self.conv(torch.cat(branches, 1)) + x, 0.2)


def _two_blocks(channels: int) -> nn.Sequential:
    return nn.Sequential(SmoothDilatedBlock(channels), SmoothDilatedBlock(channels))


def _resize(factor: float) -> nn.Module:
    return nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=False)


class Downsample(nn.Module):
    """Halve height and width, then mix channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down = nn.Sequential(_resize(0.5), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H/2, W/2)."""
        return self.down(x)


class Upsample(nn.Module):
    """Double height and width, then mix channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.Sequential(_resize(2.0), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, H, W) to (B, outputs, 2H, 2W)."""
        return self.up(x)


class ColourEncoder(nn.Module):
    """Three levels of smooth dilated blocks, each at half the size of the one before and ``step`` channels wider."""

    def __init__(self, width: int, step: int) -> None:
        super().__init__()
        self.encoder_level1 = _two_blocks(width)
        self.encoder_level2 = _two_blocks(width + step)
        self.encoder_level3 = _two_blocks(width + 2 * step)
        self.down12 = Downsample(width, width + step)
        self.down23 = Downsample(width + step, width + 2 * step)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Map (B, width, H, W) to the features of the three levels, finest first."""
        level1 = self.encoder_level1(x)
        level2 = self.encoder_level2(self.down12(level1))
        level3 = self.encoder_level3(self.down23(level2))
        return level1, level2, level3


class ColourDecoder(nn.Module):
    """The way back up, adding what the encoder saw at each level."""

    def __init__(self, width: int, step: int) -> None:
        super().__init__()
        self.decoder_level1 = _two_blocks(width)
        self.decoder_level2 = _two_blocks(width + step)
        self.decoder_level3 = _two_blocks(width + 2 * step)
        self.skip_attn1 = SmoothDilatedBlock(width)
        self.skip_attn2 = SmoothDilatedBlock(width + step)
        self.up21 = Upsample(width + step, width)
        self.up32 = Upsample(width + 2 * step, width + step)

    def forward(self, levels: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Map the three encoder levels, finest first, to (B, width, H, W)."""
        level1, level2, level3 = levels
        coarse = self.decoder_level3(level3)
        middle = self.decoder_level2(self.up32(coarse) + self.skip_attn2(level2))
        return self.decoder_level1(self.up21(middle) + self.skip_attn1(level1))


def quarter_size(x: torch.Tensor) -> torch.Tensor:
    """Sample (B, C, H, W) at (B, C, H//4, W//4), corner on corner and without antialiasing, as the papers' codes do."""
    size = (x.shape[-2] // 4, x.shape[-1] // 4)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def enlarge_coefficients(coefficients: torch.Tensor) -> torch.Tensor:
    """Resize (B, 12, H/4, W/4) to (B, 12, H, W), corner on corner: the inverse of ``quarter_size``."""
    return F.interpolate(coefficients, scale_factor=4, mode="bilinear", align_corners=True)


def transform_colours(image: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """Apply each pixel's own colour matrix and offset.

    Args:
        image: (B, 3, H, W).
        coefficients: (B, 12, H, W); the first nine channels are the 3x3 matrix row by row, the last three the offset.
    """
    matrix, offset = coefficients[:, :9].unflatten(1, (3, 3)), coefficients[:, 9:]
    return (matrix * image.unsqueeze(1)).sum(2) + offset


class TwoBranchNet(RestorerMixin, nn.Module):
    """The two branches together. Resampling corner on corner ties every pixel to the size of the whole frame.

    A subclass hands over the modules of its high-resolution branch and writes `high_resolution`.

    Args:
        n_feat_low: channels of the low-resolution branch at its finest level, even.
        step: channels added at each of its coarser levels, even.
        kernel_size: side of its plain convolutions, odd.
        bias: whether its first and last convolutions have a bias.
        high: modules of the high-resolution branch by name.
    """

    shallow_feat: nn.Module
    orsnet: nn.Module
    domain = "tonemapped"
    size_multiple = 16
    min_size = 16
    whole_image = True

    def __init__(self, n_feat_low: int, step: int, kernel_size: int, bias: bool, **high: nn.Module) -> None:
        super().__init__()
        for name, module in high.items():
            self.add_module(name, module)
        first = plain_conv(3, n_feat_low, kernel_size, bias)
        self.shallow_sub = nn.Sequential(first, SmoothDilatedBlock(n_feat_low))
        self.encoder_sub = ColourEncoder(n_feat_low, step)
        self.decoder_sub = ColourDecoder(n_feat_low, step)
        self.tail_sub = plain_conv(n_feat_low, 12, kernel_size, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restore (B, 3, H, W); H and W are multiples of 16, else UserError."""
        self.check_image(x, 3)
        return transform_colours(self.high_resolution(x), self._colour_coefficients(x))

    def forward_parts(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the published network's outputs, each (B, 3, H, W): high branch alone, low branch alone, restored."""
        self.check_image(x, 3)
        high, coefficients = self.high_resolution(x), self._colour_coefficients(x)
        return high, transform_colours(x, coefficients), transform_colours(high, coefficients)

    def high_resolution(self, x: torch.Tensor) -> torch.Tensor:
        """Scale and shift every pixel of (B, 3, H, W)."""
        raise NotImplementedError

    def smoothed(self, small: torch.Tensor) -> torch.Tensor:
        """What the low-resolution branch sees of the small image."""
        return small

    def _colour_coefficients(self, x: torch.Tensor) -> torch.Tensor:
        features = self.decoder_sub(self.encoder_sub(self.shallow_sub(self.smoothed(quarter_size(x)))))
        return enlarge_coefficients(self.tail_sub(features))

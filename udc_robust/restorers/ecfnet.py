"""ECFNet: enhanced coarse-to-fine network for UDC images (Zhu et al., MIPI challenge at ECCV 2022).

An encoder-decoder over four scales that takes the image at each of them and gives one at each of them. Written from a
description of the network; attribute names are the keys of the published checkpoint. Abbreviations in the keys: SCM
shallow convolution module, FAM feature attention module, AFF asymmetric feature fusion.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from udc_robust.restorers.base import RestorerMixin


class ConvLayer(nn.Module):
    """A convolution with bias, followed by GELU if ``activate``."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1, activate: bool = True) -> None:
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, side, stride, side // 2)
        self.main = nn.Sequential(conv, nn.GELU()) if activate else nn.Sequential(conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        return self.main(x)


class DoublingLayer(nn.Module):
    """A transposed convolution that doubles height and width, followed by GELU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.GELU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, H, W) to (B, outputs, 2H, 2W)."""
        return self.main(x)


class DenseLayer(nn.Module):
    """Append ``growth`` new channels to the input."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(inputs, growth, 3, padding=1), nn.GELU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, H, W) to (B, inputs + growth, H, W)."""
        return torch.cat((x, self.conv(x)), 1)


class ResidualDenseBlock(nn.Module):
    """Three dense layers, merged and added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(DenseLayer(channels * count, channels) for count in (1, 2, 3)))
        self.LFF = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, H, W) to the same shape."""
        return self.LFF(self.convs(x)) + x


class Stage(nn.Module):
    """``blocks`` residual dense blocks in series."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(ResidualDenseBlock(channels) for _ in range(blocks)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, H, W) to the same shape."""
        return self.layers(x)


class ShallowConvolutions(nn.Module):
    """Features of a small image, which itself makes up the first three channels before the last mix."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            ConvLayer(3, channels // 4, 3),
            ConvLayer(channels // 4, channels // 2, 1),
            ConvLayer(channels // 2, channels // 2, 3),
            ConvLayer(channels // 2, channels - 3, 1),
        )
        self.conv = ConvLayer(channels, channels, 1, activate=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, H, W) to (B, channels, H, W)."""
        return self.conv(torch.cat((image, self.main(image)), 1))


class FeatureAttention(nn.Module):
    """Add to the trunk what its product with the small image's features says."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.merge = ConvLayer(channels, channels, 3, activate=False)

    def forward(self, trunk: torch.Tensor, small: torch.Tensor) -> torch.Tensor:
        """Map two (B, channels, H, W) to one of the same shape."""
        return trunk + self.merge(trunk * small)


class SupervisedAttention(nn.Module):
    """Give the restored image of this scale, and let it gate the features that go on."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvLayer(channels, channels, 3)
        self.conv2 = ConvLayer(channels, 3, 3, activate=False)
        self.conv3 = ConvLayer(3, channels, 3, activate=False)

    def forward(self, features: torch.Tensor, small: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (features, restored image) from features (B, channels, H, W) and the input image at their size."""
        image = self.conv2(features) + small
        return self.conv1(features) * torch.sigmoid(self.conv3(image)) + features, image


class PlainFusion(nn.Module):
    """Fuse the encoder's four levels by two convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(ConvLayer(inputs, outputs, 1), ConvLayer(outputs, outputs, 3, activate=False))

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        """Map the concatenated levels (B, inputs, H, W) to (B, outputs, H, W)."""
        return self.conv(levels)


class GatedFusion(nn.Module):
    """Fuse the encoder's four levels by two gates, the second of which acts on what the first let through."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        hidden = 4 * inputs
        self.project_in = nn.Conv2d(inputs, hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, outputs, 1, bias=False)

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        """Map the concatenated levels (B, inputs, H, W) to (B, outputs, H, W)."""
        first, second = self.dwconv(self.project_in(levels)).chunk(2, 1)
        gated_first = torch.sigmoid(first) * second
        gated_second = torch.sigmoid(second) * gated_first
        return self.project_out(torch.cat((gated_first, gated_second), 1))


def resize_nearest(x: torch.Tensor, factor: float) -> torch.Tensor:
    """Resize by a power of two: every 1/factor-th pixel downwards, pixel repetition upwards, nothing for 1."""
    return x if factor == 1 else F.interpolate(x, scale_factor=factor, mode="nearest")


class MIMOUNet_complete(RestorerMixin, nn.Module):
    """ECFNet's network; the published weights have ``base_channel`` 24 and ``num_res`` 6.

    Works on tone-mapped images; the output is not clamped.

    Args:
        base_channel: channels at full size; twice as many at half size, four times as many below.
        num_res: residual dense blocks in each of the eight stages.
    """

    domain = "tonemapped"
    size_multiple = 8
    min_size = 8
    whole_image = False
    source = "https://github.com/zhuyr97/ECFNet"
    weights_licence = "none stated"

    def __init__(self, base_channel: int = 24, num_res: int = 8) -> None:
        super().__init__()
        full, half, low = base_channel, 2 * base_channel, 4 * base_channel
        fused = full + half + low + low
        self.Encoder = nn.ModuleList(Stage(channels, num_res) for channels in (full, half, low, low))
        self.feat_extract = nn.ModuleList(
            [
                ConvLayer(3, full, 3),
                ConvLayer(full, half, 3, stride=2),
                ConvLayer(half, low, 3, stride=2),
                ConvLayer(low, low, 3, stride=2),
                DoublingLayer(low, low),
                DoublingLayer(low, half),
                DoublingLayer(half, full),
                ConvLayer(full, 3, 3, activate=False),
            ]
        )
        self.Decoder = nn.ModuleList(Stage(channels, num_res) for channels in (low, low, half, full))
        self.Convs = nn.ModuleList(ConvLayer(2 * channels, channels, 1) for channels in (low, half, full))
        self.ConvsOut = nn.ModuleList(SupervisedAttention(channels) for channels in (low, low, half))
        self.AFFs = nn.ModuleList(
            [PlainFusion(fused, full), GatedFusion(fused, half), GatedFusion(fused, low), GatedFusion(fused, low)]
        )
        # Numbered from the smallest scale, 1/8, to half size.
        self.FAM0, self.SCM0 = FeatureAttention(low), ShallowConvolutions(low)
        self.FAM1, self.SCM1 = FeatureAttention(low), ShallowConvolutions(low)
        self.FAM2, self.SCM2 = FeatureAttention(half), ShallowConvolutions(half)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restore (B, 3, H, W); H and W are multiples of 8, else UserError."""
        return self.forward_scales(x)[-1]

    def forward_scales(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the restored image at 1/8, 1/4, 1/2 and full size, as the published network does."""
        self.check_image(x, 3)
        smaller = [resize_nearest(x, factor) for factor in (1 / 8, 1 / 4, 1 / 2)]
        fused = self._fuse(self._encode(x, smaller))
        features, images = fused[3], []
        for index, small in enumerate(smaller):
            features, image = self.ConvsOut[index](self.Decoder[index](features), small)
            images.append(image)
            features = self.feat_extract[4 + index](features)
            features = self.Convs[index](torch.cat((features, fused[2 - index]), 1))
        return [*images, self.feat_extract[7](self.Decoder[3](features)) + x]

    def _encode(self, x: torch.Tensor, smaller: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the features of the four levels, full size first."""
        eighth, quarter, half = smaller
        levels = [self.Encoder[0](self.feat_extract[0](x))]
        entries = ((self.FAM2, self.SCM2, half), (self.FAM1, self.SCM1, quarter), (self.FAM0, self.SCM0, eighth))
        for index, (attention, shallow, small) in enumerate(entries, start=1):
            trunk = self.feat_extract[index](levels[-1])
            levels.append(self.Encoder[index](attention(trunk, shallow(small))))
        return levels

    def _fuse(self, levels: list[torch.Tensor]) -> list[torch.Tensor]:
        """Bring the four levels to each of the four sizes and fuse them there, full size first."""
        fused = []
        for target, fusion in enumerate(self.AFFs):
            resized = [resize_nearest(level, 2.0 ** (own - target)) for own, level in enumerate(levels)]
            fused.append(fusion(torch.cat(resized, 1)))
        return fused

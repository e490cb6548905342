"""UDC-UNet: dynamic kernels and spatial feature transform on linear HDR images (Liu et al., ECCV 2022 workshops)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from udc_robust.errors import UserError
from udc_robust.restorers.base import RestorerMixin
from udc_robust.restorers.dynamic_conv import predicted_dynamic_conv
from udc_robust.restorers.residual_block import ResidualBlock, small_kaiming_

# The centre code of the ZTE Axon 20 panel as rounded in the published network.
ROUNDED_PSF_CODE = (-0.0020, 0.0352, -2.0215e-05, 0.0060, 9.4328e-05)
SFT_WIDTH = 32  # hidden channels of the feature transform, whatever the width of the network


class FeatureTransform(nn.Module):
    """Scale and shift the features per pixel by maps computed from the condition (SFT, Wang et al., CVPR 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.SFT_scale_conv0 = nn.Conv2d(channels, SFT_WIDTH, 1)
        self.SFT_scale_conv1 = nn.Conv2d(SFT_WIDTH, channels, 1)
        self.SFT_shift_conv0 = nn.Conv2d(channels, SFT_WIDTH, 1)
        self.SFT_shift_conv1 = nn.Conv2d(SFT_WIDTH, channels, 1)

    def forward(self, feature: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Transform ``feature`` by ``condition``, both ``(B,C,H,W)``."""
        scale = self.SFT_scale_conv1(F.leaky_relu(self.SFT_scale_conv0(condition), 0.2))
        shift = self.SFT_shift_conv1(F.leaky_relu(self.SFT_shift_conv0(condition), 0.2))
        return feature * (scale + 1) + shift


class TransformedBlock(nn.Module):
    """Residual block with a feature transform in front of each convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = small_kaiming_(nn.Conv2d(channels, channels, 3, padding=1))
        self.conv2 = small_kaiming_(nn.Conv2d(channels, channels, 3, padding=1))
        self.sft1 = FeatureTransform(channels)
        self.sft2 = FeatureTransform(channels)

    def forward(self, feature: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Map ``feature`` and ``condition``, both ``(B,C,H,W)``, to ``(B,C,H,W)``."""
        z = F.leaky_relu(self.conv1(self.sft1(feature, condition)), 0.2)
        return feature + self.conv2(self.sft2(z, condition))


class Stage(nn.Sequential):
    """Blocks in a row that see the same condition."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__(*(TransformedBlock(channels) for _ in range(depth)))

    def forward(self, feature: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Map ``feature`` and ``condition``, both ``(B,C,H,W)``, to ``(B,C,H,W)``."""
        for block in self:
            feature = block(feature, condition)
        return feature


class UDCUNet(RestorerMixin, nn.Module):
    """U-net with condition maps and dynamic kernels at four scales.

    Takes and returns linear light ``(B,3,H,W)``, 0..500, without tone mapping. A final ReLU keeps the result at 0 or
    above; its gradient is 0 where the prediction is negative. The PSF code is a constant inside. Radiances enter
    un-normalised, so float16 may overflow.

    Args:
        in_nc: channels of the image.
        out_nc: channels of the result, equal to ``in_nc`` as the image is added to it.
        nf: channels at full resolution; 2x, 4x and 8x below.
        depths: blocks of the encoder (finest first), the bottom, and the decoder (coarsest first): seven numbers.
        DyK_size: side of the dynamic kernels, odd.
    """

    domain = "linear"
    size_multiple = 8
    min_size = 8
    source = "https://github.com/J-FHu/UDCUNet"
    weights_licence = "MIT"
    psf_code: torch.Tensor

    def __init__(
        self,
        in_nc: int = 3,
        out_nc: int = 3,
        nf: int = 32,
        depths: Sequence[int] = (2, 2, 2, 8, 2, 2, 2),
        DyK_size: int = 3,
    ) -> None:
        super().__init__()
        if in_nc != out_nc:
            raise UserError(
                f"UDCUNet: in_nc {in_nc} and out_nc {out_nc} must be equal, the image is added to the result"
            )
        if len(depths) != 7:
            raise UserError(f"UDCUNet: depths must hold 7 numbers, got {len(depths)}")
        if DyK_size % 2 == 0:
            raise UserError(f"UDCUNet: DyK_size must be odd, got {DyK_size}")
        self.in_nc, self.kernel_size = in_nc, DyK_size
        self.register_buffer("psf_code", torch.tensor(ROUNDED_PSF_CODE).view(1, -1, 1, 1), persistent=False)

        self.cond_head = _head(in_nc, nf)
        self.cond_first = nn.Sequential(ResidualBlock(nf), ResidualBlock(nf))
        for level in range(4):
            self.add_module(f"CondNet{level}", _side_net(nf, nf * 2**level, level))
        self.k_head = _head(in_nc + len(ROUNDED_PSF_CODE), nf)
        self.k_first = nn.Sequential(ResidualBlock(nf), ResidualBlock(nf))
        for level in range(4):
            self.add_module(f"KNet{level}", _side_net(nf, nf * 2**level * DyK_size**2, level))

        self.conv_first = _head(in_nc, nf)
        self.enconv_layer0 = Stage(nf, depths[0])
        self.down_conv0 = _down(nf)
        self.enconv_layer1 = Stage(2 * nf, depths[1])
        self.down_conv1 = _down(2 * nf)
        self.enconv_layer2 = Stage(4 * nf, depths[2])
        self.down_conv2 = _down(4 * nf)
        self.Bottom_conv = Stage(8 * nf, depths[3])
        self.up_conv2 = _up(8 * nf)
        self.deconv_layer2 = Stage(4 * nf, depths[4])
        self.up_conv1 = _up(4 * nf)
        self.deconv_layer1 = Stage(2 * nf, depths[5])
        self.up_conv0 = _up(2 * nf)
        self.deconv_layer0 = Stage(nf, depths[6])
        self.conv_last = nn.Conv2d(nf, out_nc, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restore ``(B,in_nc,H,W)`` of linear light; H and W are multiples of 8."""
        self.check_image(x, self.in_nc)
        code_maps = self.psf_code.to(x.dtype).expand(x.shape[0], -1, *x.shape[-2:])
        hidden = self.k_first(self.k_head(torch.cat([x, code_maps], dim=1)))
        condition = self.cond_first(self.cond_head(x))
        m0, m1, m2, m3 = (self.get_submodule(f"CondNet{level}")(condition) for level in range(4))

        f0 = self.enconv_layer0(self.conv_first(x), m0)
        f1 = self.enconv_layer1(self.down_conv0(f0), m1)
        f2 = self.enconv_layer2(self.down_conv1(f1), m2)
        bottom = self.down_conv2(f2)
        z = self.Bottom_conv(bottom, m3) + self._filtered(bottom, hidden, 3)
        z = self.deconv_layer2(self.up_conv2(z) + self._filtered(f2, hidden, 2), m2)
        z = self.deconv_layer1(self.up_conv1(z) + self._filtered(f1, hidden, 1), m1)
        z = self.deconv_layer0(self.up_conv0(z) + self._filtered(f0, hidden, 0), m0)
        return F.relu(x + self.conv_last(z))

    def _filtered(self, feature: torch.Tensor, hidden: torch.Tensor, level: int) -> torch.Tensor:
        """Filter ``feature`` at ``level`` with the kernels that its KNet predicts from full-size ``hidden``."""
        *layers, head = self.get_submodule(f"KNet{level}").children()
        assert isinstance(head, nn.Conv2d)
        for layer in layers:
            hidden = layer(hidden)
        return predicted_dynamic_conv(feature, hidden, head, None, self.kernel_size)


def _head(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(0.2))


def _down(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)


def _up(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.PixelShuffle(2))


def _side_net(nf: int, outputs: int, halvings: int) -> nn.Sequential:
    """Three activated convolutions, the first ``halvings`` of them with stride 2, then a 1x1 convolution."""
    layers: list[nn.Module] = []
    for step in range(3):
        layers.append(nn.Conv2d(nf, nf, 3, stride=2, padding=1) if step < halvings else nn.Conv2d(nf, nf, 1))
        layers.append(nn.LeakyReLU(0.2))
    return nn.Sequential(*layers, nn.Conv2d(nf, outputs, 1))

"""Restormer: efficient transformer for high-resolution image restoration (Zamir et al., CVPR 2022).

Attention runs between channels, so its cost grows linearly with the number of pixels. Written from a description of the
network; attribute names are the keys of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from udc_robust.errors import UserError
from udc_robust.restorers.base import RestorerMixin

_EPSILON = 1e-5


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (B, H, W, channels)."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, _EPSILON)


class BiasFreeChannelNorm(nn.Module):
    """Division by the standard deviation over the channels of each pixel, without centring and without a bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (B, H, W, channels)."""
        variance = x.var(-1, keepdim=True, correction=0)
        return x * torch.rsqrt(variance + _EPSILON) * self.weight


class Norm(nn.Module):
    """One of the two channel norms, for channels-first features."""

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.body = BiasFreeChannelNorm(channels) if kind == "BiasFree" else ChannelNorm(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (B, channels, H, W)."""
        return self.body(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def depthwise(channels: int, bias: bool) -> nn.Conv2d:
    """Build a 3x3 convolution of each channel with itself."""
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=bias)


class ChannelAttention(nn.Module):
    """Multi-head attention between channels (section 3.1 of the paper)."""

    def __init__(self, channels: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=bias)
        self.qkv_dwconv = depthwise(3 * channels, bias)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, H, W) to the same shape; every pixel takes part in the attention."""
        heads = self.temperature.shape[0]
        # (B, 3 channels, H, W) to three of (B, heads, channels / heads, H W).
        query, key, value = self.qkv_dwconv(self.qkv(x)).flatten(2).unflatten(1, (3, heads, -1)).unbind(1)
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        attention = torch.softmax(query @ key.transpose(-2, -1) * self.temperature, dim=-1)
        return self.project_out((attention @ value).reshape(x.shape))


class GatedFeedForward(nn.Module):
    """Gated feed-forward network with depthwise convolution (section 3.2 of the paper)."""

    def __init__(self, channels: int, factor: float, bias: bool) -> None:
        super().__init__()
        hidden = int(channels * factor)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=bias)
        self.dwconv = depthwise(2 * hidden, bias)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, H, W) to the same shape."""
        gate, value = self.dwconv(self.project_in(x)).chunk(2, 1)
        return self.project_out(F.gelu(gate) * value)


class TransformerBlock(nn.Module):
    """Normalised attention and normalised feed-forward, each added to its input."""

    def __init__(self, channels: int, heads: int, factor: float, bias: bool, norm: str) -> None:
        super().__init__()
        self.norm1 = Norm(channels, norm)
        self.attn = ChannelAttention(channels, heads, bias)
        self.norm2 = Norm(channels, norm)
        self.ffn = GatedFeedForward(channels, factor, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, H, W) to the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class PatchEmbedding(nn.Module):
    """The first convolution; it keeps the size."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, channels, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, H, W) to (B, channels, H, W)."""
        return self.proj(x)


class Downsample(nn.Module):
    """Halve height and width, double the channels, by moving pixels into channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False)
        self.body = nn.Sequential(conv, nn.PixelUnshuffle(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, H, W) to (B, 2 channels, H/2, W/2)."""
        return self.body(x)


class Upsample(nn.Module):
    """Double height and width, halve the channels, by moving channels into pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False)
        self.body = nn.Sequential(conv, nn.PixelShuffle(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, H, W) to (B, channels / 2, 2H, 2W)."""
        return self.body(x)


class Restormer(RestorerMixin, nn.Module):
    """Restormer; the default arguments are those of the published deraining and deblurring weights.

    Works on sRGB images in [0, 1]; the output is not clamped. Attention sums over all pixels, so tiles differ.

    Args:
        inp_channels: channels of the input, 6 for a dual-pixel pair.
        out_channels: channels of the output; equal to ``inp_channels`` unless ``dual_pixel_task``.
        dim: channels at full size; they double at each of the three halvings. An even multiple of the heads.
        num_blocks: transformer blocks at full, half, quarter and eighth size.
        num_refinement_blocks: blocks at full size after the decoder.
        heads: attention heads at the four sizes.
        ffn_expansion_factor: hidden channels of the feed-forward network per channel.
        bias: whether the convolutions inside the blocks, the merges and the output have a bias.
        LayerNorm_type: ``WithBias``, or ``BiasFree`` as in the published denoisers.
        dual_pixel_task: restore one view from two; the input is then not added to the output.
    """

    domain = "srgb"
    size_multiple = 8
    min_size = 8
    whole_image = True
    source = "https://github.com/swz30/Restormer"
    weights_licence = "Academic Public License, non-commercial"

    def __init__(
        self,
        inp_channels: int = 3,
        out_channels: int = 3,
        dim: int = 48,
        num_blocks: Sequence[int] = (4, 6, 6, 8),
        num_refinement_blocks: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        ffn_expansion_factor: float = 2.66,
        bias: bool = False,
        LayerNorm_type: str = "WithBias",
        dual_pixel_task: bool = False,
    ) -> None:
        super().__init__()
        if LayerNorm_type not in ("WithBias", "BiasFree"):
            raise UserError(f"Restormer: LayerNorm_type is WithBias or BiasFree, not {LayerNorm_type!r}")
        if inp_channels != out_channels and not dual_pixel_task:
            raise UserError(
                f"Restormer adds its input ({inp_channels} channels) to its output ({out_channels} channels): "
                "make inp_channels and out_channels equal, or set dual_pixel_task"
            )

        def level(channels: int, head_count: int, blocks: int) -> nn.Sequential:
            block_args = (channels, head_count, ffn_expansion_factor, bias, LayerNorm_type)
            return nn.Sequential(*(TransformerBlock(*block_args) for _ in range(blocks)))

        self.inp_channels = inp_channels
        self.patch_embed = PatchEmbedding(inp_channels, dim)
        self.encoder_level1 = level(dim, heads[0], num_blocks[0])
        self.down1_2 = Downsample(dim)
        self.encoder_level2 = level(2 * dim, heads[1], num_blocks[1])
        self.down2_3 = Downsample(2 * dim)
        self.encoder_level3 = level(4 * dim, heads[2], num_blocks[2])
        self.down3_4 = Downsample(4 * dim)
        self.latent = level(8 * dim, heads[3], num_blocks[3])
        self.up4_3 = Upsample(8 * dim)
        self.reduce_chan_level3 = nn.Conv2d(8 * dim, 4 * dim, 1, bias=bias)
        self.decoder_level3 = level(4 * dim, heads[2], num_blocks[2])
        self.up3_2 = Upsample(4 * dim)
        self.reduce_chan_level2 = nn.Conv2d(4 * dim, 2 * dim, 1, bias=bias)
        self.decoder_level2 = level(2 * dim, heads[1], num_blocks[1])
        self.up2_1 = Upsample(2 * dim)
        # At full size nothing reduces the channels after the skip, so these blocks are twice as wide.
        self.decoder_level1 = level(2 * dim, heads[0], num_blocks[0])
        self.refinement = level(2 * dim, heads[0], num_refinement_blocks)
        self.skip_conv = nn.Conv2d(dim, 2 * dim, 1, bias=bias) if dual_pixel_task else None
        self.output = nn.Conv2d(2 * dim, out_channels, 3, padding=1, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restore (B, inp_channels, H, W) to (B, out_channels, H, W); H and W are multiples of 8, else UserError."""
        self.check_image(x, self.inp_channels)
        embedded = self.patch_embed(x)
        features = self._features(embedded)
        if self.skip_conv is not None:
            return self.output(features + self.skip_conv(embedded))
        return self.output(features) + x

    def _features(self, embedded: torch.Tensor) -> torch.Tensor:
        """Run the encoder, the decoder and the refinement: (B, dim, H, W) to (B, 2 dim, H, W)."""
        level1 = self.encoder_level1(embedded)
        level2 = self.encoder_level2(self.down1_2(level1))
        level3 = self.encoder_level3(self.down2_3(level2))
        deepest = self.latent(self.down3_4(level3))
        up3 = self.reduce_chan_level3(torch.cat((self.up4_3(deepest), level3), 1))
        up2 = self.reduce_chan_level2(torch.cat((self.up3_2(self.decoder_level3(up3)), level2), 1))
        up1 = torch.cat((self.up2_1(self.decoder_level2(up2)), level1), 1)
        return self.refinement(self.decoder_level1(up1))

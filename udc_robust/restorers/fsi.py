"""FSI: frequency and spatial interactive learning for UDC images (Liu et al., ICCV 2023).

BNUDC's two branches, with a high-resolution branch that keeps a spatial and a frequency stream and gates what each
hands to the other. Written from a description of the network; attribute names are the keys of the published
checkpoints.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from udc_robust.restorers.two_branches import TwoBranchNet, normed_conv, plain_conv

Streams = tuple[torch.Tensor, torch.Tensor]

_COLOUR_STEP = 8


def _activate(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, 0.05)


def real_spectrum(x: torch.Tensor, dim: int) -> torch.Tensor:
    """One-dimensional orthonormal spectrum of (B, C, H, W) along ``dim`` as (B, 2C, ...): real parts, then imaginary.

    Half precision is computed in float32, because the Fourier transform has no bfloat16.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    spectrum = torch.fft.rfft(wide, dim=dim, norm="ortho")
    return torch.cat((spectrum.real, spectrum.imag), 1).to(x.dtype)


def real_signal(spectrum: torch.Tensor, length: int, dim: int) -> torch.Tensor:
    """Inverse of ``real_spectrum`` for a signal of ``length`` samples along ``dim``."""
    wide = spectrum.to(torch.promote_types(spectrum.dtype, torch.float32))
    real, imaginary = wide.chunk(2, 1)
    # A real signal has no imaginary part at frequency zero and at the highest of an even length. CPU transforms drop
    # it; others need not, so it is zeroed here.
    frequencies = torch.arange(length // 2 + 1, device=wide.device)
    free = ((frequencies * 2) % length != 0).to(wide.dtype)
    shape = [1] * wide.ndim
    shape[dim] = -1
    complex_spectrum = torch.complex(real.contiguous(), imaginary * free.view(shape))
    return torch.fft.irfft(complex_spectrum, n=length, dim=dim, norm="ortho").to(spectrum.dtype)


class DistillationBlock(nn.Module):
    """Residual block that keeps a quarter of the channels after each convolution and works on with the rest.

    The kept parts are merged at the end. The names ``c1, c2, c3, c5`` are the published keys.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.kept = half // 2
        rest = half - self.kept
        self.c1 = normed_conv(channels, half, 3)
        self.c2 = normed_conv(rest, half, 3)
        self.c3 = normed_conv(rest, self.kept, 3)
        self.c5 = normed_conv(3 * self.kept, channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, H, W) to the same shape."""
        first = _activate(self.c1(x))
        second = _activate(self.c2(first[:, self.kept :]))
        third = _activate(self.c3(second[:, self.kept :]))
        return self.c5(torch.cat((first[:, : self.kept], second[:, : self.kept], third), 1)) + x


class FourierUnit(nn.Module):
    """Mix channels in the spectrum: of the rows for the first half of the channels, of the columns for the second."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_layer_vert = normed_conv(channels, channels, 1)
        self.conv_layer_hor = normed_conv(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, H, W) to the same shape; whole rows and columns take part."""
        rows, columns = x.chunk(2, 1)
        rows = _activate(self.conv_layer_hor(real_spectrum(rows, -1)))
        columns = _activate(self.conv_layer_vert(real_spectrum(columns, -2)))
        return torch.cat((real_signal(rows, x.shape[-1], -1), real_signal(columns, x.shape[-2], -2)), 1)


class SpectralTransform(nn.Module):
    """A residual Fourier unit on half the channels, between 1x1 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(normed_conv(channels, channels // 2, 1), nn.LeakyReLU(0.05))
        self.fu = FourierUnit(channels // 2)
        self.conv2 = normed_conv(channels // 2, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, H, W) to the same shape."""
        reduced = self.conv1(x)
        return self.conv2(reduced + self.fu(reduced))


class Gate(nn.Module):
    """Two gates per pixel, in (0, 1), from both streams."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial_attention = nn.Conv2d(2 * channels, 2, 1, bias=False)
        self.spatial_attention_hor = nn.Conv2d(2, 2, (1, 5), padding=(0, 2), bias=False)
        self.spatial_attention_vert = nn.Conv2d(2, 2, (5, 1), padding=(2, 0), bias=False)

    def forward(self, spatial: torch.Tensor, frequency: torch.Tensor) -> Streams:
        """Return the gates (frequency to spatial, spatial to frequency), each (B, 1, H, W)."""
        mixed = self.spatial_attention(torch.cat((spatial, frequency), 1))
        gates = torch.sigmoid(self.spatial_attention_hor(mixed) + self.spatial_attention_vert(mixed))
        return gates[:, :1], gates[:, 1:]


class StreamExchange(nn.Module):
    """Each stream becomes a function of itself plus a gated function of the other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs2s = DistillationBlock(channels)
        self.convs2f = SpectralTransform(channels)
        self.convf2s = DistillationBlock(channels)
        self.convf2f = SpectralTransform(channels)
        self.gate = Gate(channels)

    def forward(self, spatial: torch.Tensor, frequency: torch.Tensor) -> Streams:
        """Map two (B, channels, H, W) streams to two of the same shape."""
        to_spatial, to_frequency = self.gate(spatial, frequency)
        new_spatial = self.convs2s(spatial) + self.convf2s(frequency) * to_spatial
        new_frequency = self.convs2f(spatial) * to_frequency + self.convf2f(frequency)
        return new_spatial, new_frequency


class ActivatedExchange(nn.Module):
    """A stream exchange followed by LReLU(0.05) on both streams."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ffc = StreamExchange(channels)

    def forward(self, streams: Streams) -> Streams:
        """Map two (B, channels, H, W) streams to two of the same shape."""
        spatial, frequency = self.ffc(*streams)
        return _activate(spatial), _activate(frequency)


class ResidualExchange(nn.Module):
    """Two activated exchanges in series, added to the input streams."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ActivatedExchange(channels)
        self.conv2 = ActivatedExchange(channels)

    def forward(self, streams: Streams) -> Streams:
        """Map two (B, channels, H, W) streams to two of the same shape."""
        spatial, frequency = self.conv2(self.conv1(streams))
        return streams[0] + spatial, streams[1] + frequency


class ExchangeGroup(nn.Module):
    """``blocks`` residual exchanges and a convolution over both streams, added to the input streams."""

    def __init__(self, channels: int, blocks: int, kernel_size: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*(ResidualExchange(channels) for _ in range(blocks)))
        self.body_tail = nn.Conv2d(2 * channels, 2 * channels, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, streams: Streams) -> Streams:
        """Map two (B, channels, H, W) streams to two of the same shape."""
        spatial, frequency = self.body_tail(torch.cat(self.body(streams), 1)).chunk(2, 1)
        return streams[0] + spatial, streams[1] + frequency


class TwoStreamTrunk(nn.Module):
    """Three exchange groups in series; both streams start as the same features."""

    def __init__(self, channels: int, blocks: int, kernel_size: int) -> None:
        super().__init__()
        self.orb1 = ExchangeGroup(channels, blocks, kernel_size)
        self.orb2 = ExchangeGroup(channels, blocks, kernel_size)
        self.orb3 = ExchangeGroup(channels, blocks, kernel_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, H, W) to (B, 2 channels, H, W): the spatial stream, then the frequency stream."""
        return torch.cat(self.orb3(self.orb2(self.orb1((x, x)))), 1)


class UDCSFreqnet(TwoBranchNet):
    """FSI's network; the default arguments are those of its published weights.

    Works on tone-mapped images (published SYNTH weights) or 8-bit values over 255 (POLED and TOLED weights). The output
    is not clamped. Transforms of whole rows and columns tie every pixel to the whole frame, so tiles differ.

    Args:
        n_feat_high: channels of each stream of the high-resolution branch, a multiple of 4.
        n_feat_low: channels of the low-resolution branch at its finest level, even.
        scale_feats: accepted because published option files carry it; the network always widens by 8 channels a level.
        num_blk: residual exchanges in each of the three groups.
        kernel_size: side of the plain convolutions, odd.
        bias: whether the first and last convolutions of the branches have a bias.
    """

    tail_alpha: nn.Module
    tail_beta: nn.Module
    source = "https://github.com/ChengxuLiu/FSI"
    weights_licence = "MIT"

    def __init__(
        self,
        n_feat_high: int = 96,
        n_feat_low: int = 32,
        scale_feats: int = 8,
        num_blk: int = 2,
        kernel_size: int = 3,
        bias: bool = True,
    ) -> None:
        super().__init__(
            n_feat_low, _COLOUR_STEP, kernel_size, bias,
            shallow_feat=nn.Sequential(plain_conv(48, n_feat_high, kernel_size, bias)),
            orsnet=TwoStreamTrunk(n_feat_high, num_blk, kernel_size),
            tail_beta=plain_conv(2 * n_feat_high, 48, kernel_size, bias),
            tail_alpha=plain_conv(2 * n_feat_high, 48, kernel_size, bias),
        )  # fmt: skip

    def high_resolution(self, x: torch.Tensor) -> torch.Tensor:
        """Scale and shift every pixel of (B, 3, H, W)."""
        features = self.orsnet(self.shallow_feat(F.pixel_unshuffle(x, 4)))
        scale = F.pixel_shuffle(self.tail_alpha(features), 4)
        shift = F.pixel_shuffle(self.tail_beta(features), 4)
        return x * scale + shift

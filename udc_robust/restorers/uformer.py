"""Uformer: a U-shaped transformer with windowed attention (Wang et al., CVPR 2022)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from udc_robust.errors import UserError, unknown_name
from udc_robust.restorers.base import RestorerMixin
from udc_robust.restorers.window_transformer import LeWinBlock, channels_first, channels_last

PUBLISHED = {
    "T": {"embed_dim": 16, "depths": [2] * 9},
    "S": {"embed_dim": 32, "depths": [2] * 9},
    "B": {"embed_dim": 32, "depths": [1, 2, 8, 8, 2, 8, 8, 2, 1]},
}


class Uformer(RestorerMixin, nn.Module):
    """Encoder, bottleneck and decoder of LeWin blocks for sRGB images ``(B,3,H,W)`` in [0,1]; output not clamped.

    Sizes are multiples of ``size_multiple`` (128 for the published networks) on each side. The published network takes
    squares only and its scripts centre the image on a square black canvas, which ``square_canvas`` does too; without
    it, rectangles are cheaper, give the same for squares and differ for the rest: say which one a number is from.

    Args:
        img_size: side of the training crops. It fixes the window and the shift of each stage, so it changes the
            function but not the names of the weights: keep it with the checkpoint.
        in_chans: channels of the result.
        dd_in: channels of the image; the image is added to the result only if this is 3.
        embed_dim: channels of the first stage; doubled at each of four halvings.
        depths: blocks of the nine stages: four of the encoder, the bottleneck, four of the decoder.
        num_heads: heads of the nine stages.
        win_size: side of the attention windows in feature pixels.
        mlp_ratio: hidden channels of the feed-forward part over its channels.
        drop_path_rate: largest probability of leaving out a branch in training (stochastic depth).
        token_projection: only ``linear``.
        token_mlp: only ``leff``.
        modulator: add a learned offset to the window tokens of the decoder; on in all published networks.
        square_canvas: take any size and centre the image on the smallest black square that the stages can divide.
    """

    domain = "srgb"
    size_multiple = 128
    min_size = 128
    source = "https://github.com/ZhendongWang6/Uformer"
    weights_licence = "MIT"

    def __init__(
        self,
        img_size: int = 256,
        in_chans: int = 3,
        dd_in: int = 3,
        embed_dim: int = 32,
        depths: Sequence[int] = (2, 2, 2, 2, 2, 2, 2, 2, 2),
        num_heads: Sequence[int] = (1, 2, 4, 8, 16, 16, 8, 4, 2),
        win_size: int = 8,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.1,
        token_projection: str = "linear",
        token_mlp: str = "leff",
        modulator: bool = False,
        square_canvas: bool = False,
    ) -> None:
        super().__init__()
        _check_options(img_size, in_chans, dd_in, depths, num_heads, token_projection, token_mlp)
        self.dd_in = dd_in
        scales = [1, 2, 4, 8, 16, 8, 4, 2, 1]
        windows = [min(win_size, img_size // scale) for scale in scales]
        self.stride = math.lcm(*(s * w for s, w in zip(scales, windows, strict=True)))
        self.square_canvas = square_canvas
        self.size_multiple = self.min_size = 1 if square_canvas else self.stride
        if modulator and min(windows[5:]) < win_size:
            raise UserError(f"Uformer: img_size {img_size} is too small for the modulator, use at least {8 * win_size}")
        drop_rates = _drop_rates(depths, drop_path_rate)

        def stage(index: int, width: int) -> Stage:
            side = img_size // scales[index]
            shift = win_size // 2 if side > win_size else 0
            offsets = win_size**2 if modulator and index > 4 else 0
            blocks = (
                LeWinBlock(width, num_heads[index], windows[index], shift * (i % 2), mlp_ratio, rate, offsets)
                for i, rate in enumerate(drop_rates[index])
            )
            return Stage(blocks)

        d = embed_dim
        self.input_proj = _Projection(dd_in, d, nn.LeakyReLU())
        self.output_proj = _Projection(2 * d, in_chans)
        for i in range(4):
            self.add_module(f"encoderlayer_{i}", stage(i, d * 2**i))
            self.add_module(f"dowsample_{i}", Downsample(d * 2**i, d * 2 ** (i + 1)))  # spelt so in the checkpoints
        self.conv = stage(4, 16 * d)
        for i in range(4):
            inputs = 16 * d if i == 0 else d * 2 ** (5 - i)
            self.add_module(f"upsample_{i}", Upsample(inputs, d * 2 ** (3 - i)))
            self.add_module(f"decoderlayer_{i}", stage(5 + i, d * 2 ** (4 - i)))

    @classmethod
    def published(cls, variant: str, img_size: int = 128) -> Uformer:
        """Build the published ``T``, ``S`` or ``B`` network; 128 was used for denoising, 256 for deblurring."""
        if variant not in PUBLISHED:
            raise unknown_name("Uformer variant", variant, PUBLISHED)
        return cls(img_size=img_size, modulator=True, **PUBLISHED[variant])  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restore ``(B,dd_in,H,W)`` to ``(B,in_chans,H,W)``."""
        self.check_image(x, self.dd_in)
        return on_square_canvas(self._restored, x, self.stride) if self.square_canvas else self._restored(x)

    def _restored(self, x: torch.Tensor) -> torch.Tensor:
        z = channels_last(self.input_proj(x))
        skips = []
        for i in range(4):
            z = self.get_submodule(f"encoderlayer_{i}")(z)
            skips.append(z)
            z = self.get_submodule(f"dowsample_{i}")(z)
        z = self.conv(z)
        for i, skip in enumerate(reversed(skips)):
            z = torch.cat([self.get_submodule(f"upsample_{i}")(z), skip], dim=-1)
            z = self.get_submodule(f"decoderlayer_{i}")(z)
        out = self.output_proj(channels_first(z))
        return x + out if self.dd_in == 3 else out


class Stage(nn.Module):
    """Blocks in a row on ``(B,H,W,C)``."""

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B,H,W,C)`` to ``(B,H,W,C)``."""
        for block in self.blocks:
            x = block(x)
        return x


class _Projection(nn.Module):
    """A 3x3 convolution on ``(B,C,H,W)``, with or without an activation."""

    def __init__(self, inputs: int, outputs: int, *activation: nn.Module) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), *activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x)


class Downsample(nn.Module):
    """Half the resolution: ``(B,H,W,C)`` to ``(B,H/2,W/2,outputs)``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Halve the resolution of ``(B,H,W,C)``."""
        return channels_last(self.conv(channels_first(x)))


class Upsample(nn.Module):
    """Double the resolution: ``(B,H,W,C)`` to ``(B,2H,2W,outputs)``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.deconv = nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 2, stride=2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Double the resolution of ``(B,H,W,C)``."""
        return channels_last(self.deconv(channels_first(x)))


def on_square_canvas(network: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Run ``network`` on ``(B,C,H,W)`` in the middle of a black square whose side is a multiple; cut the result out."""
    height, width = x.shape[-2:]
    side = math.ceil(max(height, width) / multiple) * multiple
    top, left = (side - height) // 2, (side - width) // 2
    canvas = F.pad(x, (left, side - width - left, top, side - height - top))
    return network(canvas)[..., top : top + height, left : left + width]


def _drop_rates(depths: Sequence[int], largest: float) -> list[list[float]]:
    """Stochastic depth of each block: rising through the encoder, mirrored in the decoder."""
    rising = np.linspace(0, largest, sum(depths[:4])).tolist()
    rates = iter([*rising, *[largest] * depths[4], *rising[::-1]])
    return [[next(rates) for _ in range(depth)] for depth in depths]


def _check_options(
    img_size: int,
    in_chans: int,
    dd_in: int,
    depths: Sequence[int],
    num_heads: Sequence[int],
    token_projection: str,
    token_mlp: str,
) -> None:
    if img_size < 16 or img_size % 16:
        raise UserError(f"Uformer: img_size must be a multiple of 16, got {img_size}")
    if len(depths) != 9 or len(num_heads) != 9:
        raise UserError(f"Uformer: depths and num_heads must hold 9 numbers, got {len(depths)} and {len(num_heads)}")
    if sum(depths[:4]) != sum(depths[5:]):
        raise UserError("Uformer: encoder and decoder must have the same number of blocks; mend depths")
    if dd_in == 3 and in_chans != 3:
        raise UserError(f"Uformer: in_chans must be 3 as the image is added to the result, got {in_chans}")
    if (token_projection, token_mlp) != ("linear", "leff"):
        raise UserError("Uformer: only token_projection linear and token_mlp leff exist; remove these keys")

"""The block of Uformer (Wang et al., CVPR 2022): attention in shifted windows and a convolving feed-forward part."""

from __future__ import annotations

import math

import torch
from torch import nn

HIDDEN = -100.0  # added to the logits of pairs that must not see each other, as in the published network


class LeWinBlock(nn.Module):
    """Attention inside windows, then a feed-forward part with a depthwise convolution (LeWin block, section 3.2).

    Args:
        channels: C.
        heads: attention heads; they divide C.
        window: side of a window in feature pixels.
        shift: how far the windows are moved; 0 for none.
        mlp_ratio: hidden channels of the feed-forward part over C.
        drop_path: probability of leaving out each branch, per image, in training.
        modulator_tokens: rows of the learned offset of the window tokens; 0 for none.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: int,
        shift: int,
        mlp_ratio: float,
        drop_path: float,
        modulator_tokens: int,
    ) -> None:
        super().__init__()
        self.window, self.shift, self.drop_path = window, shift, drop_path
        self.modulator = nn.Embedding(modulator_tokens, channels) if modulator_tokens else None
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = FeedForward(channels, int(channels * mlp_ratio))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B,H,W,C)`` to the same; H and W are multiples of the window."""
        x = x + self._kept(self._attended(self.norm1(x)))
        return x + self._kept(self.mlp(self.norm2(x)))

    def _attended(self, x: torch.Tensor) -> torch.Tensor:
        batch, height, width, _ = x.shape
        mask = None
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
            mask = shift_mask(height, width, self.window, self.shift, x.device).to(x.dtype)
        tokens = to_windows(x, self.window)
        if self.modulator is not None:
            tokens = tokens + self.modulator.weight
        x = from_windows(self.attn(tokens, mask), batch, height, width)
        return x.roll((self.shift, self.shift), dims=(1, 2)) if self.shift else x

    def _kept(self, branch: torch.Tensor) -> torch.Tensor:
        """In training, leave the branch out of some images and scale it up in the others (stochastic depth)."""
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        return branch * branch.new_empty(branch.shape[0], 1, 1, 1).bernoulli_(keep) / keep


class WindowAttention(nn.Module):
    """Multi-head attention among the tokens of a window, with a learned bias per relative position."""

    relative_position_index: torch.Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(window))
        self.qkv = _QueryKeyValue(channels)
        self.proj = _linear(channels, channels)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Attend within ``(B*windows, tokens, C)``; ``mask`` ``(windows, tokens, tokens)`` is added to the logits."""
        count, length, channels = tokens.shape
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(tokens))
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        logits = (q * (channels // self.heads) ** -0.5) @ k.transpose(-2, -1) + bias
        if mask is not None:
            logits = (logits.unflatten(0, (-1, mask.shape[0])) + mask.unsqueeze(1)).flatten(0, 1)
        return self.proj((logits.softmax(-1) @ v).transpose(1, 2).reshape(count, length, channels))


class _QueryKeyValue(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_q = _linear(channels, channels)
        self.to_kv = _linear(channels, 2 * channels)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        k, v = self.to_kv(tokens).chunk(2, dim=-1)
        return self.to_q(tokens), k, v


class FeedForward(nn.Module):
    """Two linear layers with a depthwise 3x3 convolution over the image between them (LeFF)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Sequential(_linear(channels, hidden), nn.GELU())
        self.dwconv = nn.Sequential(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), nn.GELU())
        self.linear2 = nn.Sequential(_linear(hidden, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B,H,W,C)`` to ``(B,H,W,C)``."""
        return self.linear2(channels_last(self.dwconv(channels_first(self.linear1(x)))))


def to_windows(x: torch.Tensor, window: int) -> torch.Tensor:
    """Cut ``(B,H,W,C)`` into ``(B*windows, window*window, C)``; windows and their tokens go row by row."""
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return x.transpose(2, 3).reshape(-1, window * window, x.shape[-1])


def from_windows(tokens: torch.Tensor, batch: int, height: int, width: int) -> torch.Tensor:
    """Undo ``to_windows``: ``(B*windows, window*window, C)`` to ``(B,H,W,C)``."""
    window = math.isqrt(tokens.shape[1])
    x = tokens.view(batch, height // window, width // window, window, window, -1)
    return x.transpose(2, 3).reshape(batch, height, width, -1)


def relative_position_index(window: int) -> torch.Tensor:
    """Row of the bias table for each pair of tokens: int64 ``(window**2, window**2)``."""
    side = torch.arange(window)
    rows, columns = (t.flatten() for t in torch.meshgrid(side, side, indexing="ij"))
    row_step = rows[:, None] - rows[None] + window - 1
    column_step = columns[:, None] - columns[None] + window - 1
    return row_step * (2 * window - 1) + column_step


def shift_mask(height: int, width: int, window: int, shift: int, device: torch.device) -> torch.Tensor:
    """Logit offsets ``(windows, tokens, tokens)`` that hide, in a rolled image, tokens that are not neighbours."""

    def bands(length: int) -> torch.Tensor:
        position = torch.arange(length, device=device)
        return (position >= length - window).long() + (position >= length - shift).long()

    regions = 3 * bands(height)[:, None] + bands(width)[None]
    tokens = to_windows(regions[None, :, :, None], window).squeeze(-1)
    return HIDDEN * (tokens[:, :, None] != tokens[:, None, :])


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """View ``(B,C,H,W)`` as ``(B,H,W,C)``."""
    return x.permute(0, 2, 3, 1)


def channels_first(x: torch.Tensor) -> torch.Tensor:
    """View ``(B,H,W,C)`` as ``(B,C,H,W)``."""
    return x.permute(0, 3, 1, 2)

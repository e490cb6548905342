"""The small residual networks for 32 x 32 images (He et al. 2016, section 4.2): ResNet-20, -32, -44, -56.

Two public families of checkpoints load. Akamaster's have the paper's shortcuts without parameters ("option A") and end
in ``linear``; chenyaofo's project with 1 x 1 convolutions ("option B", ``downsample``) and end in ``fc``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from udc_robust.errors import UserError


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut."""

    def __init__(self, channels: int, out_channels: int, stride: int, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        self._stride, self._new_channels = stride, out_channels - channels
        if projection and (stride > 1 or self._new_channels):
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B,C,H,W)`` to ``(B,C',H/stride,W/stride)``."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.downsample is not None:
            return self.downsample(x)
        if self._stride == 1 and not self._new_channels:
            return x
        # Every other pixel, and zeros for the channels that are new, half of them on either side.
        before = self._new_channels // 2
        return F.pad(x[:, :, :: self._stride, :: self._stride], (0, 0, 0, 0, before, self._new_channels - before))


class Draws(Protocol):
    """Random numbers, a stream for each image."""

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers, shaped like ``like``."""
        ...


class FeatureNoise(nn.Module):
    """Noise of ``kappa`` standard deviations on maps ``(B,C,H,W)`` (after Adaptive Noise Injection, ICPR 2020).

    A channel's deviation is that of the mini-batch while it trains, and its running average afterwards; it takes no
    gradient, so that the network cannot make its features large to drown the noise in a single batch.
    """

    deviation: Tensor

    def __init__(self, channels: int, kappa: float, momentum: float = 0.1) -> None:
        super().__init__()
        self.kappa, self.momentum = kappa, momentum
        self.register_buffer("deviation", torch.ones(channels))

    def forward(self, y: Tensor, streams: Draws) -> Tensor:
        """Add noise from each image's own stream."""
        deviation = self.deviation
        if self.training:
            deviation = y.detach().float().std((0, 2, 3))
            self.deviation.lerp_(deviation, self.momentum)
        return y + self.kappa * deviation.to(y.dtype).view(-1, 1, 1) * streams.normal(y)


class ResNetCifar(PyTorchModelHubMixin, nn.Module):
    """Three stages of ``(depth - 2) / 6`` blocks, 16, 32 and 64 channels wide.

    Args:
        depth: 20, 32, 44, 56 in the paper; any ``6 n + 2``.
        num_classes: scores it answers.
        width: channels of the first stage.
        shortcut: ``A`` (padding with zeros, the paper's) or ``B`` (projection).
        noise: deviation of the noise that its features get, in units of their own (see `FeatureNoise`); 0: none.

    Attributes:
        random: whether it wants `streams`.
        channels_last: its weights are laid out so when it is built by name: a gradient on a CPU takes 0.8 of the time.

    Raises:
        UserError: a depth that is not ``6 n + 2``, or another shortcut.
    """

    channels_last = True

    def __init__(
        self, depth: int = 20, num_classes: int = 10, width: int = 16, shortcut: str = "A", noise: float = 0.0
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise UserError(f"depth of a CIFAR ResNet must be 6 n + 2 (20, 32, 44, 56), not {depth}")
        if shortcut not in ("A", "B"):
            raise UserError(f"shortcut of a CIFAR ResNet must be A or B, not {shortcut!r}")
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        blocks, channels = (depth - 2) // 6, width
        for stage in range(3):
            row = []
            for i in range(blocks):
                row.append(Block(channels, width * 2**stage, 2 if stage and not i else 1, shortcut == "B"))
                channels = width * 2**stage
            self.add_module(f"layer{stage + 1}", nn.Sequential(*row))
        self.linear = nn.Linear(channels, num_classes)
        if not 0 <= noise <= 10:
            raise UserError(f"noise of a CIFAR ResNet must be in 0..10 deviations, not {noise}")
        self.random = noise > 0
        self.noises = nn.ModuleList(FeatureNoise(width * 2**stage, noise) for stage in range(3) if noise)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor, streams: Draws | None = None) -> Tensor:
        """Raw scores ``(B,num_classes)`` of normalised images ``(B,3,H,W)``, any size from 4 pixels up.

        Args:
            streams: one for each image, where the network is random; without them it answers without noise.
        """
        y = F.relu(self.bn1(self.conv1(x)))
        for stage in range(3):
            y = self.get_submodule(f"layer{stage + 1}")(y)
            if self.random and streams is not None:
                y = self.noises[stage](y, streams)
        return self.linear(y.mean((2, 3)))


def from_public(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read a public checkpoint: its entries by our names, and the options and the normalisation it was trained with.

    Args:
        state: names and tensors, without ``module.``.

    Returns:
        None where it is no CIFAR ResNet. The facts have ``options``, ``mean`` and ``std``.
    """
    ours = {re.sub(r"^fc\.", "linear.", name): tensor for name, tensor in state.items()}
    blocks = {name.split(".")[1] for name in ours if re.match(r"layer1\.\d+\.conv1\.weight", name)}
    if not blocks or not {"conv1.weight", "linear.weight", "layer3.0.conv2.weight"} <= ours.keys():
        return None
    if ours["conv1.weight"].shape[-1] != 3 or any(name.startswith("layer4") for name in ours):
        return None  # an ImageNet ResNet
    projects = any(".downsample." in name for name in ours)
    options = {
        "depth": 6 * len(blocks) + 2, "num_classes": len(ours["linear.weight"]), "width": len(ours["conv1.weight"]),
        "shortcut": "B" if projects else "A",
    }  # fmt: skip
    # Akamaster normalises by ImageNet's statistics, chenyaofo by CIFAR-10's.
    mean, std = (CIFAR_MEAN, CIFAR_STD) if projects else (IMAGENET_MEAN, IMAGENET_STD)
    return ours, {"options": options, "mean": list(mean), "std": list(std)}


CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

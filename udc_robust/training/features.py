"""The perceptual distances that a fine-tuning can add to its loss: features of VGG-19 (the paper's), or LPIPS."""

from __future__ import annotations

from pathlib import Path

import torch
from kornia.enhance import Normalize
from torch import Tensor, nn

from udc_robust.errors import UserError
from udc_robust.metrics import LpipsUnavailable, load_lpips, lpips_distance

LAYERS = {15: "relu3_3", 22: "relu4_2"}
"""Positions in torchvision's ``vgg19().features``."""


def weights_file() -> Path:
    """Where torch.hub keeps torchvision's VGG-19."""
    return Path(torch.hub.get_dir()) / "checkpoints" / "vgg19-dcbb9e9d.pth"


class VggDistance(nn.Module):
    """Mean squared distance of ReLU features, summed over the layers; it has no weights that train.

    Args:
        features: ``vgg19().features``.
    """

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        self.features = features[: max(LAYERS) + 1]
        for layer in self.features:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # the next layer would overwrite features that are kept
        self.normalise = Normalize(torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]))
        self.eval().requires_grad_(False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Distance of ``(B,3,H,W)`` images in [0,1], mean over the batch."""
        with torch.no_grad():
            wanted = self._of(target)
        return torch.stack([(a - b).square().mean() for a, b in zip(self._of(output), wanted, strict=True)]).sum()

    def _of(self, image: Tensor) -> list[Tensor]:
        kept, x = [], self.normalise(image)
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in LAYERS:
                kept.append(x)
        return kept


def load_vgg() -> VggDistance | None:
    """The distance, or None where the weights are not on disk: nothing is downloaded."""
    from torchvision.models import vgg19

    if not weights_file().is_file():
        return None
    with torch.device("meta"):  # its classifier is nine tenths of it, and is not used
        network = vgg19()
    network.load_state_dict(torch.load(weights_file(), map_location="cpu", weights_only=True), assign=True)
    return VggDistance(network.features)


class LpipsDistance(nn.Module):
    """Mean LPIPS by one backbone, whose weights do not train.

    Raises:
        UserError: they cannot be had.
    """

    def __init__(self, backbone: str) -> None:
        super().__init__()
        try:
            self.lpips = load_lpips(backbone)
        except LpipsUnavailable as error:
            mend = f"`udc-robust doctor --fix-lpips {backbone}` gets them"
            raise UserError(f"LPIPS in a training needs its weights: {error}: {mend}") from error

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Distance of ``(B,3,H,W)`` images in [0,1], mean over the batch."""
        return lpips_distance(self.lpips, output, target).mean()

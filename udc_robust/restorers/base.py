"""What every restoration network says about itself, and the check of its input."""

from __future__ import annotations

import torch
from huggingface_hub import PyTorchModelHubMixin

from udc_robust.errors import UserError


class RestorerMixin(PyTorchModelHubMixin):
    """Facts about a restoration network, plus ``save_pretrained`` and ``from_pretrained``.

    Use as ``class Net(RestorerMixin, nn.Module)``. The constructor arguments are JSON values: the hub mixin writes
    them beside the weights and rebuilds the network from them.

    Attributes:
        domain: colour domain the network works in: ``srgb`` (8-bit / 255), ``tonemapped`` (x / (x + 0.25)) or
            ``linear`` (radiance 0..500).
        size_multiple: height and width must be multiples of this; a wrapper elsewhere pads.
        min_size: smallest accepted height and width, in pixels.
        whole_image: the output depends on statistics of the whole image, so padding and tiling change every pixel.
        channels_last: its weights are laid out channels last when it is loaded: on a CPU a gradient of NAFNet then
            takes 0.72 and one of BNUDC 0.59 of the time; the other networks gain nothing.
        source: where the official weights are published.
        weights_licence: licence of those weights.
    """

    domain: str = "srgb"
    size_multiple: int = 1
    min_size: int = 1
    whole_image: bool = False
    channels_last: bool = False
    source: str = ""
    weights_licence: str = ""

    def check_image(self, x: torch.Tensor, channels: int) -> None:
        """Raise UserError unless ``x`` is ``(B, channels, H, W)`` with sizes that this network takes."""
        name = type(self).__name__
        if x.ndim != 4 or x.shape[1] != channels:
            raise UserError(f"{name} needs images of shape (B, {channels}, H, W), got {tuple(x.shape)}")
        height, width = x.shape[-2:]
        if min(height, width) < self.min_size:
            raise UserError(f"{name} needs at least {self.min_size} x {self.min_size} pixels, got {height} x {width}")
        if height % self.size_multiple or width % self.size_multiple:
            raise UserError(
                f"{name} needs sizes that are multiples of {self.size_multiple}, got {height} x {width}; pad the image"
            )

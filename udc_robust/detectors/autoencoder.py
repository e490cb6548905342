"""A one-class autoencoder: what it cannot draw again was not among the clean images (after DCAE, ICPR 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from udc_robust.defences.transforms import require
from udc_robust.detectors.detector import Detector, features
from udc_robust.networks.tiles import padded


class Autoencoder(Detector):
    """How far the network's view of an image is from its view of the image drawn again.

    DCAE measures the error in features of a discriminator that is trained beside it. Here the network under watch is
    that discriminator: of a classifier the features before its last layer, of a restorer the restoration.

    Args:
        width: channels of the first stage.
        channels: kept at a quarter of the side.
        steps: of training, on 32 images each.
        rate: learning rate of Adam.
    """

    def __init__(self, width: int = 24, channels: int = 12, steps: int = 300, rate: float = 3e-3) -> None:
        super().__init__()
        require(1 <= width <= 256, "width", "in 1..256", width)
        require(1 <= channels <= 256, "channels", "in 1..256", channels)
        require(1 <= steps <= 100_000, "steps", "in 1..100000", steps)
        require(0 < rate < 1, "rate", "between 0 and 1", rate)
        self.width, self.channels, self.steps, self.rate = width, channels, steps, rate

    def fit(self, network: nn.Module, clean: Tensor, seed: int) -> None:
        """Train the autoencoder on clean images, in pixels."""
        self.network = network
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            self.drawing = drawing(self.width, self.channels).to(clean)
            optimiser = torch.optim.Adam(self.drawing.parameters(), self.rate)
            for _ in range(self.steps):
                batch = clean[torch.randint(len(clean), (32,)).to(clean.device)]
                optimiser.zero_grad()
                mse_loss(self._drawn(batch), batch).backward()
                optimiser.step()
        self.drawing.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        """Squared distance of the two views over the first one's size ``(B,)``."""
        seen, again = (self._view(images) for images in (x, self._drawn(x).clamp(0, 1)))
        return (seen - again).square().sum(1) / seen.square().sum(1).clamp_min(1e-12)

    def _drawn(self, x: Tensor) -> Tensor:
        return 0.5 + padded(self.drawing, x - 0.5, 4)

    def _view(self, x: Tensor) -> Tensor:
        return features(self.network, x)


def drawing(width: int, channels: int) -> nn.Sequential:
    """Down to a quarter of the side and a few channels, and up again."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(2 * width, channels, 1), nn.Conv2d(channels, 4 * width, 3, 1, 1), nn.PixelShuffle(2), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, 1, 1), nn.ReLU(), nn.Conv2d(2 * width, 12, 3, 1, 1), nn.PixelShuffle(2),
    )  # fmt: skip

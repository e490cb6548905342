"""The networks of filters: small autoencoders that make an image anew before a classifier sees it.

Images ``(B,3,H,W)`` are in [0,1], with sides that are multiples of `STRIDE`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from udc_robust.errors import UserError

STRIDE = 4
"""Pixels of an image's side that one place of the latent code stands for."""
_SLOPE = 500.0


class Coded(NamedTuple):
    """An image through `LqVae`, as its training sees it.

    Attributes:
        soft, hard: ``(B,3,H,W)`` what the decoders of the relaxed and of the binary code make of it.
        mean, log_variance: ``(B,latents,H/4,W/4)`` of the latents before they are quantised.
    """

    soft: Tensor
    hard: Tensor
    mean: Tensor
    log_variance: Tensor


class LqVae(nn.Module):
    """A variational autoencoder with binary latents (after Kyatham et al., arXiv 1903.09940, "LQ-VAE").

    A latent z becomes ``sign(tau^2 - z^2)``: whether it is near zero. The paper's code for MNIST has 64 latents an
    image; here they are maps, a code for every 4 x 4 pixels, without which a photograph is not to be recognised.

    Args:
        latents: bits for every 4 x 4 pixels.
        width: channels of the layer before.
        tau: half width of the interval that the quantiser asks about.
    """

    def __init__(self, latents: int = 48, width: int = 32, tau: float = 0.1) -> None:
        super().__init__()
        if min(latents, width) < 1 or max(latents, width) > 1024 or not tau > 0:
            raise UserError(f"latents {latents} and width {width} must be in 1..1024, and tau {tau} positive")
        self.tau, self.latents = tau, latents
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(2 * width, 2 * latents, 3, 1, 1),
        )  # fmt: skip
        self.soft, self.hard = (_decoder(latents, width) for _ in range(2))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latents."""
        mean, log_variance = self.encoder(2 * x - 1).chunk(2, 1)
        return mean, log_variance

    def relaxed(self, z: Tensor) -> Tensor:
        """The code with a slope, in (-1,1)."""
        return F.softsign(_SLOPE * (self.tau**2 - z**2))

    def code(self, z: Tensor) -> Tensor:
        """The code as deployed, -1 and 1; its gradient is that of the relaxed one."""
        soft = self.relaxed(z)
        return soft + (torch.where(z.abs() < self.tau, 1.0, -1.0) - soft).detach()

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor | Coded:
        """What is deployed; with standard normal ``noise`` of the latents' shape, what a training needs."""
        mean, log_variance = self.encode(x)
        if noise is None:
            return self.hard(self.code(mean))
        z = mean + 0.5 * self.tau * (log_variance / 2).exp() * noise
        bits = self.code(z).detach()
        return Coded(self.soft(self.relaxed(z)), self.hard(bits), mean, log_variance)


class MaskedAutoencoder(nn.Module):
    """Fills in what a mask hides and takes noise away (a small stand-in for AToP's purifier, Lin et al. 2024).

    Args:
        width: channels at full size; twice and four times as many at half and quarter size.
    """

    def __init__(self, width: int = 20) -> None:
        super().__init__()
        if not 1 <= width <= 512:
            raise UserError(f"width must be in 1..512, not {width}")
        self.enter = nn.Conv2d(4, width, 3, 1, 1)
        self.down1, self.down2 = nn.Conv2d(width, 2 * width, 4, 2, 1), nn.Conv2d(2 * width, 4 * width, 4, 2, 1)
        self.middle = nn.ModuleList(nn.Conv2d(4 * width, 4 * width, 3, 1, 1) for _ in range(2))
        self.up2, self.up1 = nn.Conv2d(4 * width, 8 * width, 1), nn.Conv2d(2 * width, 4 * width, 1)
        self.leave = nn.Conv2d(width, 3, 3, 1, 1)

    def forward(self, seen: Tensor, kept: Tensor) -> Tensor:
        """The whole image.

        Args:
            seen: ``(B,3,H,W)``, 0 where hidden.
            kept: ``(B,1,H,W)``, 0 where hidden, else 1.
        """
        full = F.silu(self.enter(torch.cat([2 * seen - kept, kept], 1)))
        half = F.silu(self.down1(full))
        y = F.silu(self.down2(half))
        for layer in self.middle:
            y = y + F.silu(layer(y))
        half = half + F.silu(F.pixel_shuffle(self.up2(y), 2))
        full = full + F.silu(F.pixel_shuffle(self.up1(half), 2))
        return seen + self.leave(full)


def _decoder(latents: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(latents, 2 * width, 3, 1, 1), nn.ReLU(), nn.Conv2d(2 * width, 4 * width, 3, 1, 1), nn.PixelShuffle(2),
        nn.ReLU(), nn.Conv2d(width, 12, 3, 1, 1), nn.PixelShuffle(2), nn.Sigmoid(),
    )  # fmt: skip


NETWORKS: dict[str, type[nn.Module]] = {"lq_vae": LqVae, "atop": MaskedAutoencoder}
"""The networks of filters, by the name of their kind."""

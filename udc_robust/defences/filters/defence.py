"""Filters as defences: what a small trained network makes of an image, and how an attacker follows it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from udc_robust.attacks.streams import Streams
from udc_robust.defences.defence import Defence, Exact, Gradient, StraightThrough
from udc_robust.defences.filters.networks import NETWORKS, STRIDE, LqVae, MaskedAutoencoder
from udc_robust.defences.transforms import require
from udc_robust.errors import UserError, unknown_name
from udc_robust.files import shipped_weights
from udc_robust.networks.tiles import padded
from udc_robust.networks.weights import facts_of, load_into, read_weights


class RelaxedQuantiser(Exact):
    """Through the network, with the slope of the quantiser's relaxed form (what the authors of LQ-VAE attack too)."""

    exactness: ClassVar[str] = "approximate: gradient of the relaxed quantiser"


class LqVaeFilter(Defence):
    """What `LqVae` decodes of an image's binary code; deterministic.

    Args:
        network: its weights belong to the defence.
    """

    nfe = 1

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Filter ``(B,3,H,W)`` of any size."""
        return padded(self.network, x, STRIDE)

    @property
    def gradients(self) -> Mapping[str, Gradient]:
        """The identity's, and through the relaxed quantiser."""
        return {"bpda": StraightThrough(), "adaptive": RelaxedQuantiser()}


class MaskedFilter(Defence):
    """Noise and hidden patches, and a network that undoes both; random (after AToP, Lin et al., ICLR 2024).

    Args:
        network: a `MaskedAutoencoder`; its weights belong to the defence.
        hidden: share of the patches that it does not see.
        patch: their side in pixels.
        sigma: noise on what it sees, in [0,1] image units.
    """

    nfe, random = 1, True

    def __init__(
        self, network: nn.Module, hidden: float = 0.2, patch: int = 4, sigma: float = 0.1
    ) -> None:  # fmt: skip
        super().__init__()
        require(0 <= hidden < 1, "hidden", "in [0,1)", hidden)
        require(1 <= patch <= 256, "patch", "in 1..256 pixels", patch)
        require(0 <= sigma <= 2, "sigma", "in 0..2", sigma)
        self.network, self.hidden, self.patch, self.sigma = network, hidden, patch, sigma

    def draw(self, x: Tensor, streams: Streams) -> Tensor:
        """``(B,4,H,W)``: a normal number for each value, and a uniform one for each patch."""
        height, width = x.shape[-2:]
        patches = streams.uniform(x[:, :1, :: self.patch, :: self.patch])
        spread = patches.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        return torch.cat([streams.normal(x), spread[..., :height, :width]], 1)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Filter ``(B,3,H,W)`` of any size with the noise of `draw`."""
        kept = (noise[:, 3:] >= self.hidden).to(x.dtype)
        both = torch.cat([(x + self.sigma * noise[:, :3]) * kept, kept], 1)
        return padded(lambda seen: self.network(seen[:, :3], seen[:, 3:]), both, STRIDE)


def shipped_filters() -> dict[str, Path]:
    """Names and files of the filters that come with the package."""
    return shipped_weights("filters")


def load_lq_vae(weights: str) -> Defence:
    """The LQ-VAE filter of a shipped checkpoint, or of a file that `udc-robust train filter` wrote."""
    network = _load(weights, "lq_vae")
    assert isinstance(network, LqVae)
    return LqVaeFilter(network)


def load_atop(weights: str, hidden: float = 0.2, patch: int = 4, sigma: float = 0.1) -> Defence:
    """The masked filter of a shipped checkpoint, or of a file that `udc-robust train filter` wrote."""
    network = _load(weights, "atop")
    assert isinstance(network, MaskedAutoencoder)
    return MaskedFilter(network, hidden, patch, sigma)


def build_network(kind: str, options: Mapping[str, Any]) -> nn.Module:
    """The network of a kind of filter, with random weights.

    Raises:
        UserError: options that it does not take.
    """
    try:
        return NETWORKS[kind](**options)
    except TypeError as error:
        raise UserError(f"filter {kind!r} takes other options: {error}") from error


def _load(weights: str, kind: str) -> nn.Module:
    path = shipped_filters().get(weights, Path(weights))
    if not path.is_file():
        raise unknown_name("filter", weights, [*shipped_filters(), "a weights file"])
    state, metadata = read_weights(path)
    facts = facts_of(metadata, weights)
    if facts.get("network") != kind:
        found = facts.get("network", "something unnamed")
        raise UserError(f"{weights} holds {found}, no {kind}: `weights` takes what `udc-robust train filter` wrote")
    network = build_network(kind, facts.get("options", {}))
    load_into(network, state, weights)
    return network.eval()

"""What the grid takes for a network, of whatever task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from torch import Tensor, nn

from udc_robust.errors import UserError
from udc_robust.grid.images import Images


class Network(Protocol):
    """A network as deployed, with what a run tells about it.

    Attributes:
        domain: colour domain of the images it takes; ``min_size``: smallest side in pixels.
        trained: False when its weights are random.
        origin: the weights file, or why there is none.
        network: the module itself.
    """

    name: str
    domain: str
    min_size: int
    trained: bool
    origin: str
    network: nn.Module

    def __call__(self, x: Tensor) -> Tensor:
        """Its answer."""


def require_size(images: Images, networks: Iterable[Network]) -> None:
    """Refuse images that are smaller than a network takes.

    Raises:
        UserError: see above.
    """
    smallest = min(min(size) for size in images.sizes)
    for network in networks:
        if smallest < network.min_size:
            raise UserError(
                f"data {images.label!r} has an image with a side of {smallest} px; "
                f"{network.name} needs {network.min_size}: take larger images, or leave that network out"
            )

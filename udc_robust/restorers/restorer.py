"""A restoration network as it is deployed: images of any size and colour domain in, restored ones out."""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from udc_robust.errors import UserError
from udc_robust.files import sha256_of
from udc_robust.names import Flips
from udc_robust.networks.tiles import check_tiles, padded
from udc_robust.networks.user_code import answered
from udc_robust.networks.whole import Slope, Tiles, reach
from udc_robust.optics.domains import convert, value_range

_EIGHT_WAYS = [(mirror, turns) for turns in range(4) for mirror in ((), (-1,))]
_HALF_TURN = [((), 0), ((), 2)]
"""Flips along which axes, and then quarter turns how often."""


class Restorer(nn.Module):
    """A network as deployed: takes and returns images of ``domain``, of any size, clamped to the domain's range.

    In training mode nothing is clamped, as that would stop the gradient.

    Attributes:
        network: the network itself, in its own colour domain (``network_domain``).
        trained: False when it runs with random weights; reports must say so.
        origin: the weights file, or why there is none.
        architecture: ``network`` and ``options`` that build the network again, where they are known.
        domain_reason: who said that the network works in ``network_domain``.
        flips: whether it answers with the mean over the eight flips and quarter turns of an image, at eight times the
            cost: for a convex loss the mean is never worse than the eight are on average. 2: over the image and its
            half turn.
        parent, parent_sha256: name and ``sha256`` of what it was fine-tuned from; None: of nothing known.
        ancestors: of what the parent was, and so on back, the nearest first: names by ``sha256``.
        channel: name of the channel that it was told of, see `attacks.channels`; None: of none.
        tiles: how it takes large images, see `in_tiles`; None: whole. ``tiles_told``: what they change, where that is
            known.
    """

    def __init__(
        self, name: str, network: nn.Module, *, domain: str, network_domain: str | None, trained: bool, origin: str,
        architecture: Mapping[str, Any] | None = None, parent: str | None = None,
        parent_sha256: str | None = None, ancestors: Mapping[str, str] | None = None, domain_reason: str = "",
        flips: Flips = False, channel: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.name, self.network, self.trained, self.origin = name, network, trained, origin
        self.parent, self.parent_sha256, self.domain_reason = parent, parent_sha256, domain_reason
        self.ancestors, self.channel = dict(ancestors or {}), channel
        self.domain, self.architecture, self.flips = domain, dict(architecture or {}), flips
        self.network_domain = network_domain or domain
        self.size_multiple = int(getattr(network, "size_multiple", 1))
        needed = int(getattr(network, "min_size", 1))
        self.min_size = needed if needed > self.size_multiple else 1  # padding reaches the multiple by itself
        self.whole_image = bool(getattr(network, "whole_image", False))
        self.tiles: Tiles | None = None
        self.reach: int | None = None
        self.tiles_told = ""

    @property
    def sha256(self) -> str | None:
        """Digest of its weights file, of a mean of its members'; None where it has none."""
        return sha256_of(self.origin) if os.path.isfile(self.origin) else getattr(self.network, "sha256", None)

    @property
    def line(self) -> dict[str, str]:
        """The parent and its ancestors, as those of a child."""
        return {self.parent_sha256 or self.parent: self.parent, **self.ancestors} if self.parent else {}

    def in_tiles(self, side: int, overlap: int | None = None) -> Restorer:
        """Take large images tile by tile from now on.

        Args:
            side, overlap: of the tiles in px, made to fit the network's strides; 0: whole images after all. An overlap
                of None is as far as the network looks, and 32 px or less where it looks at the whole image.

        Raises:
            UserError: impossible tiles, or smaller ones than the network's reach.
        """
        check_tiles(side, overlap or 0)
        if not side:
            self.tiles = None
            return self
        grid = math.lcm(16, self.size_multiple)
        tensors = itertools.chain(self.parameters(), self.buffers())  # deconvolution has buffers only
        channels, device = 4 if self.domain == "raw" else 3, next(tensors, torch.empty(0)).device
        self.reach = None if self.whole_image else reach(self._whole, grid, channels, device)
        around = self.reach or 0
        if overlap is None:
            around = -(-around // grid) * grid  # what tiles will overlap by
        least = -(-max(self.min_size, grid + 2 * around) // grid) * grid
        if side < least:
            why = f"{self.name} looks {self.reach} px to every side" if self.reach else f"{self.name} takes no less"
            raise UserError(f"`tile` {side} is too small, {why}: set `tile` to {least} or more")
        if overlap is None:
            overlap = min(32, side // 4 // grid * grid) if self.reach is None else self.reach
        self.tiles = Tiles(side // grid * grid, -(-overlap // grid) * grid, grid)
        check_tiles(self.tiles.side, self.tiles.overlap)
        return self

    @property
    def exact_in_tiles(self) -> bool:
        """Whether tiles give what the whole image would: the network looks no further than they overlap.

        Not with flips: the strides of a network begin elsewhere in a flipped tile than in the flipped image.
        """
        local = self.reach is not None and self.tiles is not None and self.reach <= self.tiles.overlap
        return self.tiles is None or (local and not self.flips)

    def compare_tiles(self, x: Tensor) -> None:
        """Note what tiles change: nothing, or how far their answer is from the whole one on the middle of images."""
        assert self.tiles is not None
        cut = f"in tiles of {self.tiles.side} px that overlap by {self.tiles.overlap}"
        if self.exact_in_tiles:
            self.tiles_told = f"{cut}: exact, it looks {self.reach} px to every side"
            return
        apart = self.tiles.difference(self._whole, x)
        self.tiles_told = (
            f"{cut}, beyond which it looks: NOT exact, its answer is {apart:.1f} dB PSNR from that to a whole image "
            f"(measured on {self.tiles.side * 3 // 2} px)"
        )

    @property
    def by_parts(self) -> Callable[..., Slope] | None:
        """How an attack gets the gradient of large images, see `Tiles.slope`; None: from the whole answer."""
        return None if self.tiles is None else functools.partial(self.tiles.slope, self._whole)

    def forward(self, x: Tensor) -> Tensor:
        """Restore ``(B,3,H,W)``; the way is differentiable from end to end, to the images alone where it is tiled."""
        if self.tiles is None or self.training or not self.tiles.needed(x):
            return self._whole(x)
        return self.tiles.answer(self._whole, x)

    def _whole(self, x: Tensor) -> Tensor:
        x = convert(x, self.domain, self.network_domain)
        y = over_flips(self._padded, x, self.flips) if self.flips else self._padded(x)
        y = convert(y, self.network_domain, self.domain)
        return y if self.training else y.clamp(*value_range(self.domain))

    def _padded(self, x: Tensor) -> Tensor:
        return padded(self._restored, x, self.size_multiple)

    def _restored(self, x: Tensor) -> Tensor:
        """The network's answer, which must be images of the size that it was given."""
        y = answered(self.network, x, f"restorer {self.name!r}")
        if y.shape != x.shape:
            raise UserError(
                f"restorer {self.name!r} answers to {tuple(x.shape)} with {tuple(y.shape)}: "
                "a restorer gives images of the size that it takes"
            )
        return y


def over_flips(restore: Callable[[Tensor], Tensor], x: Tensor, flips: Flips = True) -> Tensor:
    """Mean of the answers to the flips and quarter turns of images ``(B,3,H,W)``, each put back: all eight, or two."""
    answer = torch.zeros_like(x)
    ways = _HALF_TURN if flips == 2 else _EIGHT_WAYS
    for mirror, turns in ways:
        turned = restore(torch.rot90(x.flip(mirror), turns, (-2, -1)))
        answer = answer + torch.rot90(turned, -turns, (-2, -1)).flip(mirror) / len(ways)
    return answer

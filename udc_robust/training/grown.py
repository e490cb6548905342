"""A larger network that begins as a smaller one: what is hardened need not be as small as what was trained plainly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from udc_robust.errors import UserError
from udc_robust.progress import note
from udc_robust.restorers.restorer import Restorer
from udc_robust.restorers.zoo import build_network

NEAR = 1e-5
"""How far the larger network's first answer may be from the smaller's, images being in [0,1]."""


def grown(restorer: Restorer, options: Mapping[str, Any], name: str) -> Restorer:
    """A restorer whose network has more blocks and answers as it did.

    Blocks that were there keep their names and weights. New ones must be the identity until they have learnt, as the
    residual blocks of NAFNet are, which begin with a scale of zero (after Net2Net, Chen et al., ICLR 2016).

    Args:
        options: those of the network that change.
        name: whose network it is, for messages.

    Raises:
        UserError: options that the class does not take, that make a layer smaller, of another shape or none of the old
            name, or new blocks that are not the identity.
    """
    options = {**restorer.architecture["options"], **options}
    small = restorer.network.state_dict()
    network = build_network(restorer.architecture["network"], options)
    large = network.state_dict()
    if lost := lost_of(small, large):
        raise UserError(
            f"`grow` would not keep {lost[0]} and {len(lost) - 1} more of {name!r}: add blocks only, the width stays"
        )
    if len(large) == len(small):
        raise UserError(f"`grow` adds nothing to {name!r}: give it more blocks than {restorer.architecture['options']}")
    network.load_state_dict({**large, **small})
    _check_it_answers_alike(restorer.network, network.eval(), max(restorer.min_size, 64), name)
    sizes = [sum(weights.numel() for weights in one.parameters()) for one in (restorer.network, network)]
    note(f"{name} grown from {sizes[0]:,} to {sizes[1]:,} parameters")
    restorer.network, restorer.architecture = network, {**restorer.architecture, "options": options}
    return restorer


def lost_of(small: Mapping[str, Tensor], large: Mapping[str, Tensor]) -> list[str]:
    """Names of a network's state that a larger one lacks, or has in another shape."""
    return [name for name, tensor in small.items() if name not in large or large[name].shape != tensor.shape]


def faded_in(small: Restorer, large: Restorer) -> Restorer:
    """The smaller network with the larger one's further blocks, which are the identity until their scales are mixed in.

    Of a new block what begins as zero, so its scale, is zero; all else is the larger network's.

    Raises:
        UserError: see `grown`.
    """
    kept = small.network.state_dict().keys()
    grown(small, large.architecture["options"], small.name)
    learnt = large.network.state_dict()
    state = small.network.state_dict()
    small.network.load_state_dict(
        {name: learnt[name] if name not in kept and tensor.any() else tensor for name, tensor in state.items()}
    )
    return small


@torch.no_grad()
def _check_it_answers_alike(small: nn.Module, large: nn.Module, side: int, name: str) -> None:
    """Refuse a larger network that does not answer as the smaller one.

    Raises:
        UserError: new blocks that are not the identity.
    """
    x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    apart = float((small(x) - large(x)).abs().max())
    if not apart <= NEAR:
        raise UserError(
            f"`grow` makes another network of {name!r}: its answer is off by up to {apart:.2g}, as new blocks are "
            "not the identity, which those of NAFNet are; leave `grow` out, or choose a class that begins so"
        )

"""Networks that answer the same whatever they see: no attack could move one, and no training teaches it anything."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from udc_robust.errors import UserError

_SMALL = 32


def refuse_constant(answer_to: Callable[[Tensor], Tensor], x: Tensor, answer: Tensor, what: str, origin: str) -> None:
    """Refuse a network whose ``answer`` to images ``x`` is also that to their darker mirror images.

    Raises:
        UserError: it is the same in every bit, though the images differ.
    """
    other = x.flip(-1) / 2
    if not torch.equal(other, x) and torch.equal(answer_to(other), answer):
        raise UserError(f"{what} answers the same to different images: check its code and {origin}")


@torch.no_grad()
def check_it_looks(network: nn.Module, what: str, origin: str, *, side: int = 1, untrained: bool = False) -> None:
    """Try a network, which takes images (1,3,H,W) and is on the CPU in evaluation mode, on a small image.

    Args:
        side: of the image in pixels, where the network needs a larger one.
        untrained: whether it is yet to learn: it may begin with a last layer of zeros, so other weights are tried.

    Raises:
        UserError: see `refuse_constant`.
    """
    side = max(side, _SMALL)
    x = torch.linspace(0, 1, 3 * side * side).view(1, 3, side, side)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tried = _shaken(network) if untrained else network
        answer = tried(x)
        torch.manual_seed(0)
        refuse_constant(tried, x, answer, what, origin)


def _shaken(network: nn.Module) -> nn.Module:
    """A copy with other weights, which does not clamp what it answers."""
    copied = copy.deepcopy(network)
    for weights in copied.parameters():
        weights.add_(0.1 * torch.randn_like(weights))
    copied.training = True  # itself only: its layers stay as they are
    return copied

"""How far an answer can move for what its input moves: a proven bound, for networks that have one."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

_FIRM = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Identity, nn.Dropout, nn.PixelShuffle, nn.PixelUnshuffle)
"""Layers that move by no more than their input, in the Euclidean norm, in evaluation mode."""


def lipschitz_bound(network: nn.Module) -> float | None:
    """The most that the Euclidean norm of a change can grow by, or None where nothing is proven.

    A network may state it itself, as its number ``lipschitz``, which is believed. Of a chain of convolutions and firm
    layers it is the product of its parts'; of a convolution at most the sum over its taps of their spectral norms (the
    triangle inequality, whatever the padding with zeros and the stride are). Nothing is proven of a subclass: it may
    do something else.
    """
    stated = getattr(network, "lipschitz", None)
    if isinstance(stated, int | float) and not isinstance(stated, bool):
        return float(stated) if math.isfinite(stated) and stated >= 0 else None
    if type_before_parametrizations(network) not in (nn.Sequential, nn.Conv2d, *_FIRM):
        return None
    if isinstance(network, nn.Sequential):
        parts = [lipschitz_bound(part) for part in network]
        known = [part for part in parts if part is not None]
        return math.prod(known) if len(known) == len(parts) else None
    if isinstance(network, nn.Conv2d):
        return _of_convolution(network)
    return max(1.0, abs(network.negative_slope)) if isinstance(network, nn.LeakyReLU) else 1.0


@torch.no_grad()
def _of_convolution(layer: nn.Conv2d) -> float | None:
    if layer.padding_mode != "zeros":
        return None
    groups = layer.weight.double().unflatten(0, (layer.groups, -1))
    return float(torch.linalg.matrix_norm(groups.permute(0, 3, 4, 1, 2), ord=2).sum((1, 2)).amax())

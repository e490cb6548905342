"""The two spellings of weight-normalised parameters (Salimans and Kingma 2016, equation 2: W = g V / ||V||).

PyTorch's ``parametrizations.weight_norm`` stores g and V as ``<conv>.parametrizations.weight.original0`` and
``original1``; the published BNUDC and FSI checkpoints store them as ``<conv>.weight_g`` and ``<conv>.weight_v``.
Loading the published spelling needs nothing: PyTorch translates it. Writing it is the explicit rename below.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

_PUBLISHED = {".parametrizations.weight.original0": ".weight_g", ".parametrizations.weight.original1": ".weight_v"}


def published_name(name: str) -> str:
    """Return the published spelling of one state-dict key; other keys come back unchanged."""
    for modern, published in _PUBLISHED.items():
        if name.endswith(modern):
            return name.removesuffix(modern) + published
    return name


def published_state_dict(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the same tensors, in the same order, under the names of the published checkpoints."""
    return {published_name(name): tensor for name, tensor in state_dict.items()}

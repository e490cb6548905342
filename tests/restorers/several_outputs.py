"""Parity of networks whose official version returns several images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import network_checks as checks
import numpy as np
import torch
from torch import nn


@torch.no_grad()
def interop_differences(
    shared: Path, name: str, cls: type[nn.Module], call: Callable[[nn.Module, torch.Tensor], Sequence[torch.Tensor]]
) -> list[float]:
    """Largest absolute difference of each output from the stored one of the official network."""
    fill, vectors = checks._published_fill(shared), np.load(shared / "interop" / f"{name}.npz")
    net = fill.fill_(cls(**checks.load_manifest(shared, name)["args"]))
    outputs = call(net, fill.image(tuple(vectors["x0_shape"]), 0))
    expected = [torch.from_numpy(vectors[key]) for key in sorted(k for k in vectors if k.startswith("y0_"))]
    assert len(expected) > 1 and [y.shape for y in outputs] == [e.shape for e in expected]
    assert all(e.std() > 1e-3 for e in expected)
    return [float((y - e).abs().max()) for y, e in zip(outputs, expected, strict=True)]

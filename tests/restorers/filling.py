"""Weights and images that depend only on a name, a shape and a seed, the same on every machine and version.

A counter is scrambled by the 64-bit finaliser of SplitMix (Steele et al. 2014), so no library's generator is involved.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch


def _uniform(label: str, shape: tuple[int, ...]) -> np.ndarray:
    """Float64 values in [0, 1) of the given shape."""
    key = np.uint64(int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "little"))
    with np.errstate(over="ignore"):
        z = (np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) + key
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(11)) * 2.0**-53).reshape(shape)


def value_for(name: str, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Float64 value of the state-dict entry ``name``."""
    signed = 2 * _uniform(f"{name}|{shape}|{seed}", shape) - 1
    if name.endswith(("temperature", "weight_g", "original0")) or (len(shape) == 1 and name.endswith("weight")):
        # A single number is the slope of a PReLU: far from 1, where the activation would be the identity.
        value = 0.3 + 0.2 * signed if shape == (1,) else 1 + 0.2 * signed
    elif len(shape) >= 2:
        value = 1.2 / math.sqrt(math.prod(shape[1:])) * signed
    else:
        value = 0.2 * signed
    return torch.from_numpy(value)


@torch.no_grad()
def fill_(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Fill every floating-point entry of the state dict and return the module in eval mode."""
    for name, entry in module.state_dict().items():
        if entry.is_floating_point():
            entry.copy_(value_for(name, tuple(entry.shape), seed))
    return module.eval()


def image(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """A float32 image of uniform values in [0, 1)."""
    return torch.from_numpy(_uniform(f"image|{shape}|{seed}", shape).astype(np.float32))

"""The handful of checks that every restoration network gets."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from filling import fill_, image
from torch import nn

VECTORS = Path(__file__).with_name("vectors")
Call = Callable[[nn.Module, torch.Tensor], torch.Tensor]


def plain_call(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return net(x)


def load_manifest(shared: Path, name: str) -> dict[str, Any]:
    return json.loads((shared / "interop" / f"{name}.json").read_text())


def check_manifest(shared: Path, name: str, cls: type[nn.Module]) -> None:
    """Names, shapes, their order and the parameter count are the official ones."""
    manifest = load_manifest(shared, name)
    with torch.device("meta"):
        net = cls(**manifest["args"])
    ours = [(key, list(entry.shape)) for key, entry in net.state_dict().items()]
    assert ours == [(key, shape) for key, shape in manifest["state_dict"].items()]
    assert sum(p.numel() for p in net.parameters()) == manifest["params"]


def _published_fill(shared: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("interop_fill", shared / "interop" / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@torch.no_grad()
def interop_difference(shared: Path, name: str, cls: type[nn.Module], call: Call = plain_call) -> float:
    """Largest absolute difference from the stored outputs of the official network."""
    fill, vectors = _published_fill(shared), np.load(shared / "interop" / f"{name}.npz")
    net = fill.fill_(cls(**load_manifest(shared, name)["args"]))
    count = sum(key.startswith("x") for key in vectors)
    assert count > 0
    worst = 0.0
    for i in range(count):
        y = call(net, fill.image(tuple(vectors[f"x{i}_shape"]), i))
        expected = torch.from_numpy(vectors[f"y{i}_0"])
        assert y.shape == expected.shape and expected.std() > 1e-3
        worst = max(worst, float((y - expected).abs().max()))
    return worst


@torch.no_grad()
def record_vector(name: str, net: nn.Module, shape: tuple[int, ...], call: Call = plain_call) -> None:
    """Write ``vectors/NAME.npz``; only done once the network agrees with the official outputs."""
    np.savez_compressed(VECTORS / f"{name}.npz", shape=shape, y=call(fill_(net), image(shape)).numpy())


@torch.no_grad()
def vector_difference(name: str, net: nn.Module, call: Call = plain_call) -> float:
    """Largest absolute difference from our own stored output."""
    stored = np.load(VECTORS / f"{name}.npz")
    y = call(fill_(net), image(tuple(int(n) for n in stored["shape"])))
    expected = torch.from_numpy(stored["y"])
    assert y.shape == expected.shape and expected.std() > 1e-3
    return float((y - expected).abs().max())


def check_gradient(net: nn.Module, shape: tuple[int, ...], call: Call = plain_call) -> None:
    """The input gradient is right (float64, against finite differences), finite and nowhere all zero."""
    net = fill_(net).double().requires_grad_(False)
    x = image(shape).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: call(net, v), (x,), fast_mode=True)
    (g,) = torch.autograd.grad(call(net, x).square().sum(), x)
    assert torch.isfinite(g).all() and (g.abs().amax(dim=(1, 2, 3)) > 0).all()
    assert all(p.grad is None for p in net.parameters())


@torch.no_grad()
def check_batch(net: nn.Module, shape: tuple[int, int, int], call: Call = plain_call) -> None:
    """A batch gives what its images give one by one."""
    net, x = fill_(net), image((3, *shape))
    singles = torch.cat([call(net, x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(call(net, x), singles, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(singles[0], singles[1], atol=1e-3)


@torch.no_grad()
def check_hub_round_trip(net: nn.Module, folder: Path, shape: tuple[int, ...], call: Call = plain_call) -> None:
    """``save_pretrained`` then ``from_pretrained`` gives the same class, weights and output."""
    fill_(net).save_pretrained(folder)  # type: ignore[operator]
    again = type(net).from_pretrained(folder)  # type: ignore[attr-defined]
    assert type(again) is type(net)
    x = image(shape)
    assert torch.equal(call(again.eval(), x), call(net, x))

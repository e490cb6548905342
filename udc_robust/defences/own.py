"""The user's own defences, by dotted path or file: a `Defence`, a torch module, or a function of images."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from udc_robust.defences.defence import Defence, Exact, Gradient, StraightThrough
from udc_robust.errors import UserError
from udc_robust.networks.user_code import FAULTS, blame, load_object

_PROBE = 32  # pixels


class Transformation(Defence):
    """A deterministic map of images ``(B,3,H,W)`` in [0,1] to images of the same shape.

    Whether it has a gradient is tried out: where it has none, an attacker takes the identity's.
    """

    def __init__(self, name: str, transform: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.name = name
        if isinstance(transform, nn.Module):
            self.module = transform
        self._transform = transform

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """What the user's code makes of the images.

        Raises:
            UserError: it raises, or answers with something else than images of this shape.
        """
        try:
            answer = self._transform(x)
        except FAULTS as error:
            raise UserError(f"defence {self.name!r}: {blame(error)}") from error
        if not isinstance(answer, Tensor) or answer.shape != x.shape:
            found = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
            raise UserError(
                f"defence {self.name!r} makes {found} of images {tuple(x.shape)}: they must keep their shape"
            )
        return answer

    @property
    def gradients(self) -> Mapping[str, Gradient]:
        """Its own gradient where it has one that is not zero everywhere, as that of rounding is."""
        return {"bpda": StraightThrough(), "adaptive": Exact() if self._differentiable else StraightThrough()}

    @functools.cached_property
    def _differentiable(self) -> bool:
        stream = torch.Generator().manual_seed(0)
        held = next(itertools.chain(self.parameters(), self.buffers()), torch.empty(0))
        probe, weights = torch.rand(2, 1, 3, _PROBE, _PROBE, generator=stream).to(held.device)
        probe.requires_grad_(True)
        with torch.enable_grad():
            answer = self(probe, probe.new_empty(1, 0))
            if not answer.requires_grad:
                return False
            (slope,) = torch.autograd.grad(answer, probe, weights, allow_unused=True)
        return slope is not None and bool(slope.any())


def builder(path: str) -> Callable[..., Defence]:
    """What builds the user's defence; its parameters are the options.

    A function takes the images, and its options after a ``*``.

    Raises:
        UserError: nothing there, or something that makes no defence.
    """
    found = load_object(path, "defence")
    if isinstance(found, type) and issubclass(found, Defence):
        return found
    if isinstance(found, type) and issubclass(found, nn.Module):
        return _with_signature(lambda **options: Transformation(path, found(**options)), found, skip=0)
    if not callable(found) or isinstance(found, type):
        raise UserError(f"defence {path!r} is neither a function of images, nor a torch module, nor a Defence")
    placed = [p for p in inspect.signature(found).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    if len(placed) != 1:
        raise UserError(f"defence {path!r} must take the images alone, and its options after a `*`")
    return _with_signature(lambda **options: Transformation(path, functools.partial(found, **options)), found, skip=1)


def _with_signature(build: Callable[..., Defence], stated: Callable[..., Any], skip: int) -> Callable[..., Defence]:
    """``build`` with the options that the user's code states."""
    parameters = list(inspect.signature(stated).parameters.values())[skip:]
    options = [
        p.replace(kind=p.POSITIONAL_OR_KEYWORD)
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    options.sort(key=lambda p: p.default is not p.empty)  # a signature has those without a default first
    build.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    return build

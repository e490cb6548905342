"""The table of attack methods: a name, the function, and what it needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor


@dataclass(frozen=True)
class Method:
    """One attack method.

    Attributes:
        access: ``none`` (noise), ``query`` (values only) or ``gradient``.
        keeps_best: True when the most damaging image asked about is the answer; False when the returned candidate is
            (minimum-norm attacks, and noise, which must not be chosen by its damage).
        norms: the norms it is defined for.
        unbounded: True when it searches the smallest norm and takes no eps.
    """

    name: str
    run: Callable[..., Tensor]
    access: str
    keeps_best: bool
    norms: tuple[str, ...]
    unbounded: bool

    def options(self) -> dict[str, Any]:
        """Keyword options and their defaults."""
        parameters = inspect.signature(self.run).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


METHODS: dict[str, Method] = {}
_Function = TypeVar("_Function", bound=Callable[..., Tensor])


def method(
    access: str, *, norms: tuple[str, ...] = ("linf", "l2"), keeps_best: bool = True, unbounded: bool = False
) -> Callable[[_Function], _Function]:
    """Enter a function in METHODS under its own name."""

    def enter(run: _Function) -> _Function:
        name = run.__name__
        METHODS[name] = Method(name, run, access, keeps_best, norms, unbounded)
        return run

    return enter

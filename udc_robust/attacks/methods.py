"""The table of attack methods: a name, the function, and what it needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor


@dataclass(frozen=True)
class Method:
    """One attack method.

    Attributes:
        access: ``none`` (noise), ``query`` (values only), ``output`` (the answers too, and what they ought to be) or
            ``gradient``.
        keeps_best: True when the most damaging image asked about is the answer; False when the returned candidate is
            (minimum-norm attacks, and noise, which must not be chosen by its damage).
        norms: the norms it is defined for.
        unbounded: True when it searches the smallest norm and takes no eps.
        check: raises ValueError for those of its options that it names and a size ``(H,W)`` of images they do not fit;
            None: any fit.
        images_only: True when it looks at the pixels of an answer, which must then be an image.
        sources: of a query method: ``start`` when it may begin where an attack on other networks ended, ``prior`` when
            it needs their gradients; empty when it makes nothing of them.
    """

    name: str
    run: Callable[..., Tensor]
    access: str
    keeps_best: bool
    norms: tuple[str, ...]
    unbounded: bool
    images_only: bool = False
    check: Callable[..., object] | None = None
    sources: str = ""

    def fits(self, size: tuple[int, int], options: Mapping[str, Any]) -> None:
        """Raise ValueError for options that images of this size cannot have."""
        if self.check is not None:
            named = [name for name in inspect.signature(self.check).parameters if name in self.options()]
            self.check(size, **{name: {**self.options(), **options}[name] for name in named})

    def takes(self, answer: Tensor) -> None:
        """Raise ValueError for a victim whose answers are no images, where pixels are looked at."""
        if self.images_only and answer.ndim != 4:
            raise ValueError(f"{self.name} looks at the pixels of an answer: it is for restorers")

    def options(self) -> dict[str, Any]:
        """Keyword options and their defaults; ``...`` where there is none."""
        parameters = inspect.signature(self.run).parameters.values()
        return {p.name: ... if p.default is p.empty else p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    @classmethod
    def of(cls, run: Callable[..., Tensor]) -> Method:
        """A function that says nothing of itself: a gradient attack in both norms, whose best image counts."""
        return cls(run.__name__, run, "gradient", True, ("linf", "l2"), False)


METHODS: dict[str, Method] = {}
_Function = TypeVar("_Function", bound=Callable[..., Tensor])


def method(
    access: str, *, norms: tuple[str, ...] = ("linf", "l2"), keeps_best: bool = True, unbounded: bool = False,
    images_only: bool = False, check: Callable[..., object] | None = None, sources: str = "",
) -> Callable[[_Function], _Function]:  # fmt: skip
    """Say what a function needs (as its attribute ``method``), and enter those of this package in METHODS."""

    def enter(run: _Function) -> _Function:
        found = Method(run.__name__, run, access, keeps_best, norms, unbounded, images_only, check, sources)
        run.method = found  # type: ignore[attr-defined]
        if run.__module__.startswith(f"{__package__}."):
            METHODS[found.name] = found
        return run

    return enter

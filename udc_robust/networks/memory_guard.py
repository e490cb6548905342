"""Building networks of any size safely: what would not fit into memory is refused before the system runs out of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from udc_robust.errors import UserError
from udc_robust.limits import require_memory

_MOST_TENSORS = 100_000
Made = TypeVar("Made")


def within_memory(make: Callable[[], Made], what: str, *, rehearse: bool) -> Made:
    """Make a network, or refuse it where its tensors would not fit.

    Args:
        make: makes it.
        what: names it and the options to lower, for the error.
        rehearse: whether to make it without numbers first: weights that are too many are refused before any of them is
            drawn. That calls ``make`` twice, so it is not for code of others.

    Raises:
        UserError: it is too large.
    """
    if rehearse:
        try:
            with torch.device("meta"), MemoryGuard(what, "meta"):
                make()
        except UserError:
            raise
        except Exception:  # a mistake that shows in earnest too, or an operation that the meta device lacks
            pass
    with MemoryGuard(what, "cpu"):
        return make()


@functools.cache
def _makes_a_size(operation: Any) -> bool:
    """Whether an operation is given the size of a new tensor, as ``empty`` and ``zeros`` are."""
    arguments = operation._schema.arguments
    return bool(arguments) and arguments[0].name == "size"


class MemoryGuard(TorchDispatchMode):
    """Adds up the tensors that are made under it on a device; use as ``with MemoryGuard(what, "cpu"):``.

    Linux lends more memory than there is and kills whoever uses it, so an allocation that succeeds proves nothing.

    Raises:
        UserError: on the tensor that is too much, naming ``what``.
    """

    def __init__(self, what: str, device: str) -> None:
        super().__init__()
        self._what, self._device, self._numbers, self._tensors = what, device, 0.0, 0
        self._room = psutil.virtual_memory().available / 4

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what an operation that is given a size will make."""
        kwargs = kwargs or {}
        if _makes_a_size(func) and args and torch.device(kwargs.get("device") or "cpu").type == self._device:
            self._tensors += 1
            self._numbers += math.prod(args[0])
            if self._numbers > self._room:
                require_memory(self._numbers, self._what)
            if self._tensors > _MOST_TENSORS:
                raise RuntimeError(f"it has more than {_MOST_TENSORS:,} parts")
        return func(*args, **kwargs)

"""Options of attack methods as a config writes them, with the types of their defaults."""

from __future__ import annotations

import math
from typing import Any

from udc_robust.config_file import number
from udc_robust.limits import MOST


def option_of(what: str, value: Any, default: Any, eps: float, *, signed: bool) -> Any:
    """One option of a method, of the type of its default; without a default it is what was written."""
    if default is Ellipsis:
        return value
    if isinstance(default, str):
        if not isinstance(value, str):
            raise ValueError(f"{what} must be text, such as a name or a file, not {value!r}")
        return value
    if isinstance(default, tuple):
        return _whole_numbers(what, value)
    found = number(value, eps=eps)
    whole = isinstance(default, int) and not isinstance(default, bool)
    if isinstance(default, bool) != isinstance(found, bool) or not isinstance(found, int | float):
        raise ValueError(f"{what} must be like {default!r}, not {value!r}")
    if not math.isfinite(found):
        raise ValueError(f"{what} must be finite, not {value!r}")
    if whole and (found != int(found) or not 1 <= found <= MOST):
        raise ValueError(f"{what} must be a whole number from 1 to {MOST:,}, not {value!r}")
    if isinstance(default, float | None) and not (found > 0 or found == default == 0 or signed):
        raise ValueError(f"{what} must be positive, not {value!r}")
    return int(found) if whole else found


def _whole_numbers(what: str, value: Any) -> tuple[int, ...]:
    """An option that is a list of pixels."""
    if not isinstance(value, list | tuple) or any(type(part) is not int or not 0 <= part <= MOST for part in value):
        raise ValueError(f"{what} must be a list of whole numbers of 0 or more, not {value!r}")
    return tuple(value)

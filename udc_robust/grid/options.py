"""Options of attack methods, as people write them in a config: short forms for many, and numbers with units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from udc_robust.config_file import number
from udc_robust.limits import MOST


def with_bands(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A run's values, in which an attack with ``bands: N`` is N of them, in neighbouring bands of spatial frequency.

    Raises:
        ValueError: that number is none, or a band is written beside it.
    """
    blocks = values.get("attacks")
    if not isinstance(blocks, list):
        return values
    return {**values, "attacks": [part for block in blocks for part in _bands(block)]}


def _bands(block: Any) -> list[Any]:
    if not isinstance(block, Mapping) or "bands" not in block:
        return [block]
    rest = {key: value for key, value in block.items() if key != "bands"}
    count, name = block["bands"], block.get("name") or "band"
    if type(count) is not int or not 2 <= count <= 64:
        raise ValueError(f"bands must be a whole number from 2 to 64, not {count!r}")
    if {"low", "high"} & set(rest):
        raise ValueError("`bands` says low and high itself: leave them out")
    places = [{"low": k / count, "high": (k + 1) / count} for k in range(count)]
    return [{**rest, "name": f"{name} {k} of {count}", **place} for k, place in enumerate(places, 1)]


def option(what: str, value: Any, default: Any, eps: float, *, signed: bool) -> Any:
    """One option of a method, of the type of its default; without a default it is what was written."""
    if isinstance(default, str) or default is Ellipsis:
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

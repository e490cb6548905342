"""``bands: N`` in a config: attacks that share the spatial frequencies out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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

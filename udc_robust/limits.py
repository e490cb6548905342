"""Limits that every verb shares: the types of counts, sides, seeds, tiles and devices, and what memory holds.

They stand in the schemas, so that a value is refused where it is read, whoever asks.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

import psutil
from pydantic import AfterValidator, BeforeValidator, Field

from udc_robust.errors import UserError, unknown_name

MOST, LARGEST_SIDE = 1_000_000, 16_384
"""Of things that are counted; and of pixels in a row, which is larger than any camera."""


def _whole(value: Any) -> Any:
    """Whole numbers only: a ``true`` is none, though Python counts with it."""
    if isinstance(value, bool):
        raise ValueError("Input should be a whole number")
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
Count = Annotated[Whole, Field(ge=1, le=MOST)]
"""Steps, samples, images of a batch: 1 or more."""
CountOrNone = Annotated[Whole, Field(ge=0, le=MOST)]
"""The same where 0 means none of it."""
Side = Annotated[Whole, Field(ge=1, le=LARGEST_SIDE)]
"""Pixels."""
SideOrNone = Annotated[Whole, Field(ge=0, le=LARGEST_SIDE)]
"""Pixels, where 0 means none."""
Seed = Annotated[Whole, Field(ge=0, le=2**63 - 1)]


def _device(name: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):
        raise ValueError(str(unknown_name("device", name, ["cpu", "cuda", "cuda:0"])))
    return name


Device = Annotated[str, AfterValidator(_device)]
"""``cpu``, ``cuda`` or ``cuda:N``; whether this machine has it is asked by `usable_device`."""


def usable_device(name: str) -> str:
    """The device, which this machine must have.

    Raises:
        UserError: another name than `Device` takes, or no such GPU here.
    """
    import torch

    try:
        _device(name)
    except ValueError as error:
        raise UserError(str(error)) from None
    if name == "cpu":
        return name
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise UserError(f"device {name!r}: this machine has no CUDA GPU that torch can use; use device cpu")
    if int(name.partition(":")[2] or 0) >= count:
        raise UserError(f"device {name!r}: this machine has {count} CUDA GPUs, counted from 0")
    return name


def require_memory(numbers: float, what: str, bytes_each: int = 4) -> None:
    """Refuse what cannot fit into the memory that is free.

    Args:
        numbers: how many of them are needed at least.
        what: that needs them, and the key to lower.

    Raises:
        UserError: with both figures.
    """
    needed, free = numbers * bytes_each, psutil.virtual_memory().available
    if needed > free:
        raise UserError(f"{what} needs at least {gigabytes(needed)} GiB of memory; {gigabytes(free)} are free")


def gigabytes(count: float) -> str:
    """A number of bytes in GiB."""
    return f"{count / 2**30:,.1f}" if count < 2**60 else f"1e{math.log10(count / 2**30):.0f}"

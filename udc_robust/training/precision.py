"""Which arithmetic a training gets: half precision only where the processor has it."""

from __future__ import annotations

import torch

from udc_robust.progress import note

NAMES = {"no": "float32", "fp16": "float16", "bf16": "bfloat16"}


def has_bfloat16() -> bool:
    """Whether the CPU computes convolutions in bfloat16; without, torch takes nine times as long as in float32."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def precision(asked: str) -> str:
    """What a training computes in that asks for ``mixed_precision``; the user is told where it is another.

    On a CPU ``fp16`` is float32 to `accelerate` anyway, without a word.
    """
    if asked == "no" or torch.cuda.is_available() or (asked == "bf16" and has_bfloat16()):
        return asked
    note(f"`mixed_precision: {asked}`: this processor has no {NAMES[asked]}; training in float32")
    return "no"

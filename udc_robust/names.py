"""The names that configs, code and tables share; nothing heavy is imported here."""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal

NONE = "none"
"""Name and kind of no defence at all."""

Domain = Literal["linear", "srgb", "tonemapped", "raw"]
"""Colour domain of an image, see `optics.domains`."""

Flips = bool | Literal[2]
"""Over which flips and turns a restorer's answers are averaged: none, all eight, or the image and its half turn."""

Norm = Literal["linf", "l2", "lpips_alex", "lpips_squeeze"]
"""In which an attack's budget is stated, see `attacks.threat` and `attacks.perceptual`."""

PERCEPTUAL = ("lpips_alex", "lpips_squeeze")
"""Those of how an image looks."""

METHOD_NAMES = (
    "noise", "brightness", "smooth_field", "fgsm", "ifgsm", "pgd", "apgd", "mifgsm", "cospgd", "segpgd", "band_pgd",
    "region_pgd", "patch", "colour_shift", "fmixup", "cw", "ddn", "elastic_net", "ppgd", "lpa", "fast_lpa", "simba",
    "square", "nes", "prgf", "fixed", "channel",
)  # fmt: skip
"""Of the attack methods of ours, see `attacks.methods`."""

LEARNT = "learnt"
"""The channel that a training learns beside its restorer, see `attacks.channels`."""

Access = Literal["blind", "bpda", "surrogate", "adaptive", "transfer"]
"""What a gradient attack knows of a defence: nothing, that it is there, its stand-in, its best gradient; ``transfer``:
nothing of the whole victim."""
CLASSICAL_NAMES = ("richardson_lucy", "total_variation", "wiener")
"""Restorers without weights, see `restorers.deconvolution`."""


def channel_name(channel: str) -> str:
    """What a channel is called by those that learnt it: of a file its name, without folder and ending."""
    return PurePath(channel).stem if channel.endswith(".safetensors") else channel

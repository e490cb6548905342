"""The names that configs, code and tables share; nothing heavy is imported here."""

from __future__ import annotations

from typing import Literal

NONE = "none"
"""Name and kind of no defence at all."""

Domain = Literal["linear", "srgb", "tonemapped"]
"""Colour domain of an image, see `optics.domains`."""

Norm = Literal["linf", "l2"]
"""In which an attack's budget is stated, see `attacks.threat`."""

METHOD_NAMES = (
    "noise", "brightness", "fgsm", "ifgsm", "mifgsm", "pgd", "apgd", "cospgd", "segpgd", "region_pgd", "band_pgd",
    "smooth_field", "patch", "cw", "ddn", "simba", "square",
)  # fmt: skip
"""Of the attack methods of ours, see `attacks.methods`."""

Access = Literal["blind", "bpda", "surrogate", "adaptive"]
"""What a gradient attack knows of a defence: nothing, that it is there, its stand-in, its best gradient."""

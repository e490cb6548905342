"""The one place where basicsr is imported.

basicsr 1.4.2 imports ``torchvision.transforms.functional_tensor``, which torchvision removed in 0.17. Its only use is
``rgb_to_grayscale``, which still lives in ``torchvision.transforms.functional``: a stand-in module gives it back.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import types
from typing import Any

from torch import nn

from udc_robust.errors import unknown_name

# Our networks, under the names that their published option files use.
NETWORKS = {
    "BNUDCnet": "udc_robust.restorers.bnudc:BNUDCnet",
    "DISCNet": "udc_robust.restorers.discnet:DISCNet",
    "MIMOUNet_complete": "udc_robust.restorers.ecfnet:MIMOUNet_complete",
    "NAFNet": "udc_robust.restorers.nafnet:NAFNet",
    "NAFNetLocal": "udc_robust.restorers.nafnet:NAFNetLocal",
    "Restormer": "udc_robust.restorers.restormer:Restormer",
    "UDCSFreqnet": "udc_robust.restorers.fsi:UDCSFreqnet",
    "UDCUNet": "udc_robust.restorers.udcunet:UDCUNet",
    "Uformer": "udc_robust.restorers.uformer:Uformer",
}
_REMOVED = "torchvision.transforms.functional_tensor"


@functools.cache
def import_basicsr() -> Any:
    """Import basicsr (about 4 s, once), enter our networks, and return its ARCH_REGISTRY."""
    import torchvision.transforms.functional as functional

    if _REMOVED not in sys.modules and importlib.util.find_spec(_REMOVED) is None:
        stand_in = types.ModuleType(_REMOVED)
        stand_in.rgb_to_grayscale = functional.rgb_to_grayscale  # type: ignore[attr-defined]
        sys.modules[_REMOVED] = stand_in
    from basicsr.archs import ARCH_REGISTRY

    for name in NETWORKS:
        ARCH_REGISTRY.register(own_network(name))
    return ARCH_REGISTRY


def own_network(name: str) -> type[nn.Module]:
    """Import one of NETWORKS."""
    module, _, class_name = NETWORKS[name].partition(":")
    return getattr(importlib.import_module(module), class_name)


def basicsr_network(name: str) -> type[nn.Module]:
    """Look a network class up in basicsr's ARCH_REGISTRY.

    Raises:
        UserError: with the nearest known name.
    """
    registry = import_basicsr()
    for key in (name, f"{name}_basicsr"):  # basicsr adds the suffix to two of its own
        if key in registry:
            return registry.get(key)
    raise unknown_name("basicsr network", name, registry.keys())

"""Measure and harden image restoration for under-display cameras against adversarial perturbations.

The names below are all that a script or a notebook needs. They are found when they are first used, so importing the
package is light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_HOMES = {
    "Benchmark": "udc_robust.api",
    "attack": "udc_robust.api",
    "benchmark": "udc_robust.api",
    "evaluate": "udc_robust.api",
    "load_classifier": "udc_robust.api",
    "load_purifier": "udc_robust.defences.purifier.pipeline",
    "load_restorer": "udc_robust.api",
    "write_report": "udc_robust.tasks",
    "Defence": "udc_robust.defences.defence",
    "DEFENCES": "udc_robust.defences.registry",
    "METHODS": "udc_robust.attacks",
    "Metric": "udc_robust.metrics",
    "OBJECTIVES": "udc_robust.attacks",
    "TASKS": "udc_robust.tasks",
    "UserError": "udc_robust.errors",
    "method": "udc_robust.attacks.methods",
}
__all__ = [
    "DEFENCES",
    "METHODS",
    "OBJECTIVES",
    "TASKS",
    "Benchmark",
    "Defence",
    "Metric",
    "UserError",
    "attack",
    "benchmark",
    "evaluate",
    "load_classifier",
    "load_purifier",
    "load_restorer",
    "method",
    "write_report",
]

if TYPE_CHECKING:
    from udc_robust.api import Benchmark, attack, benchmark, evaluate, load_classifier, load_restorer
    from udc_robust.attacks import METHODS, OBJECTIVES
    from udc_robust.attacks.methods import method
    from udc_robust.defences.defence import Defence
    from udc_robust.defences.purifier.pipeline import load_purifier
    from udc_robust.defences.registry import DEFENCES
    from udc_robust.errors import UserError
    from udc_robust.metrics import Metric
    from udc_robust.tasks import TASKS, write_report


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'udc_robust' has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

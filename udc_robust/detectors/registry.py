"""The table of detectors that a config can name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from udc_robust.config_file import check_config
from udc_robust.defences.registry import Kind
from udc_robust.detectors.autoencoder import Autoencoder
from udc_robust.detectors.boundary import Boundary
from udc_robust.detectors.detector import Detector, Guarded
from udc_robust.detectors.explanation import Explanation
from udc_robust.detectors.residual import Residual
from udc_robust.errors import UserError, unknown_name

DETECTORS: dict[str, type[Detector]] = {
    "explanation": Explanation, "boundary": Boundary, "autoencoder": Autoencoder, "residual": Residual,
}  # fmt: skip


def check_detector(kind: str, options: Mapping[str, Any], beside: Guarded) -> dict[str, Any]:
    """The options of a kind with their types put right; nothing is read or learnt.

    Raises:
        UserError: an unknown kind or option, a value that is not one, or a kind that cannot watch such a network.
    """
    if kind not in DETECTORS:
        raise unknown_name("kind of detector", kind, DETECTORS)
    chosen = DETECTORS[kind]
    if beside not in chosen.beside:
        able = ", ".join(name for name, other in DETECTORS.items() if beside in other.beside)
        raise UserError(f"detector {kind!r} explains classes, so it cannot watch a {beside}: take {able}")
    checked = check_config(options, Kind(kind, chosen).schema(), f"detector {kind!r}").model_dump(exclude_unset=True)
    _built(kind, checked)
    return checked


def build_detector(
    kind: str, options: Mapping[str, Any], beside: Guarded, network: nn.Module, clean: Tensor, seed: int
) -> Detector:
    """Build a detector and let it learn from clean images ``(N,3,H,W)``.

    Raises:
        UserError: see `check_detector`; a model that cannot be read.
    """
    detector = _built(kind, check_detector(kind, options, beside)).load().to(clean.device)
    with torch.no_grad():
        detector.fit(network, clean, seed)
    return detector.requires_grad_(False).eval()


def _built(kind: str, options: Mapping[str, Any]) -> Detector:
    try:
        return DETECTORS[kind](**options)
    except UserError as error:
        raise UserError(f"detector {kind!r}: {error}") from error

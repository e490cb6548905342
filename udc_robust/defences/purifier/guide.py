"""The robust network in whose features a purifier is guided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from udc_robust.classifiers.zoo import Classifier, ClassifierSpec, load_classifier, shipped_classifiers
from udc_robust.defences.purifier.level import coarsest_module
from udc_robust.errors import UserError, unknown_name
from udc_robust.networks.weights import facts_of, read_weights
from udc_robust.restorers.zoo import RestorerSpec, load_restorer, shipped_checkpoints

_PROBE = 64  # pixels


class Guide(nn.Module):
    """A network as a `guidance.View`: the maps of its deepest part, and its scores where it is a classifier.

    Args:
        network: a `Classifier` or a `Restorer`, which take images in [0,1] of any size; its weights take no gradient.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.classifies = isinstance(network, Classifier)
        self.module = coarsest_module(network, network, torch.zeros(1, 3, _PROBE, _PROBE))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features ``(B,C,h,w)``, and scores ``(B,K)`` or None."""
        seen: list[Any] = []
        part = self.network.get_submodule(self.module)
        hook = part.register_forward_hook(lambda part, arguments, y: seen.append(y))
        try:
            answer = self.network(x)
        finally:
            hook.remove()
        return seen[-1], answer if self.classifies else None


def load_guide(name: str, *, needs_classes: bool = False) -> Guide:
    """A shipped classifier or restorer, or a weights file of either that a training of ours wrote.

    Raises:
        UserError: none of them, or a restorer where classes are needed.
    """
    if name in shipped_classifiers():
        return Guide(load_classifier(ClassifierSpec(name)))
    file = None if name in shipped_checkpoints() else name
    if file is not None:
        if not Path(file).is_file():
            known = [*shipped_classifiers(), *shipped_checkpoints(), "a weights file"]
            raise unknown_name("network to guide a purifier", name, known)
        facts = facts_of(read_weights(file)[1], file)
        if "network" not in facts:
            raise UserError(f"{file} does not say which network it is: `agdm` takes what a training of ours wrote")
        if "classes" in facts:
            return Guide(load_classifier(ClassifierSpec(name, weights=file)))
    if needs_classes:
        raise UserError(f"{name} is a restorer and knows no classes: leave out agdm_classes, or name a classifier")
    return Guide(load_restorer(RestorerSpec(name, weights=file), "srgb"))

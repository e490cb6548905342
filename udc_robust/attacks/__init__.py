"""The attack core: images, tensors and callables. It knows no network, no defence and no file."""

from udc_robust.attacks import estimate, gradient, minimum_norm, query  # their methods enter METHODS on import
from udc_robust.attacks.attack import Result, attack, frozen, rejudged, transfer
from udc_robust.attacks.gradient import perturb
from udc_robust.attacks.methods import METHODS, Method
from udc_robust.attacks.objectives import OBJECTIVES, Damage, Misclassify, Objective, objective
from udc_robust.attacks.oracle import Victim, answers
from udc_robust.attacks.sources import Sources
from udc_robust.attacks.streams import Streams, image_seed
from udc_robust.attacks.threat import L2, THREATS, Linf, Threat, round_to_8_bits

__all__ = [
    "L2",
    "METHODS",
    "OBJECTIVES",
    "THREATS",
    "Damage",
    "Linf",
    "Method",
    "Misclassify",
    "Objective",
    "Result",
    "Sources",
    "Streams",
    "Threat",
    "Victim",
    "answers",
    "attack",
    "estimate",
    "frozen",
    "gradient",
    "image_seed",
    "minimum_norm",
    "objective",
    "perturb",
    "query",
    "rejudged",
    "round_to_8_bits",
    "transfer",
]

"""The attack core: images, tensors and callables. It knows no network, no defence and no file."""

from udc_robust.attacks import (  # their methods enter METHODS on import
    apgd,
    channels,
    colour,
    elastic_net,
    estimate,
    fields,
    frequency,
    gradient,
    minimum_norm,
    mixing,
    momentum,
    perceptual,
    query,
    region,
    weighted,
)
from udc_robust.attacks.attack import Result, attack, frozen, rejudged, transfer
from udc_robust.attacks.frequency import gain_spectrum
from udc_robust.attacks.gradient import perturb
from udc_robust.attacks.methods import METHODS, Method
from udc_robust.attacks.objectives import OBJECTIVES, Damage, Misclassify, Objective, objective
from udc_robust.attacks.oracle import Victim, answers
from udc_robust.attacks.sources import Sources
from udc_robust.attacks.streams import Streams, image_seed
from udc_robust.attacks.targeted import Towards
from udc_robust.attacks.threat import L2, THREATS, Linf, Threat, round_to_8_bits
from udc_robust.attacks.universal import universal

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
    "Towards",
    "Victim",
    "answers",
    "apgd",
    "attack",
    "channels",
    "colour",
    "elastic_net",
    "estimate",
    "fields",
    "frequency",
    "frozen",
    "gain_spectrum",
    "gradient",
    "image_seed",
    "minimum_norm",
    "mixing",
    "momentum",
    "objective",
    "perceptual",
    "perturb",
    "query",
    "region",
    "rejudged",
    "round_to_8_bits",
    "transfer",
    "universal",
    "weighted",
]

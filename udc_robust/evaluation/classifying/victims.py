"""The victims of a study: each classifier, bare and behind each defence, and the images that they must fit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from udc_robust.attacks import Misclassify, Objective, Streams, answers, frozen, objective
from udc_robust.attacks import Victim as Answering
from udc_robust.classifiers.data import LabelledImages, load_images
from udc_robust.classifiers.zoo import Classifier, ClassifierSpec, load_classifier
from udc_robust.defences.defence import Defended
from udc_robust.defences.registry import build_defence
from udc_robust.errors import UserError
from udc_robust.evaluation.cells import Cell, cells
from udc_robust.evaluation.classifying.config import (
    ClassifierAttackConfig,
    ClassifierDefenceConfig,
    ClassifyConfig,
    ImagesConfig,
)
from udc_robust.evaluation.victims import NONE, Guarded

Victim = Guarded[Classifier]
"""A classifier behind a defence."""


class Jittered(nn.Module):
    """A victim as an attacker explores it: every image is shown with Gaussian noise of its own.

    Attributes:
        random: True: it must be called with streams.
    """

    random = True

    def __init__(self, victim: Answering, sigma: float) -> None:
        super().__init__()
        self.victim, self.sigma = victim, sigma

    def forward(self, x: Tensor, streams: Streams) -> Tensor:
        """Answer to the images and some noise."""
        noisy = x + self.sigma * streams.normal(x)
        return self.victim(noisy, streams) if getattr(self.victim, "random", False) else self.victim(noisy)


def open_images(block: ImagesConfig) -> LabelledImages:
    """The images of a data block under its label."""
    found = load_images(block.source, block.side)
    found = found if block.limit is None else found.spread(block.limit)
    return found if block.name is None else replace(found, name=block.name)


def pixels_digest(images: LabelledImages) -> str:
    """A short hash of all pixels, labels and keys: a picture that was replaced makes another run.

    Raises:
        UserError: images of different sizes.
    """
    found, first = hashlib.sha256(repr((images.classes, images.labels, images.keys)).encode()), images[0][0].shape
    for i, (image, _) in enumerate(images):
        if image.shape != first:
            images.batch([0, i])  # which says so
        found.update(image.contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def load_classifiers(config: ClassifyConfig) -> dict[str, Classifier]:
    """Every classifier by name."""
    return {
        block.name: load_classifier(ClassifierSpec(**block.model_dump()), config.device, config.seed)
        for block in config.classifiers
    }


def build_victims(config: ClassifyConfig, classifiers: Mapping[str, Classifier]) -> list[Victim]:
    """The victims, classifier by classifier, the bare one first."""
    found = []
    for name, classifier in classifiers.items():
        mine = [block for block in config.defences if block.classifiers is None or name in block.classifiers]
        found += [_victim(config, classifier, block) for block in sorted(mine, key=lambda block: block.kind != NONE)]
    return found


def _victim(config: ClassifyConfig, classifier: Classifier, block: ClassifierDefenceConfig) -> Victim:
    if block.kind == NONE:
        return Victim(classifier, block, None, cells(config, block), classifier)
    defence = build_defence(block.kind, block.options).to(config.device).eval()
    grid = cells(config, block, defence.gradients, defence.random)
    return Victim(classifier, block, defence, grid, Defended(defence, classifier).eval())


def jitter(victim: Victim, cell: Cell) -> float:
    """Deviation of the noise that the attacker of a cell explores with; 0 unless it follows a defence's gradient."""
    follows = cell.access in victim.ways and isinstance(cell.attack, ClassifierAttackConfig)
    return cell.attack.jitter if follows else 0.0  # type: ignore[attr-defined]


def seen(victim: Victim, cell: Cell) -> Answering:
    """What the attacker of a cell differentiates or asks."""
    known, sigma = victim.seen(cell.access), jitter(victim, cell)
    return Jittered(known, sigma) if sigma else known


def targets(goal: Objective, labels: Tensor, classes: int) -> Tensor | None:
    """What an objective is measured against: the labels, or for a targeted form the class after each.

    None for the divergence, which compares with the victim's own scores.
    """
    if not isinstance(goal, Misclassify):
        return None
    return (labels + 1) % classes if goal.targeted else labels


@torch.no_grad()
def check_victims(config: ClassifyConfig, images: LabelledImages, victims: Sequence[Victim]) -> None:
    """Let every victim answer to one image, before any work.

    Raises:
        UserError: images smaller than a kernel, labels out of range, classes in another order, scores that are
            probabilities or too few for an objective, or that are not finite.
    """
    x, labels = images.batch([0])[0].to(config.device), torch.tensor(images.labels, device=config.device)
    for classifier in dict.fromkeys(victim.network for victim in victims):
        _check_classes(images, classifier)
        scores = _answer(classifier, x, f"classifier {classifier.name!r}", images.name)
        for name in dict.fromkeys(["margin", *(attack.objective for attack in config.attacks)]):
            _check_scores(name, scores, labels, f"classifier {classifier.name!r} on {images.name}")
    for victim in victims:
        if not _answer(victim.deployed, x, f"victim {victim.label!r}", images.name).isfinite().all():
            raise UserError(f"victim {victim.label!r} answers with NaN or infinity: check {victim.network.origin}")


def _answer(victim: nn.Module, x: Tensor, what: str, data: str) -> Tensor:
    try:
        with frozen(victim):
            return answers(victim, x, [0])[0]
    except RuntimeError as error:
        size = f"{x.shape[-2]} x {x.shape[-1]} px"
        raise UserError(f"{what} does not take the images of {data}, {size}: {error}") from error


def _check_scores(name: str, scores: Tensor, labels: Tensor, what: str) -> None:
    goal = objective(name)
    rows = scores.expand(len(labels), -1) if scores.ndim == 2 else scores
    try:
        goal.check(rows, labels if isinstance(goal, Misclassify) else rows)
    except ValueError as error:
        raise UserError(f"{what}: {error}") from error


def _check_classes(images: LabelledImages, classifier: Classifier) -> None:
    named = classifier.classes
    if named is not None and sorted(named) == sorted(images.classes) and named != images.classes:
        raise UserError(
            f"classifier {classifier.name!r} has the classes of {images.name} in another order: name the folders so "
            f"that they sort as {', '.join(named)}"
        )


def facts_of_victim(victim: Victim) -> dict[str, Any]:
    """What ``run.json`` tells about a victim."""
    return {
        "kind": victim.block.kind,
        "options": victim.block.options,
        "ways": list(victim.ways),
        "random": victim.random,
        "nfe": victim.nfe,
    }

"""Classification as a task of the grid: labelled images, classifiers, and the share of right answers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from udc_robust.attacks import Misclassify, Objective
from udc_robust.attacks.classification import CLASSIFICATION as OBJECTIVES
from udc_robust.attacks.classification import margin
from udc_robust.classifiers.data import LabelledImages, load_images
from udc_robust.classifiers.zoo import Classifier, ClassifierSpec, load_classifier
from udc_robust.errors import UserError
from udc_robust.grid.attack_schema import AttackConfig
from udc_robust.grid.attacking import Judged
from udc_robust.grid.images import Batch, Images
from udc_robust.grid.named import find_objective
from udc_robust.grid.schema import RunConfig
from udc_robust.grid.statistics import mean_interval
from udc_robust.grid.tables import BAD, COSTS, cell_names
from udc_robust.grid.task import Pictures, Row, Task
from udc_robust.metrics import Metric, records
from udc_robust.metrics.calibration import expected_calibration_error
from udc_robust.tasks import classification_words as words
from udc_robust.tasks.classification_schema import ClassificationConfig, ImagesConfig

NAMES = cell_names("classifier")
SHARES = (
    "top1", "top5", "top1_one_draw", "top1_worst_draw", "top1_clean", "top5_clean", "top1_noise", "top5_noise",
)  # fmt: skip
RESULT_COLUMNS = (
    *NAMES, "image", "label", "answer", *SHARES, "margin", "confidence", "objective_clean", "objective_attacked",
    *COSTS, BAD,
)  # fmt: skip
SUMMARY_COLUMNS = (*NAMES, "images", *SHARES, "top1_low", "top1_high", "margin", "ece", *COSTS, BAD)


def open_images(block: ImagesConfig) -> Images:
    """The images of a data block, all decoded once: they must be of one size.

    Raises:
        UserError: nothing there, or images of different sizes.
    """
    found = load_images(block.source, block.side)
    found = found if block.limit is None else found.spread(block.limit)
    label = found.name if block.name is None else block.name
    digest, (height, width) = _digest(replace(found, name=label))

    def load(index: int) -> tuple[Tensor, Tensor]:
        image, target = found[index]
        return image.float() / 255, torch.tensor(target)

    return Images(
        label, found.keys, [(height, width)] * len(found), "srgb", load, lambda: digest, truth=True,
        facts={"classes": list(found.classes), "labels": {"first": min(found.labels), "last": max(found.labels)}},
    )  # fmt: skip


def _digest(images: LabelledImages) -> tuple[str, tuple[int, int]]:
    """A short hash of all pixels, labels and keys: a picture that was replaced makes another run; and the size."""
    found, first = hashlib.sha256(repr((images.classes, images.labels, images.keys)).encode()), images[0][0].shape
    for i, (image, _) in enumerate(images):
        if image.shape != first:
            images.batch([0, i])  # which says so
        found.update(image.contiguous().numpy().tobytes())
    return found.hexdigest()[:16], (first[-2], first[-1])


def load_classifiers(config: ClassificationConfig, domain: str) -> dict[str, Classifier]:
    """Every classifier by name; all take sRGB images."""
    return {
        block.name: load_classifier(ClassifierSpec(**block.model_dump()), config.device, config.seed)
        for block in config.classifiers
    }


def metrics_of(config: ClassificationConfig) -> tuple[list[Metric], str]:
    """No figures beside those of the votes."""
    return [], ""


def check(config: RunConfig, batch: Batch, network: Classifier, answer: Tensor) -> None:
    """Refuse what would make nonsense of a classifier's figures.

    Raises:
        UserError: labels out of range, classes in another order, scores that are probabilities or too few for an
            objective.
    """
    facts = batch.images.facts
    named, classes = network.classes, facts["classes"]
    if named is not None and sorted(named) == sorted(classes) and list(named) != list(classes):
        raise UserError(
            f"classifier {network.name!r} has the classes of {batch.images.label} in another order: "
            f"name the folders so that they sort as {', '.join(named)}"
        )
    labels = torch.tensor([facts["labels"]["first"], facts["labels"]["last"]], device=answer.device)
    for name in dict.fromkeys(["margin", *(attack.objective for attack in config.attacks)]):
        objective = find_objective(name, OBJECTIVES)()
        scores = answer[0].expand(2, -1) if answer[0].ndim == 2 else answer[0]
        try:
            objective.check(scores, labels if isinstance(objective, Misclassify) else scores)
        except ValueError as error:
            raise UserError(f"classifier {network.name!r} on {batch.images.label}: {error}") from error


def goal(attack: AttackConfig, batch: Batch, clean: Tensor) -> tuple[Objective, Tensor | None]:
    """What to climb, and the labels, or for a targeted form the class after each.

    None for the divergence, which compares with the victim's own scores.
    """
    objective = find_objective(attack.objective, OBJECTIVES)()
    if not isinstance(objective, Misclassify):
        return objective, None
    assert batch.target is not None
    return objective, (batch.target + 1) % clean.shape[-1] if objective.targeted else batch.target


def score(outputs: Tensor, batch: Batch, clean: Tensor) -> Tensor:
    """Whether the vote of all draws is right, as the tables have it, for each of them ``(draws,B)``."""
    assert batch.target is not None
    return records.TOP1.measure(outputs.mean(0), batch.target).expand(len(outputs), -1)


def figures(judged: Judged, metrics: Sequence[Metric]) -> dict[str, list[Any]]:
    """Right or wrong, before, after and under noise, of each image."""
    labels = judged.batch.target
    assert labels is not None
    found = votes(judged.outputs, labels) | {
        f"{name}_clean": values for name, values in _top(judged.clean, labels).items()
    }
    if judged.noise is not None:
        found |= {f"{name}_noise": values for name, values in _top(judged.noise, labels).items()}
    return found | {metric.name: metric.draws(judged.outputs, labels).mean(0).tolist() for metric in metrics}


def votes(scores: Tensor, labels: Tensor) -> dict[str, list[Any]]:
    """Figures of each image from ``(draws,B,K)`` scores.

    ``top1`` and ``top5`` (of the averaged scores) are what a random defence is deployed for; ``top1_one_draw`` is the
    share of its single answers that are right, ``top1_worst_draw`` whether all of them are. For one draw they agree.
    ``margin`` is that of the averaged scores: how far the label's is below the best other, negative while right;
    ``confidence`` the probability that they give to the answer.
    """
    average, single = scores.mean(0), records.TOP1.draws(scores, labels)
    return {
        **_top(scores, labels),
        "answer": average.argmax(1).tolist(),
        "margin": margin(average, labels).tolist(),
        "confidence": average.softmax(1).amax(1).tolist(),
        "top1_one_draw": single.mean(0).tolist(),
        "top1_worst_draw": single.amin(0).tolist(),
    }


def _top(scores: Tensor, labels: Tensor) -> dict[str, list[float]]:
    average = scores.mean(0)
    return {metric.name: metric.measure(average, labels).tolist() for metric in (records.TOP1, records.TOP5)}


def describe(batch: Batch, row: int) -> dict[str, Any]:
    """The label of an image."""
    assert batch.target is not None
    return {"label": int(batch.target[row])}


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Shares of a cell's images in [0,1]; ``top1_low`` to ``top1_high`` is the 95 % interval."""
    found: dict[str, Any] = {}
    for column in (*SHARES, "margin"):
        known = [row[column] for row in rows if column in row]
        found[column] = fmean(known) if known else None
    told = [row for row in rows if "confidence" in row]
    sure, right = [row["confidence"] for row in told], [row["top1"] for row in told]
    found["ece"] = expected_calibration_error(sure, right) if told else None
    found["top1_low"], found["top1_high"] = mean_interval([row["top1"] for row in rows]) or (None, None)
    return found


def facts(classifier: Classifier) -> dict[str, Any]:
    """The domain of its images."""
    return {"domain": classifier.domain}


def family(networks: Mapping[str, Any]) -> dict[str, str]:
    """All are compared with the first."""
    first = next(iter(networks))
    return dict.fromkeys(networks, first)


CLASSIFICATION = Task(
    name="classification", schema=ClassificationConfig, network="classifier", quality=records.TOP1, few_images=100,
    names=NAMES, results=RESULT_COLUMNS, summary=SUMMARY_COLUMNS,
    open=open_images, load=load_classifiers, metrics=metrics_of, check=check, goal=goal, score=score, figures=figures,
    describe=describe, summarise=summarise, pictures=lambda judged: {}, facts=facts, family=family,
    shown=Pictures("view", "what the defence makes of it", lossless=True),
    kicker="Robustness of classifiers and of what stands before them",
    headline=words.headline, verdict=words.verdict, tiles=words.tiles, columns=words.columns, notes=words.notes,
    answer=words.answer, glossary=words.GLOSSARY,
)  # fmt: skip

"""Detection as a task of the grid: does a detector see the attack, also of those who know it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from udc_robust.attacks import Damage, Misclassify, Objective
from udc_robust.attacks.classification import CLASSIFICATION as OBJECTIVES
from udc_robust.attacks.objectives import DISTANCES
from udc_robust.classifiers.zoo import Classifier, ClassifierSpec, load_classifier
from udc_robust.grid.attack_schema import AttackConfig
from udc_robust.grid.attacking import Judged
from udc_robust.grid.images import Batch, Images
from udc_robust.grid.named import find_objective
from udc_robust.grid.schema import RunConfig
from udc_robust.grid.statistics import mean_interval
from udc_robust.grid.tables import BAD, COSTS, cell_names, mean_of
from udc_robust.grid.task import Pictures, Row, Task
from udc_robust.metrics import Metric, records
from udc_robust.metrics.detection import auroc, auroc_interval
from udc_robust.metrics.metric import Scale, not_measured
from udc_robust.names import NONE
from udc_robust.optics.domains import for_metrics
from udc_robust.restorers.zoo import Restorer, RestorerSpec, load_restorer
from udc_robust.tasks import classification, restoration
from udc_robust.tasks import detection_words as words
from udc_robust.tasks.classification_schema import ImagesConfig
from udc_robust.tasks.clean_images import clean_images
from udc_robust.tasks.detection_schema import DetectionAttack, DetectionConfig, DetectorConfig
from udc_robust.tasks.guard import Guard, Watched, apart, as_objective, guard

SAFE = Metric(
    "safe", not_measured, digits=0, label="Safe", unit="%", factor=100.0,
    words="Share of images on which nobody is deceived: the answer held, or the image was flagged at 5 % false alarms. "
    "An answer holds where the label is right, or the restoration lost under 6 dB of PSNR.",
    scale=Scale(small=2.0, large=3.0, same_cost=1.0),
)  # fmt: skip
NAMES = cell_names("detector")
FIGURES = (
    "safe", "holds", "score", "flagged_5", "flagged_1", "safe_clean", "holds_clean", "score_clean", "flagged_5_clean",
    "flagged_1_clean", "safe_noise", "score_noise", "flagged_5_noise",
)  # fmt: skip
AREAS = ("auroc", "auroc_low", "auroc_high", "auroc_noise", "caught_5")
"""The interval takes every image for a scene of its own; the report knows better."""


def open_images(block: Any) -> Images:
    """Labelled images or captures, see those tasks."""
    return classification.open_images(block) if isinstance(block, ImagesConfig) else restoration.open_images(block)


def load_guards(config: DetectionConfig, domain: str) -> dict[str, Guard]:
    """Every detector beside its network, which has learnt from the clean images; sources of attacks have none.

    Raises:
        UserError: no clean images, of other sizes or another domain, among those judged, or too few.
    """
    learning = any(getattr(block, "kind", NONE) != NONE for block in config.detectors)
    assert config.clean is not None or not learning
    clean = clean_images(config.clean, config.data, open_images, domain, config.device) if learning else None
    found = {}
    for block in config.detectors:
        if not isinstance(block, DetectorConfig):
            found[block.name] = Guard(block.name, _network(block, config, domain), NONE)
            continue
        network = _network(block.classifier or block.restorer, config, domain)
        found[block.name] = guard(block, network, clean, config.seed)
    return found


def _network(block: Any, config: DetectionConfig, domain: str) -> Classifier | Restorer:
    said = block.model_dump(exclude_none=True)
    if config.beside == "classifier":
        return load_classifier(ClassifierSpec(**said), config.device, config.seed)
    return load_restorer(RestorerSpec(**said), domain, config.device, config.seed)


def known_network(attack: AttackConfig, network: Guard) -> Guard:
    """The victim as an attacker knows it: with the detector only where he says that he evades it."""
    return network if getattr(attack, "knows", False) else network.bare


def _shape(batch: Batch) -> tuple[int, ...] | None:
    """Of a restorer's answers; None for rows of scores."""
    return None if _labelled(batch) else tuple(batch.x.shape[1:])


def _labelled(batch: Batch) -> bool:
    return batch.target is not None and batch.target.ndim == 1


def check(config: RunConfig, batch: Batch, network: Guard, answer: Tensor) -> None:
    """What the task of the guarded network checks.

    Raises:
        UserError: see there.
    """
    if _labelled(batch):
        attacks = [a.model_copy(update={"objective": a.of_network}) for a in config.attacks]
        own = apart(answer, None)[0]
        classification.check(config.model_copy(update={"attacks": attacks}), batch, network.guarded, own)


def goal(attack: AttackConfig, batch: Batch, clean: Tensor) -> tuple[Objective, Tensor | None]:
    """What to climb on the network's own answer, less the score for who knows the detector, and its target."""
    assert isinstance(attack, DetectionAttack)
    known = OBJECTIVES if _labelled(batch) else DISTANCES
    objective, target = find_objective(attack.of_network, known)(), batch.target
    assert isinstance(objective, Damage | Misclassify)
    if isinstance(objective, Misclassify) and objective.targeted:
        assert target is not None
        target = (target + 1) % (clean.shape[-1] - 1)
    return as_objective(Watched(objective, _shape(batch), attack.evade if attack.knows else 0.0)), target


def holds(outputs: Tensor, batch: Batch, clean: Tensor) -> Tensor:
    """Whether each answer ``(draws,B)`` is still what it should be."""
    answers, unattacked = (apart(y, _shape(batch))[0] for y in (outputs, clean))
    if _labelled(batch):
        assert batch.target is not None
        return records.TOP1.draws(answers, batch.target) > 0
    target = restoration.reference(batch, unattacked)
    lost = Damage("mse", lambda a, b: (a - b).square().flatten(1).mean(1), 1e-4)
    before, after = (
        torch.stack([lost.values(for_metrics(y, batch.domain), target) for y in made]) for made in (unattacked, answers)
    )
    return after < lost.goal(before.mean(0))


def score(outputs: Tensor, batch: Batch, clean: Tensor) -> Tensor:
    """Whether nobody is deceived ``(draws,B)``: the answer holds, or the image is flagged."""
    flagged = apart(outputs, None)[1] > 1
    return (holds(outputs, batch, clean) | flagged).double()


def figures(judged: Judged, metrics: Sequence[Metric]) -> dict[str, list[Any]]:
    """Score, flags and whether the answer holds of each image, before, after and under noise."""
    rare = judged.victim.network.rare  # type: ignore[attr-defined]
    shown = {"": judged.outputs, "_clean": judged.clean} | ({} if judged.noise is None else {"_noise": judged.noise})
    found: dict[str, list[Any]] = {}
    for when, outputs in shown.items():
        scores = apart(outputs, None)[1].mean(0)
        found[f"score{when}"] = scores.tolist()
        found[f"flagged_5{when}"] = (scores > 1).double().tolist()
        found[f"flagged_1{when}"] = [None] * len(scores) if rare is None else (scores > rare).double().tolist()
        found[f"holds{when}"] = holds(outputs, judged.batch, judged.clean).double().mean(0).tolist()
        found[f"safe{when}"] = score(outputs, judged.batch, judged.clean).mean(0).tolist()
    return found


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Means over the images of a cell, and the AUROC of their scores after against before the attack.

    ``auroc_noise`` is that of noise of the attack's norm: what a detector sees there is no attack. ``caught_5`` is the
    share of the images that the attack broke which were flagged at 5 % false alarms.
    """
    found: dict[str, Any] = {name: mean_of([row.get(name) for row in rows]) for name in FIGURES}
    after, before = ([row[name] for row in rows] for name in ("score", "score_clean"))
    if "score_noise" not in rows[0]:
        return found
    found["auroc"] = auroc(after, before)
    found["auroc_low"], found["auroc_high"] = auroc_interval(after, before) or (None, None)
    found["auroc_noise"] = auroc([row["score_noise"] for row in rows], before)
    found["caught_5"] = mean_of([row["flagged_5"] for row in rows if row["holds"] < row["holds_clean"]])
    return found


def facts(network: Guard) -> dict[str, Any]:
    """What is watched by what, and how its levels were set."""
    return {
        "domain": network.domain, "guards": network.guarded.name, "detector": network.kind,
        "held_out": network.held_out, "middle": network.middle, "unit": network.unit, "rare": network.rare,
    }  # fmt: skip


def family(networks: Mapping[str, Any]) -> dict[str, str]:
    """A detector is compared with the same network unwatched, where the run has it."""
    bare = {facts["guards"]: name for name, facts in networks.items() if facts["detector"] == NONE}
    return {name: bare.get(facts["guards"], name) for name, facts in networks.items()}


DETECTION = Task(
    name="detection", schema=DetectionConfig, network="detector", quality=SAFE, few_images=100,
    names=NAMES, results=(*NAMES, "image", *FIGURES, "objective_clean", "objective_attacked", *COSTS, BAD),
    summary=(*NAMES, "images", *FIGURES, *AREAS, "safe_low", "safe_high", *COSTS, BAD),
    open=open_images, load=load_guards, check=check, goal=goal, score=score, figures=figures,
    summarise=lambda rows: summarise(rows) | dict(
        zip(("safe_low", "safe_high"), mean_interval([row["safe"] for row in rows]) or (None, None), strict=True)
    ),
    known=known_network, facts=facts, family=family, shown=Pictures("view", "view"),
    kicker="Whether detectors see attacks", headline=words.headline, verdict=words.verdict, tiles=words.tiles,
    columns=words.columns, notes=words.notes, answer=words.answer, glossary=words.GLOSSARY,
)  # fmt: skip

"""Training a classifier, on images, on what a defence makes of them, or against attacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from udc_robust.attacks import Streams, image_seed
from udc_robust.classifiers.data import LabelledImages, torchvision_folder
from udc_robust.classifiers.resnet_cifar import CIFAR_MEAN, CIFAR_STD
from udc_robust.classifiers.zoo import Classifier, ClassifierSpec, load_classifier
from udc_robust.defences.defence import Defence
from udc_robust.defences.registry import build_defence, stated_texts
from udc_robust.errors import UserError
from udc_robust.files import write_text
from udc_robust.metrics.accuracy_curve import top_k_correct
from udc_robust.networks.constant import check_it_looks
from udc_robust.networks.weights import load_into, save_weights
from udc_robust.training.card import common_facts, metadata, model_card, table
from udc_robust.training.classifier_config import ClassifierConfig
from udc_robust.training.classifier_losses import MODES, ClassifierSetup
from udc_robust.training.imperceptible import SSIM_WINDOW, largest_hidden
from udc_robust.training.labelled import fixed_classifier, load_sets
from udc_robust.training.labelled_batches import LabelledBatches
from udc_robust.training.loop import Validation, share, start, train
from udc_robust.training.masks import MaskedClassifier

Defences = Mapping[str, Defence | None]
"""Representations by name; None is the image itself."""


@torch.no_grad()
def accuracies(
    classifier: nn.Module, images: LabelledImages, defences: Defences, device: torch.device, batch: int = 256
) -> dict[str, dict[str, float]]:
    """Share of images classified rightly behind each defence: ``top1``, and ``top5`` where there are more classes.

    Randomness of a defence is drawn from each image's own stream.
    """
    was_training = classifier.training
    classifier.eval()
    found: dict[str, dict[str, list[Tensor]]] = {name: {"top1": [], "top5": []} for name in defences}
    for first in range(0, len(images), batch):
        rows = range(first, min(first + batch, len(images)))
        x, labels = (part.to(device) for part in images.batch(rows))
        streams = [image_seed(0, images.keys[i], "accuracy") for i in rows]
        for name, defence in defences.items():
            seen = x if defence is None else defence(x, defence.draw(x, Streams(streams)))
            scores = classifier(seen, Streams(streams)) if getattr(classifier, "random", False) else classifier(seen)
            for k in (1, 5):
                found[name][f"top{k}"].append(top_k_correct(scores, labels, k))
    classifier.train(was_training)
    kinds = ("top1", "top5") if len(images.classes) > 5 else ("top1",)
    return {name: {k: torch.cat(rows[k]).double().mean().item() for k in kinds} for name, rows in found.items()}


def train_classifier(config: ClassifierConfig, out: Path) -> dict[str, Any]:
    """Train, resume where a former call was stopped, and write ``NAME.safetensors`` and its model card.

    Returns:
        The facts of the card: seconds, validation figures, parameters.

    Raises:
        UserError: bad data, another training in ``out``, or a loss that is not finite (the last state is kept).
    """
    accelerator = start(config, out)
    images, validation = load_sets(config)
    _check_batches(config, len(images.classes), accelerator.num_processes)
    defences: dict[str, Defence | None] = {"original": None}
    for block in config.transforms:
        defences[block.label] = build_defence(block.kind, block.options).to(accelerator.device)
    teacher = None
    if config.teacher is not None:
        teacher = fixed_classifier("teacher", config.teacher, images).to(accelerator.device)
    classifier = _classifier(config, images, teacher)
    network: nn.Module = MaskedClassifier(classifier) if config.mode in ("xat", "xvat") else classifier
    network.train()
    one = config.mode in ("transformed", "on_manifold")
    learnt = list(defences.values())[1 if one else 0 :]
    plain = not one and config.mode not in ("hybrid", "hybrid_adversarial")
    eps = config.eps if config.imperceptible is None else _hidden(config.imperceptible, images)
    mode = MODES[config.mode]
    setup = ClassifierSetup(config, classifier, [None] if plain else learnt, eps, teacher)
    batches = LabelledBatches(
        images, pad=config.pad, flip=config.flip, **share(config, accelerator),
    )  # fmt: skip

    def loss(network: nn.Module, batch: tuple[Tensor, ...], step: int) -> Tensor:
        x, labels, seeds = batch
        return mode(setup, network, x, labels, seeds.tolist())

    def check(network: nn.Module) -> Validation:
        figures = accuracies(network, validation, defences, accelerator.device)
        top1 = {name: figure["top1"] for name, figure in figures.items()}
        told = ", ".join(f"{name} {share:.1%}" for name, share in top1.items())
        return Validation({"accuracy": figures}, {f"top1_{name}": share for name, share in top1.items()}, told)

    also = [name for block in config.transforms for name in stated_texts(block.kind, block.options)]
    also += [folder for source in (config.train, config.validation) for folder in torchvision_folder(source)]
    trained = train(accelerator, config, out, network, batches, loss, check, also)
    result = trained.network.classifier if isinstance(trained.network, MaskedClassifier) else trained.network
    assert isinstance(result, Classifier)
    facts = {
        **common_facts(config, trained, result.network), "network": config.network,
        "options": {**config.options, "num_classes": len(images.classes)},
        "mean": result.mean.flatten().tolist(), "std": result.std.flatten().tolist(), "classes": images.classes,
        "mode": config.mode, "eps": eps, "transforms": [block.model_dump(mode="json") for block in config.transforms],
        "data": images.name, "images": len(images), "validation_images": len(validation),
    }  # fmt: skip
    if accelerator.is_main_process:
        save_weights(out / f"{config.name}.safetensors", result.network, metadata(facts))
        write_text(out / f"{config.name}.md", _card(config, facts))
    return facts


def _check_batches(config: ClassifierConfig, classes: int, processes: int) -> None:
    """A class's covariance needs several of its images in a batch."""
    rows = config.batch_size // processes
    if config.mode == "gccs" and rows < 4 * classes:
        raise UserError(
            f"mode 'gccs' needs several images a class in a batch: raise batch_size {config.batch_size} to "
            f"{4 * classes * processes} or more for {classes} classes"
        )


def _hidden(keep: float, images: LabelledImages) -> float:
    """The budget that these images hide, see `largest_hidden`; of 256 of them, evenly chosen."""
    if images.side is not None and images.side < SSIM_WINDOW:
        raise UserError(f"imperceptible needs images of {SSIM_WINDOW} px or more, not {images.side}: give `eps`")
    some = images.spread(256)
    return largest_hidden(some.batch(range(len(some)))[0], keep)


def _classifier(config: ClassifierConfig, images: LabelledImages, teacher: Classifier | None = None) -> Classifier:
    """The network to begin with, for the classes of the data; CIFAR-10's statistics unless others are given.

    A student begins as its teacher.
    """
    spec = ClassifierSpec(
        config.name, config.network, {**config.options, "num_classes": len(images.classes)}, config.weights,
        config.mean or (None if config.weights else CIFAR_MEAN), config.std or (None if config.weights else CIFAR_STD),
    )  # fmt: skip
    classifier = load_classifier(spec, seed=config.seed)
    if config.mode == "student" and teacher is not None:
        state = {**classifier.network.state_dict(), **teacher.network.state_dict()}
        load_into(classifier.network, state, f"teacher {config.teacher!r}")
        classifier.mean, classifier.std = teacher.mean.cpu(), teacher.std.cpu()
    what, origin = f"network {config.network!r}", config.weights or "options"
    check_it_looks(classifier, what, origin, side=config.patch_size, untrained=not classifier.trained)
    return classifier


def _card(config: ClassifierConfig, facts: dict[str, Any]) -> str:
    accuracy = facts["validation"]["accuracy"]
    head = ["test images", *next(iter(accuracy.values()))]
    rows = [[name, *(f"{100 * part:.2f} %" for part in figure.values())] for name, figure in accuracy.items()]
    network = f"`{config.network}`, {facts['parameters']:,} parameters"
    tested = f"tested on {facts['validation_images']} images never trained on"
    return model_card(
        config, facts, command="train classifier", what=f"A {config.network}",
        tags="image-classification, adversarial-robustness",
        lines=[
            f"network: {network}; raw scores, normalisation inside; mode: {config.mode}",
            f"data: {facts['images']} images of {facts['data']}; {tested}",
        ],
        figures=f"{table(head, rows)}\n\nClean figures: they say nothing about attacks.",
    )  # fmt: skip

"""How every training on labelled images begins: the two sets, and a classifier that stays as it is."""

from __future__ import annotations

from udc_robust.classifiers.data import LabelledImages, load_images
from udc_robust.classifiers.zoo import Classifier, ClassifierSpec, load_classifier, shipped_classifiers
from udc_robust.errors import UserError
from udc_robust.training.classifier_config import ClassifierConfig
from udc_robust.training.filter_config import FilterConfig


def load_sets(config: ClassifierConfig | FilterConfig) -> tuple[LabelledImages, LabelledImages]:
    """The images to train on, and those of the validation.

    Raises:
        UserError: images that cannot be read, or sets of different classes.
    """
    images, validation = (load_images(source, config.patch_size) for source in (config.train, config.validation))
    if images.classes != validation.classes:
        only = set(images.classes) ^ set(validation.classes)
        told = f"{', '.join(sorted(only)[:3])} is in one only" if only else "their order differs"
        raise UserError(f"{config.train} and {config.validation} have different classes: {told}")
    return images, validation.spread(config.validation_limit or len(validation))


def fixed_classifier(what: str, name: str, images: LabelledImages) -> Classifier:
    """A trained classifier that another network learns with; it takes no gradient.

    Args:
        what: the key that names it.
        name: a shipped one, or a weights file.

    Raises:
        UserError: no such classifier, random weights, or other classes than those of the images.
    """
    found = load_classifier(ClassifierSpec(name, weights=None if name in shipped_classifiers() else name))
    scores, classes = found(images.batch([0])[0]).shape[1], len(images.classes)
    if not found.trained or scores != classes:
        told = f"answers {scores} classes, the data have {classes}" if found.trained else "is untrained"
        raise UserError(f"{what} {name!r} {told}: name a classifier that was trained on such data")
    return found.requires_grad_(False)

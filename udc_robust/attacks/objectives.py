"""What an attacker maximises: one number per image, and the value at which an image counts as broken.

An objective compares the victim's output with a target: the ground truth (``vs_gt``) or the victim's own clean
output (``vs_clean``), which are different goals; or, for a classifier, the label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from udc_robust import metrics
from udc_robust.attacks.classification import CLASSIFICATION, Divergence, Misclassify, same
from udc_robust.attacks.targeted import Towards

Measure = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Damage:
    """A distance between two images that the attacker makes large.

    An image is broken when its distance reaches ``10 ** (drop_db / 10)`` times the clean one; for MSE this is a PSNR
    lower by ``drop_db``. Clean distances under ``floor`` count as ``floor``: against the clean restoration they are 0,
    and broken then means PSNR below ``-10 log10(floor) - drop_db`` (34 dB for MSE and 6 dB).

    Attributes:
        pixelwise: the measure is a mean over values: parts of large images may be measured one by one.
    """

    name: str
    measure: Measure
    floor: float
    drop_db: float = 6.0
    pixelwise: bool = False

    def check(self, output: Tensor, target: Tensor) -> None:
        """Raise ValueError unless output and target are images of one size."""
        if output.shape != target.shape:
            raise ValueError(f"{self.name} compares images: {tuple(output.shape)} with {tuple(target.shape)}")

    def own_target(self, outputs: Tensor) -> Tensor:
        """What damage is measured against without a ground truth: the mean of the clean outputs ``(draws,B,...)``."""
        return outputs.mean(0)

    def flat(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Whether each image's target is its clean output, so that the gradient at the clean image is zero."""
        return same(outputs.mean(0), target)

    def values(self, output: Tensor, target: Tensor) -> Tensor:
        """Distance of each image ``(B,)``; the attacker maximises it."""
        return self.measure(output, target)

    def goal(self, clean_values: Tensor) -> Tensor:
        """The value at which each image counts as broken."""
        return clean_values.clamp_min(self.floor) * 10 ** (self.drop_db / 10)

    def broken(self, outputs: Tensor, target: Tensor, values: Tensor, goal: Tensor) -> Tensor:
        """Whether the mean distance ``values`` of the answers reaches the goal."""
        return values >= goal

    def beyond(self, goal: Tensor, confidence: float) -> Tensor:
        """A goal that lies ``confidence`` dB further."""
        return goal * 10 ** (confidence / 10)

    def hinge(self, values: Tensor, goal: Tensor) -> Tensor:
        """How many dB an image is still short of broken, 0 beyond: C&W's success term for a regression output."""
        return (10 * (torch.log10(goal) - torch.log10(values.clamp_min(1e-12)))).clamp_min(0)


@dataclass(frozen=True)
class Mean:
    """One objective on several networks at once: the mean of its values. Outputs ``(B,members,...)``, targets alike.

    An image counts as broken when it is broken for every network.
    """

    of: Damage | Misclassify | Divergence | Towards | OwnTruth

    @property
    def name(self) -> str:
        """That of the objective."""
        return self.of.name

    def check(self, output: Tensor, target: Tensor) -> None:
        """Raise ValueError where the objective is not defined for a network's output."""
        for mine, wanted in zip(output.unbind(1), target.unbind(1), strict=True):
            self.of.check(mine, wanted)

    def own_target(self, outputs: Tensor) -> Tensor:
        """Each network's own, of clean outputs ``(draws,B,members,...)``."""
        return torch.stack([self.of.own_target(mine) for mine in outputs.unbind(2)], 1)

    def flat(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Whether the gradient at the clean image is zero for every network."""
        each = zip(outputs.unbind(2), target.unbind(1), strict=True)
        return torch.stack([self.of.flat(mine, wanted) for mine, wanted in each]).all(0)

    def values(self, output: Tensor, target: Tensor) -> Tensor:
        """The mean over networks ``(B,)``; the attacker maximises it."""
        each = zip(output.unbind(1), target.unbind(1), strict=True)
        return torch.stack([self.of.values(mine, wanted) for mine, wanted in each]).mean(0)

    def goal(self, clean_values: Tensor) -> Tensor:
        """The mean at which an image counts as broken."""
        return self.of.goal(clean_values)

    def broken(self, outputs: Tensor, target: Tensor, values: Tensor, goal: Tensor) -> Tensor:
        """Whether an image is broken for every network."""
        each = zip(outputs.unbind(2), target.unbind(1), strict=True)
        return torch.stack([self.of.broken(mine, wanted, values, goal) for mine, wanted in each]).all(0)

    def beyond(self, goal: Tensor, confidence: float) -> Tensor:
        """A goal that lies further."""
        return self.of.beyond(goal, confidence)

    def hinge(self, values: Tensor, goal: Tensor) -> Tensor:
        """How far the mean is short of its goal."""
        return self.of.hinge(values, goal)


@dataclass(frozen=True)
class OwnTruth:
    """An objective on answers that bring along what they ought to be: ``(B,2C,H,W)``, a picture and then the truth.

    Where the attacker changes a scene, the truth changes with it, and a restorer errs only where it does not follow.

    Attributes:
        moves: whether distance is measured to the truth that came along; else to the first half of a fixed target.
    """

    of: Damage | Towards
    moves: bool

    @property
    def name(self) -> str:
        """That of the objective."""
        return self.of.name

    def check(self, output: Tensor, target: Tensor) -> None:
        """Raise ValueError unless output and target are pictures of one size, each with a truth."""
        self.of.check(*self._pair(output, target))

    def own_target(self, outputs: Tensor) -> Tensor:
        """The mean of the clean outputs ``(draws,B,...)`` with their truths."""
        return outputs.mean(0)

    def flat(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Whether the gradient at the clean image is zero."""
        if self.moves:
            return torch.zeros(len(target), dtype=torch.bool, device=target.device)
        return self.of.flat(outputs.chunk(2, 2)[0], target.chunk(2, 1)[0])

    def values(self, output: Tensor, target: Tensor) -> Tensor:
        """The objective of each image ``(B,)``; the attacker maximises it."""
        return self.of.values(*self._pair(output, target))

    def goal(self, clean_values: Tensor) -> Tensor:
        """The value at which each image counts as broken."""
        return self.of.goal(clean_values)

    def broken(self, outputs: Tensor, target: Tensor, values: Tensor, goal: Tensor) -> Tensor:
        """Whether the mean ``values`` of the answers reaches the goal."""
        return self.of.broken(outputs, target, values, goal)

    def beyond(self, goal: Tensor, confidence: float) -> Tensor:
        """A goal that lies further."""
        return self.of.beyond(goal, confidence)

    def hinge(self, values: Tensor, goal: Tensor) -> Tensor:
        """How far an image is still short of its goal."""
        return self.of.hinge(values, goal)

    def _pair(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        picture, truth = output.chunk(2, 1)
        return picture, truth if self.moves else target.chunk(2, 1)[0]


Objective = Damage | Misclassify | Divergence | Towards | OwnTruth | Mean


def charbonnier(output: Tensor, target: Tensor, eps: float = 1e-3) -> Tensor:
    """Mean of ``sqrt(d^2 + eps^2)``, less eps, so that equal images give 0."""
    return ((output - target).square() + eps**2).sqrt().flatten(1).mean(1) - eps


def edge_loss(output: Tensor, target: Tensor) -> Tensor:
    """Charbonnier distance of the images' Laplacians: what blurs or rings hurts most (MPRNet, eq. 3)."""
    from kornia.filters import laplacian

    return charbonnier(laplacian(output, 3), laplacian(target, 3))


def uncorrelated(output: Tensor, target: Tensor) -> Tensor:
    """One minus Pearson's correlation of all values of each image: what PUAP climbs."""
    a, b = (images.flatten(1) - images.flatten(1).mean(1, keepdim=True) for images in (output, target))
    return 1 - torch.nn.functional.cosine_similarity(a, b, dim=1)


def _lpips(backbone: str) -> Measure:
    def measure(output: Tensor, target: Tensor) -> Tensor:
        return metrics.lpips_distance(metrics.load_lpips(backbone, output.device), output, target)

    return measure


LPIPS_OBJECTIVES = {backbone: f"lpips_{backbone}" for backbone in metrics.BACKBONES}
"""By backbone; plain ``lpips`` is AlexNet's."""

DAMAGES: dict[str, tuple[Measure, float]] = {
    "mse": (metrics.mse, 1e-4),
    "charbonnier": (charbonnier, 5e-3),
    "ssim": (lambda output, target: 1 - metrics.ssim(output, target), 2e-2),
    "edge": (edge_loss, 5e-3),
    "correlation": (uncorrelated, 1e-2),
    "lpips": (_lpips("alex"), 2e-2),
    **{name: (_lpips(backbone), 2e-2) for backbone, name in LPIPS_OBJECTIVES.items()},
}
PIXELWISE = ("mse", "charbonnier")
"""Those that are means over values."""
DISTANCES = (*DAMAGES, "psnr")
"""Objectives of two images."""
OBJECTIVES = (*DISTANCES, *CLASSIFICATION)


def objective(name: str, drop_db: float = 6.0) -> Objective:
    """Build an objective by name.

    ``psnr`` is ``mse`` under another name: the same images, the same order. Those of LPIPS raise ``LpipsUnavailable``
    when first computed where their weights cannot be had. Several distances at once are written with a plus,
    ``mse+lpips_squeeze``: their mean, each in units of the smallest change that counts for it.
    """
    if name == "divergence":
        return Divergence()
    if name in CLASSIFICATION:
        return Misclassify(name)
    parts = ["mse" if part == "psnr" else part for part in name.split("+")]
    for part in parts:
        if part not in DAMAGES:
            raise ValueError(f"unknown objective {part!r}: known are {', '.join(OBJECTIVES)}")
    if len(parts) == 1:
        return Damage(name, *DAMAGES[parts[0]], drop_db, parts[0] in PIXELWISE)
    found = [DAMAGES[part] for part in parts]

    def together(output: Tensor, target: Tensor) -> Tensor:
        return torch.stack([measure(output, target) / floor for measure, floor in found]).mean(0)

    return Damage(name, together, 1.0, drop_db)

"""What an attacker of a restorer maximises who wants a certain picture: a detail drawn, or gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from udc_robust.attacks.classification import same
from udc_robust.attacks.within import check_region


@dataclass(frozen=True)
class Towards:
    """Nearness of the restoration to a wanted picture, the target: minus their mean squared error.

    An image counts as broken when it is ``drop_db`` nearer than the unattacked restoration was.

    Attributes:
        region: top, left, height and width in px of what counts; empty: the whole picture.
    """

    region: tuple[int, ...] = ()
    drop_db: float = 6.0
    name: ClassVar[str] = "towards"

    def check(self, output: Tensor, target: Tensor) -> None:
        """Raise ValueError for a picture of another size, and for a region that is none."""
        if output.shape != target.shape:
            sizes = [f"{image.shape[-2]}x{image.shape[-1]}" for image in (target, output)]
            raise ValueError(f"towards a picture of {sizes[0]} px, but restorations have {sizes[1]}")
        if self.region:
            check_region((output.shape[-2], output.shape[-1]), region=self.region)

    def own_target(self, outputs: Tensor) -> Tensor:
        """Raise ValueError: without a wanted picture there is nowhere to go."""
        raise ValueError("towards needs targets: the picture that each restoration is to become")

    def flat(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Whether each image's restoration is the wanted picture already."""
        return same(self._part(outputs.mean(0)), self._part(target))

    def values(self, output: Tensor, target: Tensor) -> Tensor:
        """Minus the squared error of each image ``(B,)``."""
        return -(self._part(output) - self._part(target)).square().flatten(1).mean(1)

    def goal(self, clean_values: Tensor) -> Tensor:
        """The value at which each image counts as broken."""
        return clean_values / 10 ** (self.drop_db / 10)

    def broken(self, outputs: Tensor, target: Tensor, values: Tensor, goal: Tensor) -> Tensor:
        """Whether the mean over answers ``values`` reaches the goal."""
        return values >= goal

    def beyond(self, goal: Tensor, confidence: float) -> Tensor:
        """A goal that lies ``confidence`` dB further."""
        return goal / 10 ** (confidence / 10)

    def hinge(self, values: Tensor, goal: Tensor) -> Tensor:
        """How many dB an image is still short of its goal."""
        return (10 * (torch.log10((-values).clamp_min(1e-12)) - torch.log10((-goal).clamp_min(1e-12)))).clamp_min(0)

    def _part(self, images: Tensor) -> Tensor:
        if not self.region:
            return images
        top, left, height, width = self.region
        return images[..., top : top + height, left : left + width]

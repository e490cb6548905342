"""The images of a run: a set that loads one at a time, and a batch with what every unit of the grid needs of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from udc_robust.attacks import THREATS, Result, Threat, answers, frozen, image_seed
from udc_robust.attacks import Victim as Answering
from udc_robust.corruptions import SceneChange
from udc_robust.optics.domains import value_range


class Space(Protocol):
    """Where budgets live, if not in what victims are shown: in scenes, which a camera photographs for them.

    Attributes:
        domain: colour domain of the scenes, in which eps is stated.
        random: whether two photographs of one scene differ.
    """

    @property
    def domain(self) -> str: ...  # noqa: D102

    @property
    def random(self) -> bool: ...  # noqa: D102

    def photographed(self, victim: Answering, *, plainly: bool = False) -> nn.Module:
        """A victim that is shown scenes, by way of the camera; ``plainly``: one without chance."""
        ...

    def bounded(self, threat: Threat) -> Threat:
        """What a budget may change of a scene."""
        ...

    def captures(self, scenes: Tensor, seeds: Sequence[int]) -> Tensor:
        """A photograph of each scene ``(B,3,H,W)``."""
        ...

    def toned(self, scenes: Tensor) -> Tensor:
        """Scenes as pictures in [0,1]."""
        ...


@dataclass(frozen=True)
class Images:
    """One data block of a run; memory stays flat in the number of images.

    Attributes:
        keys: unique names; ``sizes``: height and width of each.
        domain: their colour domain.
        load: image ``i`` ``(3,H,W)`` and its target: a ground truth, a label, or None.
        digest: a hash of all pixels and targets.
        truth: whether answers are measured against a target, and not against the clean answer.
        facts: what run.json says of them beside their number.
        told: lines on what was understood of them, and why.
        attacks, networks: labels and names of those that these images meet; None: all.
        load_changed: the same as ``load`` of a scene that was changed before the optics, see `SceneChange`; None where
            scene and optics are not known.
        space: where budgets live: None: in the images; else the images are scenes, in the space's own domain, and
            ``domain`` is that of their captures.
    """

    label: str
    keys: Sequence[str]
    sizes: Sequence[tuple[int, int]]
    domain: str
    load: Callable[[int], tuple[Tensor, Tensor | None]]
    digest: Callable[[], str]
    truth: bool
    facts: Mapping[str, Any] = field(default_factory=dict)
    told: Sequence[str] = ()
    load_changed: Callable[[int, SceneChange], tuple[Tensor, Tensor | None]] | None = None
    attacks: Sequence[str] | None = None
    networks: Sequence[str] | None = None
    space: Space | None = None

    @property
    def stated_in(self) -> str:
        """Colour domain in which eps is stated."""
        return self.domain if self.space is None else self.space.domain

    def meets(self, attack: str) -> bool:
        """Whether an attack of this label is made on them."""
        return self.attacks is None or attack in self.attacks


class Deployed(Protocol):
    """A victim, by its name in tables and as it is deployed."""

    @property
    def label(self) -> str: ...  # noqa: D102

    @property
    def deployed(self) -> nn.Module: ...  # noqa: D102


@dataclass
class Batch:
    """Images of one size.

    Attributes:
        images: the set that they are of; ``indices``: where they stand in it.
        x: ``(B,3,H,W)``; ``target``: ground truths, labels, or None.
        run_seed: of the run; ``draws``: answers of a random victim that are judged.
        clean: judged answers to the unattacked images, by victim.
        bare: attacks made on bare networks, by network (or sources) and cell: blind attacks and transfers are these,
            judged elsewhere.
        starts: images after attacks that others may begin at, by victim and cell.
    """

    images: Images
    indices: Sequence[int]
    x: Tensor
    target: Tensor | None
    run_seed: int
    draws: int
    clean: dict[str, Tensor] = field(init=False, default_factory=dict)
    bare: dict[tuple[str, str], Result] = field(init=False, default_factory=dict)
    starts: dict[tuple[str, str], Tensor] = field(init=False, default_factory=dict)

    @classmethod
    def load(cls, images: Images, indices: Sequence[int], device: str, run_seed: int, draws: int) -> Batch:
        """Read some images of a set."""
        x, target = stacked([images.load(i) for i in indices])
        target = None if target is None else target.to(device)
        return cls(images, indices, x.to(device), target, run_seed, draws)

    @property
    def keys(self) -> list[str]:
        """Names of the images."""
        return [self.images.keys[i] for i in self.indices]

    @property
    def domain(self) -> str:
        """Colour domain of what victims are shown."""
        return self.images.domain

    @property
    def random(self) -> bool:
        """Whether a victim is shown another capture each time."""
        return self.images.space is not None and self.images.space.random

    def met_by(self, victim: Answering, *, plainly: bool = False) -> Answering:
        """A victim as it meets the images: itself, or behind the camera that photographs them, see `Space`."""
        space = self.images.space
        return victim if space is None else space.photographed(victim, plainly=plainly)

    def threat(self, norm: str, eps: float) -> Threat:
        """A budget of these images, in the box of the domain in which it is stated."""
        space = self.images.space
        threat = THREATS[norm](eps, *value_range(self.images.stated_in))
        return threat if space is None else space.bounded(threat)

    def captures(self, x: Tensor) -> Tensor:
        """What victims are shown of images: those themselves, or a photograph of each, with the judge's chance."""
        space = self.images.space
        return x if space is None else space.captures(x, self.seeds("judge"))

    def captured(self) -> Batch:
        """The batch as victims are shown it: of scenes, their captures and no scenes any more."""
        if self.images.space is None:
            return self
        return replace(self, images=replace(self.images, space=None), x=self.captures(self.x))

    def seeds(self, name: str) -> list[int]:
        """A seed for each image, of the run's seed and a name."""
        return [image_seed(self.run_seed, f"{self.images.label}/{key}", name) for key in self.keys]

    def clean_answers(self, victim: Deployed) -> Tensor:
        """What a victim answers to the unattacked images ``(draws,B,...)``, computed once."""
        if victim.label not in self.clean:
            met = self.met_by(victim.deployed)
            with torch.no_grad(), frozen(met):
                self.clean[victim.label] = answers(met, self.x, self.seeds("judge"), self.draws)
        return self.clean[victim.label]


def stacked(loaded: Sequence[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor | None]:
    """Images and targets, each as one batch; None where a target is missing."""
    pictures, targets = zip(*loaded, strict=True)
    known = [target for target in targets if target is not None]
    return torch.stack(pictures), torch.stack(known) if len(known) == len(targets) else None

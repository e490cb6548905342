"""How every training on pairs begins: processes, seed, the two sets, and the batches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from udc_robust.data.samples import PairedFolders
from udc_robust.progress import note
from udc_robust.training.batches import SeededPairs, StepBatches, of_one_domain
from udc_robust.training.config import PairTraining
from udc_robust.training.loop import share, start
from udc_robust.training.render_config import Renders
from udc_robust.training.renders import FreshPairs

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Pairs:
    """The data of a training.

    Attributes:
        told: the training pairs, in words; ``domain``: their colour domain.
        batches: of the training pairs, with a seed for each row.
    """

    accelerator: Accelerator
    told: str
    validation: PairedFolders
    domain: str
    batches: StepBatches


def start_on_pairs(config: PairTraining, out: Path) -> Pairs:
    """Begin; the seed is fixed, so the network is built after it.

    Raises:
        UserError: folders without pairs, linear images, images of several domains (those of the validation too), images
            smaller than a patch, or fewer than a batch.
    """
    accelerator = start(config, out)
    validation = _pairs_in(config.validation, "validation")
    batches: StepBatches
    if isinstance(config.train, Renders):
        batches, domain = FreshPairs(config.train, patch=config.patch_size, **share(config, accelerator)), "tonemapped"
        told = batches.told
        note(f"training data: {told}")
    else:
        train = _pairs_in(config.train, "training")
        batches = SeededPairs(train, patch=config.patch_size, **share(config, accelerator))
        told, domain = f"{len(train)} pairs", train[0].domain
    for _ in of_one_domain(validation, like=("the training is", domain)):
        pass
    return Pairs(accelerator, told, validation, domain, batches)


def _pairs_in(folder: Path, name: str) -> PairedFolders:
    pairs = PairedFolders(folder / "lq", folder / "gt")
    note(f"{name} data {folder}: {len(pairs)} pairs, {pairs.domain_told}")
    return pairs

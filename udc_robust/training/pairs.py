"""How every training on pairs begins: processes, seed, the two sets, and the batches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from udc_robust.data.samples import PairedFolders
from udc_robust.errors import UserError
from udc_robust.progress import note
from udc_robust.training.batches import SeededPairs
from udc_robust.training.config import PairTraining
from udc_robust.training.loop import share, start

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Pairs:
    """The data of a training.

    Attributes:
        domain: colour domain of the training pairs.
        batches: of the training pairs, with a seed for each row.
    """

    accelerator: Accelerator
    train: PairedFolders
    validation: PairedFolders
    domain: str
    batches: SeededPairs


def start_on_pairs(config: PairTraining, out: Path) -> Pairs:
    """Begin; the seed is fixed, so the network is built after it.

    Raises:
        UserError: folders without pairs, linear images, images smaller than a patch, or fewer than a batch.
    """
    accelerator = start(config, out)
    train, validation = (PairedFolders(folder / "lq", folder / "gt") for folder in (config.train, config.validation))
    for name, folder, pairs in (("training", config.train, train), ("validation", config.validation, validation)):
        note(f"{name} data {folder}: {len(pairs)} pairs, {pairs.domain_told}")
    domain = train[0].domain
    if domain == "linear":
        raise UserError(
            f"{config.train}: training pairs must be tone-mapped or sRGB images in [0,1], not linear light: "
            "`udc-robust synth` makes them"
        )
    batches = SeededPairs(train, patch=config.patch_size, **share(config, accelerator))
    return Pairs(accelerator, train, validation, domain, batches)

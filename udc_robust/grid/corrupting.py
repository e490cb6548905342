"""Corruptions in a run: which a config asks for, and what becomes of a batch. They are no attacks: nobody aims."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from udc_robust.corruptions import CORRUPTIONS, SceneChange, chance, corrupted_capture
from udc_robust.grid.corruption_config import ALL, CorruptionConfig, Place
from udc_robust.grid.images import Batch, Images, stacked


@dataclass(frozen=True)
class Corrupted:
    """One corruption at one place in one severity: a cell of the grid beside those of attacks."""

    kind: str
    place: Place
    severity: int

    @property
    def key(self) -> str:
        """Name in units."""
        return f"corruption-{self.kind}-{self.place}-{self.severity}"

    @property
    def title(self) -> str:
        """For people who wait."""
        return f"{self.kind} {self.severity} {self.place} the optics"

    def applied(self, batch: Batch, round_8_bit: bool) -> Batch:
        """The batch, changed; before the optics its truths change with the scenes."""
        if self.place == "before":
            assert batch.images.load_changed is not None
            change = SceneChange(self.kind, self.severity, min(batch.x.shape[-2:]), batch.run_seed)
            x, target = stacked([batch.images.load_changed(i, change) for i in batch.indices])
            return replace(batch, x=x.to(batch.x), target=None if target is None else target.to(batch.x))
        names = [f"{batch.images.label}/{key}" for key in batch.keys]
        changed = [
            corrupted_capture(image, self.kind, self.severity, batch.domain, chance(batch.run_seed, name, self.kind))
            for image, name in zip(batch.x, names, strict=True)
        ]
        x, target = stacked([(image, None) for image in changed])
        return replace(batch, x=(x * 255).round() / 255 if round_8_bit else x)


def cells_of(block: CorruptionConfig) -> Iterator[Corrupted]:
    """Each kind at each place and severity."""
    for kind in CORRUPTIONS if block.kind == ALL else [block.kind]:
        for place in block.place:
            if place == "after" or CORRUPTIONS[kind].of_scenes:
                yield from (Corrupted(kind, place, severity) for severity in block.severity)


def possible(blocks: Sequence[CorruptionConfig], images: Images) -> list[Corrupted]:
    """The corruptions that a set can be shown: before the optics only where its scenes are known.

    Sets of scenes are for attackers, and meet none.
    """
    if images.space is not None:
        return []
    cells = [cell for block in blocks for cell in cells_of(block)]
    return [cell for cell in cells if cell.place == "after" or images.load_changed is not None]


def impossible(blocks: Sequence[CorruptionConfig], sets: Sequence[Images]) -> Iterator[str]:
    """Lines on the sets to which some corruptions cannot be done."""
    for images in sets:
        if images.space is not None:
            if blocks:
                yield f"data {images.label}: budgets live in its scenes, so it meets no corruptions: use space: capture"
        elif len(possible(blocks, images)) < sum(1 for block in blocks for _ in cells_of(block)):
            yield (
                f"data {images.label}: its scenes and optics are not known (only those of embedded data are), so "
                "nothing is changed before the optics"
            )

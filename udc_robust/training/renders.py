"""Pairs rendered while a training runs: a new view every step, so that no capture is learnt by heart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, Unpack

import torch
from torch import Tensor

from udc_robust.data.images import list_images
from udc_robust.data.psf_files import Tolerated, load_psf
from udc_robust.data.scenes import Drawn, chosen_sources, draw_pair, radiance_of
from udc_robust.errors import UserError
from udc_robust.training.batches import Share, StepBatches, draw, eight_bits, random_crops
from udc_robust.training.render_config import Renders


class FreshPairs(StepBatches):
    """Crops ``(lq, gt, seed of each row)`` of the last ``window`` renders; one new render a step.

    A render depends on (seed, number) alone, so a training that was killed, or that several processes share, sees the
    very same pairs.

    Raises:
        UserError: sources that cannot be read or are smaller than ``size``, crops smaller than a patch, or views that
            are all too easy or too hard.
    """

    workers = 1  # rendering goes on beside the training

    def __init__(self, renders: Renders, *, patch: int, **share: Unpack[Share]) -> None:
        super().__init__(**share)
        if renders.size < patch:
            raise UserError(f"train.size {renders.size} is smaller than patch_size {patch}: lower patch_size")
        paths = chosen_sources(list_images(renders.sources), renders.only, renders.exclude)
        self._sources = [radiance_of(path, renders.kind) for path in paths]
        self._psfs: Mapping[str, Tensor] = {}
        if renders.tolerances:
            self._displays = {name: Tolerated(name, renders.tolerances) for name in renders.psfs}
        else:
            self._psfs = {name: load_psf(name) for name in renders.psfs}
        self._renders, self._patch = renders, patch
        if not any(self._draw(number).kept for number in range(4)):
            low, high = renders.difficulty
            raise UserError(
                f"no view of {renders.sources} has a degraded PSNR of {low:g} to {high:g} dB: widen train.difficulty"
            )

    @property
    def told(self) -> str:
        """What is trained on, in words."""
        off = " through a display of its own" if self._renders.tolerances else ""
        return f"a fresh render of {len(self._sources)} sources every step{off}"

    def __getitem__(self, step: int) -> tuple[Tensor, ...]:
        rows = [self._crops(step, self._stream(step, row)) for row in self._rows]
        lq, gt = (torch.stack(images).float() / 255 for images in zip(*rows, strict=True))
        return lq, gt, self._row_seeds(step)

    @cached_property
    def _render(self) -> Callable[[int], tuple[Tensor, Tensor]]:
        """The last renders as they are kept."""
        return lru_cache(maxsize=self._renders.window)(self._eight_bits)

    def __getstate__(self) -> dict[str, Any]:
        """All but the renders at hand: where workers do not fork, each is sent a copy and makes its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_render"}

    def _crops(self, step: int, stream: torch.Generator) -> Sequence[Tensor]:
        return random_crops(self._render(step + draw(self._renders.window, stream)), self._patch, stream)

    def _eight_bits(self, number: int) -> tuple[Tensor, Tensor]:
        """A render (lq, gt) as it is kept."""
        drawn = self._draw(number)
        return eight_bits(f"render {number}", drawn.lq, self._patch), eight_bits("its truth", drawn.gt, self._patch)

    def _draw(self, number: int) -> Drawn:
        """Render ``number``; after eight sources without a view that is as hard as asked the last one has to do."""
        stream = self._stream(number, 4_098)  # no row of a batch
        psfs = self._psfs
        if self._renders.tolerances:
            psfs = {name: display.drawn(stream) for name, display in self._displays.items()}
        for _ in range(8):
            source = self._sources[draw(len(self._sources), stream)]
            drawn = draw_pair(source, psfs, self._renders, stream)
            if drawn.kept:
                break
        return drawn

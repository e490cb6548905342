"""The embedded default: photographs that ship inside scikit-image, made into UDC pairs without any download."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cache, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from udc_robust.data.images import read_image
from udc_robust.data.psf_files import load_psf
from udc_robust.data.samples import Sample
from udc_robust.data.scenes import make_pair
from udc_robust.data.subjects import smaller, subject_of
from udc_robust.errors import UserError
from udc_robust.metrics import psnr
from udc_robust.optics.domains import convert
from udc_robust.optics.two_scenes import Window

# Colour photographs of scenes in the wheel itself, all in the public domain or CC0 (scikit-image, data/README.txt).
PHOTOGRAPHS = ("astronaut.png", "rocket.jpg", "coffee.png", "chelsea.png", "motorcycle_left.png")
# Whole, the one first whose lights and shadows show best what a display does.
_WHOLE = ("coffee.png", "motorcycle_left.png", "rocket.jpg", "chelsea.png", "astronaut.png")
# Crops whose degraded PSNR (dB) lies in the range of the published SYNTH captures.
DIFFICULTY = (19.0, 28.5)


class EmbeddedPairs(Sequence[Sample]):
    """Pairs (degraded, clean) tone-mapped, on 8-bit levels.

    Every photograph becomes pseudo-HDR, is captured whole through the display, so that glare from outside a crop is in
    it, and is then cut up. Crops are taken in turn from the photographs, those of middling difficulty first.
    """

    def __init__(
        self, count: int = 8, size: int = 128, psf: str = "phone", subject: str = "photographs", whole: bool = False
    ) -> None:
        """Choose the crops.

        Args:
            size: of the crops in px; of whole photographs their shorter side.
            subject: see `subject_of`.
            whole: photographs that are not cut up, made smaller before they are captured; none is twice.

        Raises:
            UserError: more crops, or larger ones, than the photographs give.
        """
        if size < 2:
            raise UserError(f"size {size} of embedded images must be 2 pixels or more")
        self._size = size
        self._psf, self.psf, self._subject, self._side = psf, load_psf(psf), subject, size if whole else 0
        queues = [
            [(name, *place) for place in ([(0, 0)] if whole else _places(name, psf, size, subject))]
            for name in (_WHOLE if whole else PHOTOGRAPHS)
        ]
        rounds = range(max(map(len, queues)))
        in_turn = [queue[i] for i in rounds for queue in queues if i < len(queue)]
        if len(in_turn) < count:
            what = "whole pictures" if whole else f"crops of {size} px"
            raise UserError(
                f"the embedded photographs give {len(in_turn)} {what} through {psf!r}, not {count}: "
                "lower `limit` or `size`, or name images of your own"
            )
        self._places = in_turn[:count]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        return self._cut(index, _captured(self._places[index][0], self._psf, self._subject, self._side))

    def of_changed_scene(self, index: int, change: Callable[[Tensor, str], Tensor]) -> Sample:
        """A crop of a photograph whose scene was changed before the optics; its truth is the changed scene.

        Args:
            change: takes the light ``(3,H,W)`` of a whole photograph, and its name; hashable, because photographs are
                captured once for all their crops.
        """
        assert isinstance(change, Hashable)
        name = self._places[index][0]
        return self._cut(index, _captured_changed(name, self._psf, change, self._subject, self._side))

    def scene(self, index: int) -> tuple[Tensor, Window]:
        """The light ``(3,H,W)`` of the whole photograph that a crop is of, and where the crop lies in it."""
        name, top, left = self._places[index]
        return _scene(name, self._subject, self._side), Window(top, left, self._size)

    def placed(self, index: int) -> tuple[Tensor, Tensor, Window]:
        """See `scene_sets.SceneSet.placed`."""
        scene, window = self.scene(index)
        return scene, self.psf, window

    def _cut(self, index: int, pair: tuple[Tensor, Tensor]) -> Sample:
        name, top, left = self._places[index]
        window = (..., slice(top, top + self._size), slice(left, left + self._size))
        lq, gt = pair if self._side else (image[window] for image in pair)
        return Sample(self.keys()[index], lq, gt, "tonemapped", f"scikit-image {name}")

    def keys(self) -> list[str]:
        """Photograph and corner of each crop."""
        if self._side:
            return self.scenes()
        return [f"{Path(name).stem}_{top}_{left}" for name, top, left in self._places]

    def scenes(self) -> list[str]:
        """The photograph that each crop is of."""
        return [Path(name).stem for name, _, _ in self._places]

    def sizes(self) -> list[tuple[int, int]]:
        """All crops have one size."""
        if self._side:
            shapes = [_scene(name, self._subject, self._side).shape for name, _, _ in self._places]
            return [(height, width) for _, height, width in shapes]
        return [(self._size, self._size)] * len(self)

    def files(self) -> list[Path]:
        """None: the photographs ship with scikit-image."""
        return []


@cache
def _scene(name: str, subject: str, side: int) -> Tensor:
    """The light of a whole photograph, whose shorter side is made ``side`` px long; 0: as it is."""
    import skimage

    picture = read_image(Path(skimage.__file__).parent / "data" / name)
    photo = convert(picture.pixels, "srgb", "linear")
    return subject_of(smaller(photo, side) if side else photo, subject, name)


@cache
def _captured(name: str, psf: str, subject: str, side: int) -> tuple[Tensor, Tensor]:
    """The whole photograph as a pair."""
    return make_pair(_scene(name, subject, side), load_psf(psf))


@lru_cache(maxsize=len(PHOTOGRAPHS))  # a run comes back to one change for the crops of a batch only
def _captured_changed(
    name: str, psf: str, change: Callable[[Tensor, str], Tensor], subject: str, side: int
) -> tuple[Tensor, Tensor]:
    """The whole photograph as a pair, after a change of its scene."""
    return make_pair(change(_scene(name, subject, side), name), load_psf(psf))


@cache
def _places(name: str, psf: str, size: int, subject: str) -> list[tuple[int, int]]:
    """Corners of crops that do not overlap and are as hard as asked, the middling ones first."""
    lq, gt = _captured(name, psf, subject, 0)
    height, width = lq.shape[-2:]
    corners = [(t, c) for t in range(0, height - size + 1, size // 2) for c in range(0, width - size + 1, size // 2)]
    if not corners:
        return []
    crops = [torch.stack([image[:, t : t + size, c : c + size] for t, c in corners]) for image in (lq, gt)]
    degraded = psnr(*(crop.double() for crop in crops)).tolist()
    low, high = DIFFICULTY
    hard = [
        (abs(d - (low + high) / 2), corner)
        for d, corner in zip(degraded, corners, strict=True)
        if low <= d <= high or subject != "photographs"  # which have places of every difficulty
    ]
    chosen: list[tuple[int, int]] = []
    for _, (top, left) in sorted(hard):
        if all(abs(top - t) >= size or abs(left - c) >= size for t, c in chosen):
            chosen.append((top, left))
    return chosen

"""Scenes: the light before the optics, of HDR files or of the embedded photographs, each as large as its captures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from udc_robust.data.embedded import DIFFICULTY, EmbeddedPairs
from udc_robust.data.images import image_size, read_image
from udc_robust.data.psf_files import load_psf
from udc_robust.data.samples import Paths, SingleFolder
from udc_robust.data.scenes import FIELD, at_native_size, draw_view, make_pair
from udc_robust.errors import UserError
from udc_robust.metrics import psnr
from udc_robust.optics.capture import MAX_RADIANCE
from udc_robust.optics.domains import convert

_TRIES = 12
_PHOTOGRAPHS = (".png", ".jpg", ".jpeg", ".webp")


class SceneFiles(Sequence[Tensor]):
    """The light ``(3,size,size)`` of HDR panoramas and stills, radiance 0 to 500, one scene a file.

    A panorama is looked into, and a still is cut, where the capture is as hard as the published ones; where no place
    is, at the last one tried. Which places are tried depends on the file's name only.
    """

    def __init__(self, paths: Paths, psf: str, size: int, *, white: float | None = None) -> None:
        """List the files.

        Args:
            psf: the display that the scenes will be captured through.
            white: radiance of the white of files without HDR data, whose values a poster or a screen shows; None: there
                are none.

        Raises:
            UserError: no files, or one that is too small or has no linear light.
        """
        self._files, self._psf, self._size, self._white = SingleFolder(paths), psf, size, white
        if size > FIELD:
            raise UserError(f"scenes of {size} px are more than the {FIELD} px of a view: lower `size`")
        for path in self._files.files():
            if min(image_size(path)) < size:
                height, width = image_size(path)
                raise UserError(f"scene {path} is {height}x{width}, smaller than its `size` {size}: lower `size`")
            if (
                white is None
                and path.name.lower().endswith(_PHOTOGRAPHS)
                and not path.name.lower().endswith(".rgbe.webp")
            ):
                raise _no_light(path)
        _light(self._files.files()[0], white)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        path = self._files.files()[index]
        return _chosen_place(str(path), self.keys()[index], self._psf, self._size, self._white)

    def keys(self) -> list[str]:
        """Names of the scenes."""
        return self._files.keys()

    def scenes(self) -> list[str]:
        """Each file is a scene of its own."""
        return self.keys()

    def files(self) -> list[Path]:
        """The files."""
        return self._files.files()


class EmbeddedScenes(Sequence[Tensor]):
    """The light of the embedded crops: pseudo-HDR, of the crop alone; its border stands for what lies beyond."""

    def __init__(self, count: int, size: int, psf: str, subject: str = "photographs") -> None:
        self._crops = EmbeddedPairs(count, size, psf, subject)

    def __len__(self) -> int:
        return len(self._crops)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        scene, window = self._crops.scene(index)
        return window.of(scene)

    def keys(self) -> list[str]:
        """Photograph and corner of each crop."""
        return self._crops.keys()

    def scenes(self) -> list[str]:
        """The photograph that each crop is of."""
        return self._crops.scenes()

    def files(self) -> list[Path]:
        """None: the photographs ship with scikit-image."""
        return []


def _light(path: Path, white: float | None) -> tuple[Tensor, str]:
    """The radiance of a whole file, and what kind of source it is (see `synth`).

    Raises:
        UserError: it has no linear light, and none was asked for.
    """
    picture = read_image(path)
    if picture.domain != "linear" and white is None:
        raise _no_light(path)
    light = convert(picture.pixels[None], picture.domain, "linear")[0]
    light = (light if picture.domain == "linear" else (white or 1.0) * light).clamp(0, MAX_RADIANCE)
    height, width = light.shape[-2:]
    panorama = picture.domain == "linear" and width == 2 * height and width >= 4 * FIELD
    return (at_native_size(light, path), "panorama") if panorama else (light, "hdr")


def _no_light(path: Path) -> UserError:
    return UserError(
        f"scene {path} has no linear light: give .hdr, .exr or .rgbe.webp files, or say `domain: srgb`, which makes "
        "photographs what a poster or screen before the camera shows"
    )


@lru_cache(maxsize=32)
def _chosen_place(path: str, key: str, psf: str, size: int, white: float | None) -> Tensor:
    light, kind = _light(Path(path), white)
    stream = torch.Generator().manual_seed(int(hashlib.sha256(key.encode()).hexdigest()[:15], 16))
    low, high = DIFFICULTY
    for _ in range(_TRIES):
        scene, _ = draw_view(light, kind, size, stream)
        capture, truth = make_pair(scene, load_psf(psf))
        if low <= psnr(capture[None].double(), truth[None].double()).item() <= high:
            break
    return scene

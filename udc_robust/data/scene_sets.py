"""The scenes of a set that `synthesise` made: their light, rendered again from its sources."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from udc_robust.config_file import check_config
from udc_robust.data.images import list_images
from udc_robust.data.psf_files import load_psf
from udc_robust.data.samples import MANIFEST, PairedFolders
from udc_robust.data.scenes import make_pair, radiance_of, view_at
from udc_robust.data.synth import SynthSettings
from udc_robust.errors import UserError
from udc_robust.optics.two_scenes import Window


class SceneSet:
    """Pairs of a synthetic set, each with the light of its whole view and the display that it was captured through."""

    def __init__(self, pairs: PairedFolders, sources: Path, crop: int | None = None, limit: int | None = None) -> None:
        """Read the manifest of the set, and find its sources.

        Args:
            sources: the folder of panoramas or pictures that the set was made of.
            crop: centre crop in px; None: whole images.
            limit: the first so many pairs.

        Raises:
            UserError: no manifest of `synthesise`, a source or a pair that it does not have, or captures with noise.
        """
        manifest = pairs.files()[0].resolve().parent.parent / MANIFEST
        self._pairs, self._crop, self._keys = pairs, crop, pairs.keys()[:limit]
        try:
            content = json.loads(manifest.read_text(encoding="utf-8"))
            entries = {entry["name"]: entry for entry in content["pairs"]}
            self._entries = [entries[path.stem] for path in pairs.files()[: len(self._keys)]]
            self._settings = check_config(dict(content["settings"]), SynthSettings, str(manifest))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{manifest} does not tell of the scenes of these images ({type(error).__name__}: {error}): "
                "`udc-robust synth` makes sets that do; without --scenes there are caps only"
            ) from error
        if self._settings.shot or self._settings.read:
            raise UserError(f"{manifest}: captures with noise (shot, read) have no exact scene: make the set without")
        found = {path.name: path for path in list_images(sources)}
        missing = sorted({str(entry.get("source")) for entry in self._entries} - found.keys())
        if missing:
            raise UserError(f"{sources} has no {missing[0]}, which {manifest} names: give the set's own sources")
        self._sources = [found[entry["source"]] for entry in self._entries]

    def keys(self) -> Sequence[str]:
        """Names of the pairs."""
        return self._keys

    def placed(self, index: int) -> tuple[Tensor, Tensor, Window]:
        """The light ``(3,H,W)`` of the whole view, the display's PSF, and what of the view an image shows.

        Raises:
            UserError: what is rendered is not the capture on disk.
        """
        entry = self._entries[index]
        light = _radiance(self._sources[index], self._settings.kind)
        scene, psf = view_at(light, self._settings.kind, self._settings.size, _place(entry)), load_psf(entry["psf"])
        capture, _ = make_pair(scene, psf, edge=self._settings.edge)
        if (capture - self._pairs[index].lq).abs().max() > 1.5 / 255:
            source = self._sources[index]
            key = self._keys[index]
            raise UserError(f"{key} is not what {source} looks like through {entry['psf']}: make the set again")
        side = min(capture.shape[-2:]) if self._crop is None else self._crop
        top, left = ((length - side) // 2 for length in capture.shape[-2:])
        return scene, psf, Window(top, left, side)


def _place(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: entry[name] for name in ("yaw", "pitch", "field_of_view", "top", "left") if name in entry}


@lru_cache(maxsize=1)  # pairs of one source follow each other
def _radiance(path: Path, kind: str) -> Tensor:
    return radiance_of(path, kind)

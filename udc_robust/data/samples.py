"""Data sets of files on disk: one image is loaded at a time, so memory stays flat in their number."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from udc_robust.data.images import image_size, list_images, read_image
from udc_robust.errors import UserError
from udc_robust.terminal import shown

MANIFEST = "manifest.json"
Paths = Path | str | Sequence[Path | str]


@dataclass(frozen=True)
class Sample:
    """One degraded image, and its ground truth where there is one.

    Attributes:
        key: unique in its data set.
        lq: (3,H,W) in the range of the domain.
        gt: of the same size and domain, or None.
        domain: "srgb", "tonemapped" (both [0,1]) or "linear" (0..500).
        source: where it comes from, for the report.
    """

    key: str
    lq: Tensor
    gt: Tensor | None
    domain: str
    source: str


class SingleFolder(Sequence[Sample]):
    """Images without ground truth: a restorer is compared with its own clean output."""

    def __init__(self, lq: Paths, domain: str | None = None) -> None:
        """List the images.

        Args:
            lq: a folder, an image, or several of them.
            domain: colour domain of the images; None: what the files say, see `read_image`, or the ``manifest.json``
                that `synthesise` leaves beside the folder.

        Raises:
            UserError: on missing, empty or doubtful folders and files, from their headers.
        """
        self._files = keyed(_expand(lq))
        said = _domain_of_set(next(iter(self._files.values())))
        self._domain = domain or said
        self._reason = "as the config says" if domain else f"as {MANIFEST} says" if said else ""
        self._sizes = [image_size(path) for path in self._files.values()]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        key = self.keys()[index]
        pixels, domain = _read(self._files[key], self._domain)
        return Sample(key, pixels, None, domain, str(self._files[key]))

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    @property
    def domain_told(self) -> str:
        """Why the images count as of their domain, and the mend where it was guessed."""
        domain = self._domain or self[0].domain
        guess = (
            "files of integers without a tag are taken for sRGB; say `domain: tonemapped` if they are x/(x+0.25) of "
            "linear light"
            if domain == "srgb"
            else "float files are taken for linear light; say `domain` if they are not"
        )
        return f"domain {domain}: {self._reason or guess}"

    def keys(self) -> list[str]:
        """Return the file stems, with their folder in front where two folders share one."""
        return list(self._files)

    def scenes(self) -> list[str]:
        """Return the source of each image that the `MANIFEST` of its set tells of, and the image itself of others."""
        manifest = _manifest_of(next(iter(self._files.values()))) or {}
        sources = {entry.get("name"): entry.get("source") for entry in manifest.get("pairs", [])}
        return [str(sources.get(path.stem) or key) for key, path in self._files.items()]

    def sizes(self) -> list[tuple[int, int]]:
        """Return (height, width) of every image, known from the headers."""
        return list(self._sizes)

    def files(self) -> list[Path]:
        """Return the files of all images."""
        return list(self._files.values())


class PairedFolders(SingleFolder):
    """Degraded images and their ground truths, matched by file stem."""

    def __init__(self, lq: Paths, gt: Path | str, domain: str | None = None) -> None:
        """Match the pairs and check their sizes.

        Args:
            lq: degraded images: a folder, an image, or several of them.
            gt: folder of ground truths.
            domain: see `SingleFolder`.

        Raises:
            UserError: when a partner is missing or the sizes of a pair differ; it names both files.
        """
        super().__init__(lq, domain)
        truths = _by_stem(list_images(gt))
        self._truths: list[Path] = []
        for path, size in zip(self._files.values(), self._sizes, strict=True):
            if path.stem not in truths:
                raise UserError(f"{path} has no ground truth {Path(gt) / path.stem}.*; add it or remove the image")
            truth = truths[path.stem]
            if image_size(truth) != size:
                raise UserError(
                    f"{path} is {_by(size)} but {truth} is {_by(image_size(truth))}; pairs need equal sizes"
                )
            self._truths.append(truth)
        unused = truths.keys() - {path.stem for path in self._files.values()}
        if isinstance(lq, Path | str) and unused:
            first = min(unused)
            raise UserError(f"{truths[first]} has no degraded image {Path(lq) / first}.*; add it or remove the truth")

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        sample = super().__getitem__(index)
        truth = self._truths[index]
        pixels, domain = _read(truth, self._domain)
        if domain != sample.domain:
            raise UserError(f"{sample.source} is {sample.domain} but {truth} is {domain}; state the domain of the data")
        return Sample(sample.key, sample.lq, pixels, domain, sample.source)

    def files(self) -> list[Path]:
        """Return the files of all images and their truths."""
        return [*super().files(), *self._truths]


def files_by_stem(images: Sequence[Path], verb: str) -> dict[str, Path]:
    """List image files and the images of folders by the stem that their results are written under.

    Raises:
        UserError: two of them would write the same file (``verb`` says what was to be done with them).
    """
    files: dict[str, Path] = {}
    for path in (path for image in images for path in (list_images(image) if image.is_dir() else [image])):
        stem = path.name.split(".")[0]
        if stem in files:
            raise UserError(f"several images are called {stem!r}: {verb} them into different folders")
        files[stem] = path
    return files


def _expand(paths: Paths) -> list[Path]:
    listed = [paths] if isinstance(paths, Path | str) else list(paths)
    if not listed:
        raise UserError("no images given; name a folder or image files")
    return [image for path in map(Path, listed) for image in ([path] if path.is_file() else list_images(path))]


def keyed(files: list[Path]) -> dict[str, Path]:
    """Name every file by its stem, or by folder and stem where stems repeat."""
    stems = Counter(path.stem for path in files)
    keyed: dict[str, Path] = {}
    for path in files:
        key = shown(path.stem if stems[path.stem] == 1 else f"{Path(os.path.realpath(path)).parent.name}/{path.stem}")
        if key in keyed:
            raise UserError(f"{path} and {keyed[key]} both are {key!r}; rename one of them")
        keyed[key] = path
    return keyed


def _by_stem(files: list[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files:
        if path.stem in found:
            raise UserError(f"{path} and {found[path.stem]} have the same name; remove or rename one of them")
        found[path.stem] = path
    return found


def _domain_of_set(image: Path) -> str | None:
    """Colour domain stated by the manifest of a synthetic set."""
    domain = (_manifest_of(image) or {}).get("domain")
    return domain if domain in ("srgb", "tonemapped", "linear") else None


def _manifest_of(image: Path) -> dict[str, Any] | None:
    """The manifest of a synthetic set, one folder above the image; None where there is none that can be read."""
    manifest = Path(os.path.realpath(image)).parent.parent / MANIFEST
    if not manifest.is_file():
        return None
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        return None
    pairs = content.get("pairs", []) if isinstance(content, dict) else None
    whole = isinstance(pairs, list) and all(isinstance(entry, dict) for entry in pairs)
    return content if whole else None


def _read(path: Path, domain: str | None) -> tuple[Tensor, str]:
    picture = read_image(path)
    if domain in ("srgb", "tonemapped") and float(picture.pixels.max()) > 1:
        raise UserError(f"{path} holds values above 1, which {domain} images cannot; state the domain as linear")
    return picture.pixels, domain or picture.domain


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"

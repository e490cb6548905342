"""Labelled images: folders with a class each, archives of JPEG bytes, torchvision's data sets, and a built-in set."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from udc_robust.data.images import list_images, read_image
from udc_robust.errors import UserError, unknown_name
from udc_robust.limits import require_memory


@dataclass(frozen=True)
class LabelledImages(Sequence[tuple[Tensor, int]]):
    """8-bit images ``(3,H,W)`` with their labels; one is decoded at a time, so memory stays flat in their number.

    Attributes:
        name: of the set, for tables.
        classes: name of each label.
        labels: of every image.
        keys: unique in the set: file names, or numbers.
        read: decodes image ``i``.
        side: images are brought to this side in pixels (shorter side resized, middle kept); None: as they are.
    """

    name: str
    classes: tuple[str, ...]
    labels: tuple[int, ...]
    keys: tuple[str, ...]
    read: Callable[[int], Tensor]
    side: int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:  # type: ignore[override]
        image = self.read(range(len(self))[index])
        if self.side is not None and image.shape[-2:] != (self.side, self.side):
            image = _square(image, self.side)
        return image, self.labels[index]

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images ``(B,3,H,W)`` in [0,1] and labels ``(B,)``.

        Raises:
            UserError: images of different sizes, when no ``side`` is set.
        """
        if self.side is not None:
            require_memory(2 * 3 * len(indices) * self.side**2, f"a batch of {len(indices)} images of {self.side} px")
        images, labels = zip(*(self[i] for i in indices), strict=True)
        sizes = {
            tuple(image.shape[-2:]): key for image, key in zip(images, (self.keys[i] for i in indices), strict=True)
        }
        if len(sizes) > 1:
            told = " and ".join(f"{key} ({size[0]} x {size[1]})" for size, key in list(sizes.items())[:2])
            raise UserError(f"images of {self.name} differ in size, such as {told}: set the side they are brought to")
        return torch.stack(images).float() / 255, torch.tensor(labels)

    def spread(self, count: int) -> LabelledImages:
        """A subset of ``count`` images, evenly over the set: sets are often sorted by class."""
        if count >= len(self):
            return self
        chosen = [i * len(self) // count for i in range(count)]
        return replace(
            self, labels=tuple(self.labels[i] for i in chosen), keys=tuple(self.keys[i] for i in chosen),
            read=lambda i: self.read(chosen[i]),
        )  # fmt: skip


def _square(image: Tensor, side: int) -> Tensor:
    """The shorter side resized, and the middle."""
    from torchvision.transforms import v2  # imports much

    return v2.functional.center_crop(v2.functional.resize(image, [side], antialias=True), [side])


def load_images(source: str | Path, side: int | None = None) -> LabelledImages:
    """Find a labelled set by what ``source`` is.

    Args:
        source: a folder with a folder of images for each class; an ``.npz`` file of JPEG bytes (see `read_archive`);
            ``digits:train`` or ``digits:test``, scikit-learn's 8 x 8 digits; or ``torchvision:CIFAR10:test:ROOT``, any
            set of torchvision that is already under the folder ROOT.
        side: bring the images to this side in pixels.

    Raises:
        UserError: nothing there, an empty class, or a file that is no such archive.
    """
    kind, _, rest = str(source).partition(":")
    if kind == "digits":
        found = digits(rest)
    elif kind == "torchvision":
        found = torchvision_set(rest)
    elif str(source).endswith(".npz"):
        found = read_archive(Path(source))
    else:
        found = class_folders(Path(source))
    return replace(found, side=side)


def class_folders(root: Path) -> LabelledImages:
    """A folder of images for each class, in alphabetical order (the ImageFolder layout).

    Raises:
        UserError: no such folder, fewer than two classes, or a class without images.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; give a folder that holds a folder of images for each class")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(folders) < 2:
        raise UserError(f"{root} holds {len(folders)} folders of images; a classifier needs two classes or more")
    for folder in folders:
        if not any(path.is_file() for path in folder.iterdir()):
            raise UserError(f"class {folder} is empty: add images to it, or remove the folder")
    files = [(path, label) for label, folder in enumerate(folders) for path in list_images(folder)]

    def read(index: int) -> Tensor:
        picture = read_image(files[index][0])
        if picture.domain != "srgb":
            raise UserError(f"{files[index][0]} is linear light; classifiers take 8-bit sRGB images")
        return torch.round(picture.pixels * 255).to(torch.uint8)

    return LabelledImages(
        root.resolve().name, tuple(folder.name for folder in folders), tuple(label for _, label in files),
        tuple(str(path.relative_to(root)) for path, _ in files), read,
    )  # fmt: skip


_KINDS = {"u": "bytes", "iu": "whole numbers", "US": "texts"}


def read_archive(path: Path) -> LabelledImages:
    """Images in one ``.npz``: ``buf`` holds the JPEG (or PNG) files one after another, ``offs`` where each begins.

    ``label`` is a number for each image and ``name`` its path, whose folder is the name of its class.

    Raises:
        UserError: no such file, or other contents.
    """
    from PIL import Image

    if not path.is_file():
        raise UserError(f"no images at {path}: check the path")
    try:
        with np.load(path, allow_pickle=False) as archive:
            buffer, offsets, labels, names = (archive[key] for key in ("buf", "offs", "label", "name"))
    except Exception as error:  # zip and NumPy answer damaged files with almost any type
        raise UserError(f"{path} is no archive of labelled images (buf, offs, label, name): {error}") from error
    parts = (("buf", buffer, "u"), ("offs", offsets, "iu"), ("label", labels, "iu"), ("name", names, "US"))
    for key, values, kinds in parts:
        if values.ndim != 1 or values.dtype.kind not in kinds:
            raise UserError(f"{path}: {key} must be a row of {_KINDS[kinds]}, not {values.dtype} {values.shape}")
    if not len(labels) == len(names) == len(offsets) - 1 or not len(labels):
        raise UserError(f"{path} is damaged: {len(labels)} labels, {len(names)} names, {len(offsets)} offsets")
    if (np.diff(offsets.astype(np.int64)) < 0).any() or offsets[0] < 0 or offsets[-1] > len(buffer):
        raise UserError(f"{path} is damaged: its offsets must rise from 0 to the end of its {len(buffer)} bytes")
    classes = {int(label): Path(str(name)).parent.name for label, name in zip(labels, names, strict=True)}
    if sorted(classes) != list(range(len(classes))):
        raise UserError(f"{path}: labels must be 0, 1, ... without a gap, not {sorted(classes)}")

    def read(index: int) -> Tensor:
        data = buffer[offsets[index] : offsets[index + 1]].tobytes()
        try:
            pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        except Exception as error:  # decoders answer damaged files with almost any type
            raise UserError(f"{names[index]} in {path} cannot be decoded: {error}; get the archive again") from error
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)

    return LabelledImages(
        path.stem, tuple(classes[label] for label in range(len(classes))), tuple(int(label) for label in labels),
        tuple(str(name) for name in names), read,
    )  # fmt: skip


def digits(split: str) -> LabelledImages:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 pixels, as grey RGB; every fifth is kept for ``test``.

    Raises:
        UserError: a split other than train and test.
    """
    from sklearn.datasets import load_digits

    if split not in ("train", "test"):
        raise unknown_name("part of digits", split, ["train", "test"])
    pixels, labels = load_digits(return_X_y=True)
    chosen = [i for i in range(len(labels)) if (i % 5 == 4) == (split == "test")]
    images = torch.from_numpy(pixels).view(-1, 1, 8, 8).expand(-1, 3, 8, 8).mul(255 / 16).round().to(torch.uint8)
    return LabelledImages(
        "digits", tuple(str(digit) for digit in range(10)), tuple(int(labels[i]) for i in chosen),
        tuple(str(i) for i in chosen), lambda index: images[chosen[index]],
    )  # fmt: skip


def torchvision_folder(source: str | Path) -> list[str]:
    """The folder ROOT that ``torchvision:NAME:train:ROOT`` reads; nothing for other sources."""
    parts = str(source).split(":", 3)
    return parts[3:] if parts[0] == "torchvision" else []


def torchvision_set(description: str) -> LabelledImages:
    """A data set of torchvision that is on disk already: ``CIFAR10:train:ROOT``; nothing is downloaded.

    Raises:
        UserError: a description of another form, an unknown set, or one that is not under ROOT.
    """
    import torchvision
    from torchvision.transforms import v2

    name, _, rest = description.partition(":")
    split, _, root = rest.partition(":")
    if split not in ("train", "test") or not root:
        raise UserError(f"torchvision:{description}: write torchvision:NAME:train:ROOT or torchvision:NAME:test:ROOT")
    known = ("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST", "SVHN", "STL10")
    if name not in known:
        raise unknown_name("torchvision data set", name, known)
    which = {"split": split} if name in ("SVHN", "STL10") else {"train": split == "train"}
    try:
        found = getattr(torchvision.datasets, name)(root, download=False, **which)
    except RuntimeError as error:
        raise UserError(f"{name} is not under {root} ({error}): put it there, or name another folder") from error
    labels = found.labels if hasattr(found, "labels") else found.targets
    classes = getattr(found, "classes", None) or [str(label) for label in range(int(max(labels)) + 1)]
    return LabelledImages(
        name, tuple(map(str, classes)), tuple(map(int, labels)), tuple(str(i) for i in range(len(found))),
        lambda index: v2.functional.pil_to_tensor(found[index][0].convert("RGB")),
    )  # fmt: skip

"""Purifying image files of any size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from udc_robust.attacks.streams import image_seed
from udc_robust.config_file import Strict, check_config
from udc_robust.data.images import read_image, write_image
from udc_robust.data.samples import files_by_stem
from udc_robust.errors import UserError
from udc_robust.limits import Seed, usable_device
from udc_robust.lock import sole_writer
from udc_robust.optics.domains import convert
from udc_robust.outputs import check_files, note_file
from udc_robust.progress import doing, part_done, progress
from udc_robust.terminal import shown


class _Options(Strict):
    """What a purification of files takes beside the options of the pipeline."""

    seed: Seed


def purify_files(
    images: Sequence[Path],
    purifier: str | Path,
    out: Path,
    options: Mapping[str, Any],
    *,
    seed: int = 0,
    device: str = "cpu",
) -> Iterator[Path]:
    """Purify each image and yield the PNG written; linear light also comes back as ``.npy``.

    Linear light is purified as its tone-mapped picture, which is what the PNG then shows. An image's noise depends on
    the seed and its name only.

    Args:
        images: files and folders.
        purifier: a shipped purifier, or the folder of one.
        options: keyword arguments of `PurificationPipeline`, such as ``noise_level``.

    Raises:
        UserError: unreadable images, an unknown purifier, unfit options, two inputs that would write the same file, or
            another process that writes there.
    """
    from udc_robust.defences.purifier.pipeline import load_purifier

    files = files_by_stem(images, "purify")
    check_files(out, (f"{stem}{ending}" for stem in files for ending in (".png", ".npy")))
    usable_device(device)
    check_config({"seed": seed}, _Options, "options")
    pipeline = load_purifier(purifier)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    with sole_writer(out, whole=False), progress("purifying", len(files)) as tick:
        for stem, path in files.items():
            picture = read_image(path)
            domain = "tonemapped" if picture.domain == "linear" else picture.domain
            x = convert(picture.pixels, picture.domain, domain)
            generator = torch.Generator().manual_seed(image_seed(seed, shown(stem), "purify"))
            doing(path.name)
            told: dict[str, Any] = {"on_call": part_done, "output_type": "pt", "return_dict": False}
            purified = pipeline(x, generator=generator, **told, **options)[0][0].cpu()
            if not purified.isfinite().all():
                raise UserError(f"purifier {purifier} makes NaN or infinity of {path}: check its files")
            if picture.domain == "linear":
                write_image(note_file(out / f"{stem}.npy"), convert(purified, domain, "linear"))
            target = out / f"{stem}.png"
            write_image(note_file(target), purified)
            tick(path.name)
            yield target

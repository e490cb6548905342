"""Restoring image files of any size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from udc_robust.data.images import read_image, write_image
from udc_robust.data.samples import files_by_stem
from udc_robust.errors import UserError, unknown_name
from udc_robust.limits import usable_device
from udc_robust.lock import sole_writer
from udc_robust.networks.constant import check_it_looks
from udc_robust.networks.tiles import check_tiles
from udc_robust.optics.domains import DOMAINS, for_metrics
from udc_robust.outputs import check_files, note_file
from udc_robust.progress import doing, note, progress
from udc_robust.restorers.zoo import Restorer, RestorerSpec, load_restorer


def restore_files(
    images: Sequence[Path],
    spec: RestorerSpec,
    out: Path,
    domain: str | None = None,
    tile: int = 0,
    overlap: int | None = None,
    device: str = "cpu",
    bits: int = 8,
) -> Iterator[Path]:
    """Restore each image and yield the file written: PNG, and ``.npy`` beside it for linear light.

    Args:
        images: files and folders.
        domain: colour domain of the images; None: what the files say.
        tile: side of the tiles, 0 for whole images; ``overlap``: see `Restorer.in_tiles`.
        bits: of a channel of the PNGs, 8 or 16.

    Raises:
        UserError: unreadable images, unknown names, two inputs that would write the same file, or
            another process that writes there.
    """
    if domain not in (None, *DOMAINS):
        raise unknown_name("domain", str(domain), DOMAINS)
    check_tiles(tile, overlap or 0)
    usable_device(device)
    files = files_by_stem(images, "restore")
    check_files(out, (f"{stem}{ending}" for stem in files for ending in (".png", ".npy")))
    restorers: dict[str, Restorer] = {}
    with sole_writer(out, whole=False):
        for stem, path in files.items():
            picture = read_image(path)
            own_domain = domain or picture.domain
            if own_domain not in restorers:
                guessed = "" if domain else " by what the file says; say `--domain` if it is another"
                note(f"images like {path.name}: domain {own_domain}{guessed}")
                restorers[own_domain] = _loaded(spec, own_domain).in_tiles(tile, overlap).to(device)
            restored = _restored(restorers[own_domain], picture.pixels[None].to(device), path)
            if own_domain == "linear":
                write_image(note_file(out / f"{stem}.npy"), restored[0].cpu())
            target = out / f"{stem}.png"
            write_image(note_file(target), for_metrics(restored, own_domain)[0].cpu(), bits)
            yield target


@torch.no_grad()
def _restored(restorer: Restorer, x: Tensor, path: Path) -> Tensor:
    """What a restorer makes of an image (1,3,H,W), in tiles if wanted."""
    height, width = x.shape[-2:]
    if min(height, width) < restorer.min_size:
        raise UserError(f"{path} is {height}x{width}; {restorer.name} needs at least {restorer.min_size} px a side")
    if restorer.tiles and restorer.tiles.needed(x) and not restorer.exact_in_tiles:
        note(f"{restorer.name} looks further than the overlap of its tiles: it answers a little differently in them")
    with progress(f"restoring {path.name}", 1) as tick:
        doing("", passes=1)
        restored = restorer(x)
        tick()
    if not restored.isfinite().all():
        raise UserError(f"restorer {restorer.name!r} answers to {path} with NaN or infinity: check {restorer.origin}")
    return restored


def _loaded(spec: RestorerSpec, domain: str) -> Restorer:
    """The restorer for images of a domain, which looks at them."""
    restorer = load_restorer(spec, domain)
    note(f"{spec.name}: domain {restorer.network_domain} ({restorer.domain_reason})")
    check_it_looks(restorer, f"restorer {restorer.name!r}", restorer.origin, side=restorer.min_size)
    return restorer

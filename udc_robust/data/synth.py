"""Paired sets: real scenes behind a simulated or measured display, written to disk with a manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from udc_robust.data.images import list_images, write_image
from udc_robust.data.pair_settings import PairSettings
from udc_robust.data.psf_files import load_psf, psf_told
from udc_robust.data.scenes import FIELD, chosen_sources, draw_pair, radiance_of
from udc_robust.errors import UserError
from udc_robust.files import write_text
from udc_robust.limits import Count, Seed
from udc_robust.lock import sole_writer
from udc_robust.progress import note, progress


class SynthSettings(PairSettings):
    """What a set depends on besides its sources.

    Attributes:
        per_source: crops of each source.
    """

    per_source: Count = 4
    seed: Seed = 0
    licence: str = "unknown"


def synthesise(
    sources: Path, out: Path, settings: SynthSettings, *, only: Sequence[str] = (), exclude: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Write ``out/lq``, ``out/gt`` (8-bit PNG, tone-mapped) and ``out/manifest.json``; resumes a set that was begun.

    Every pair depends on (seed, source, number) only.

    Args:
        sources: folder of panoramas, HDR stills or photographs (``settings.kind``).
        only, exclude: names of sources, without endings.

    Returns:
        The manifest's entries: file, source, licence, PSF, view, degraded PSNR.

    Raises:
        UserError: unknown names, unreadable sources, or a set of other settings or sources in ``out``.
    """
    if settings.kind == "panorama" and settings.size > FIELD:
        raise UserError(f"size {settings.size} is more than the {FIELD} px of a panorama's view: use at most {FIELD}")
    paths = chosen_sources(list_images(sources), only, exclude)
    psfs = {name: load_psf(name) for name in settings.psfs}
    header = {
        "domain": "tonemapped",
        "sources": {path.name: _file_digest(path) for path in paths},
        "settings": settings.model_dump(mode="json"),
        "psf_sha256": {name: _digest(psf) for name, psf in psfs.items()},
    }
    for name, psf in psfs.items():
        for line in psf_told(name, psf, settings.size):
            note(line)
    with sole_writer(out):
        return _synthesise(sources, out, settings, paths, psfs, header)


def _synthesise(
    sources: Path, out: Path, settings: SynthSettings, paths: Sequence[Path], psfs: dict[str, Tensor],
    header: dict[str, Any],
) -> list[dict[str, Any]]:  # fmt: skip
    """Make what a former call has not made yet."""
    manifest = out / "manifest.json"
    former = _former(manifest, header)
    if not former:
        write_text(manifest, json.dumps({**header, "pairs": []}, indent=1))  # from now on what lies here is ours
    entries: list[dict[str, Any]] = []
    with progress(f"making {out.name}", len(paths) * settings.per_source) as tick:
        for path in paths:
            stem, source = path.name.split(".")[0], None
            for number in range(settings.per_source):
                name = f"{stem}_{number:03d}"
                entry = former.get(name)
                if entry is None or not _written(out, entry):
                    source = radiance_of(path, settings.kind) if source is None else source
                    entry = {"name": name, **_pair(out, name, source, psfs, settings), "source": path.name}
                entries.append(entry | {"licence": settings.licence})
                tick(name)
            write_text(manifest, json.dumps({**header, "pairs": entries}, indent=1))
    for line in pairs_told(entries, settings):
        note(line)
    kept = [entry for entry in entries if entry["kept"]]
    if not kept:
        raise UserError(f"no view of {sources} has a degraded PSNR within {settings.difficulty}: widen --difficulty")
    return kept


def pairs_told(entries: Sequence[Mapping[str, Any]], settings: SynthSettings) -> list[str]:
    """How many pairs were kept, and which were not and why, a line each."""
    low, high = settings.difficulty
    dropped = [entry for entry in entries if not entry["kept"]]
    lines = [f"{len(entries) - len(dropped)} of {len(entries)} pairs kept"]
    if dropped:
        lines[0] += (
            f"; {len(dropped)} dropped: in {settings.tries} views none had a degraded PSNR of {low:g} to {high:g} dB "
            "(--difficulty). The last views tried:"
        )
    for entry in dropped[:5]:
        side = "too hard" if entry["degraded_psnr"] < low else "too easy"
        lines.append(f"  {entry['name']} through {entry['psf']}: {entry['degraded_psnr']:.1f} dB, {side}")
    return lines + ([f"  ... and {len(dropped) - 5} more, see manifest.json"] if len(dropped) > 5 else [])


def _file_digest(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]


def _digest(psf: Tensor) -> str:
    return hashlib.sha256(psf.numpy().tobytes()).hexdigest()[:16]


def _former(manifest: Path, header: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Entries of a set that was begun with the same settings, of the same sources."""
    pictures = [path for part in ("lq", "gt") for path in (manifest.parent / part).glob("[!.]*")]
    if not manifest.is_file():
        if pictures:
            raise UserError(
                f"{manifest.parent} holds {pictures[0].parent.name}/{pictures[0].name} and no {manifest.name}, so it "
                "is no set of ours: choose another --out"
            )
        return {}
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        if not content["pairs"] and not pictures:
            return {}
        content["settings"] = SynthSettings().model_dump(mode="json") | content["settings"]  # a set of an older version
        changed = [name for part in header if part != "domain" for name in _changed(content[part], header[part])]
        if changed or content["domain"] != header["domain"]:
            raise UserError(
                f"{manifest.parent} holds a set with other settings or sources ({', '.join(changed[:3])} changed): "
                "choose another --out, or delete it"
            )
        return {entry["name"]: entry for entry in content["pairs"]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{manifest} is damaged ({error}): delete that folder and make the set again") from error


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Names under which two mappings differ."""
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def _written(out: Path, entry: dict[str, Any]) -> bool:
    """Whether both images of a pair are on disk, as they were written."""
    paths = {part: out / part / f"{entry['name']}.png" for part in ("lq", "gt")}
    return not entry.get("kept") or all(
        path.is_file() and _file_digest(path) == entry.get("sha256", {}).get(part) for part, path in paths.items()
    )


def _pair(out: Path, name: str, source: Tensor, psfs: dict[str, Tensor], settings: SynthSettings) -> dict[str, Any]:
    """Draw a pair and write it, if it is as hard as asked."""
    stream = torch.Generator().manual_seed(int(hashlib.sha256(f"{settings.seed}/{name}".encode()).hexdigest()[:15], 16))
    drawn = draw_pair(source, psfs, settings, stream)
    if not drawn.kept:
        return {"kept": False, **drawn.view}
    written = {}
    for part, image in (("lq", drawn.lq), ("gt", drawn.gt)):
        write_image(out / part / f"{name}.png", image)
        written[part] = _file_digest(out / part / f"{name}.png")
    return {"kept": True, **drawn.view, "sha256": written}

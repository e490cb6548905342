"""Paired sets: real scenes behind a simulated or measured display, written to disk with a manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor

from udc_robust.config_file import Number, Strict
from udc_robust.data.images import list_images, read_image, write_image
from udc_robust.data.panorama import perspective_view
from udc_robust.data.psf_files import load_psf, psf_told
from udc_robust.errors import UserError, unknown_name
from udc_robust.files import write_text
from udc_robust.limits import Count, Seed, Side
from udc_robust.lock import sole_writer
from udc_robust.metrics import psnr
from udc_robust.optics.capture import MAX_RADIANCE, capture, expand_highlights, tone_map
from udc_robust.optics.domains import convert
from udc_robust.progress import note, progress

FIELD = 256
"""Pixels of the camera's view for which the simulated PSFs are made; smaller crops are cut from such views."""


class SynthSettings(Strict):
    """What a set depends on besides its sources.

    Attributes:
        per_source: crops of each source; ``size``: their side in pixels.
        psfs: simulated displays by name, or PSF files; each pair draws one.
        difficulty: range of the degraded PSNR in dB that a pair must have; the true SYNTH samples lie at 19 to 28.
        tries: how many views are drawn before a pair is given up.
        shot, read: noise of the capture (see ``optics.capture``).
        edge: what lies beyond the scene's border.
    """

    kind: Literal["panorama", "hdr", "photo"] = "panorama"
    psfs: Annotated[tuple[str, ...], Field(min_length=1)] = ("phone",)
    per_source: Count = 4
    size: Side = 256
    seed: Seed = 0
    licence: str = "unknown"
    difficulty: tuple[Number, Number] = (19.0, 28.0)
    tries: Count = 12
    shot: Annotated[Number, Field(ge=0)] = 0.0
    read: Annotated[Number, Field(ge=0)] = 0.0
    edge: Literal["replicate", "zero"] = "replicate"

    @field_validator("difficulty")
    @classmethod
    def _rises(cls, values: tuple[float, float]) -> tuple[float, float]:
        if values[0] > values[1]:
            raise ValueError(f"must rise from the first number to the second, not {values[0]:g} {values[1]:g}")
        return values


def make_pair(
    linear: Tensor,
    psf: Tensor,
    *,
    shot: float = 0.0,
    read: float = 0.0,
    generator: torch.Generator | None = None,
    edge: str = "replicate",
    round_8_bit: bool = True,
) -> tuple[Tensor, Tensor]:
    """Capture a scene (3,H,W) of radiance 0..500 through a display: the tone-mapped pair (degraded, clean) in [0,1]."""
    scene = linear.clamp(0, MAX_RADIANCE)[None]
    generators = None if generator is None else [generator]
    captured = capture(scene, psf, shot=shot, read=read, generators=generators, edge=edge)  # type: ignore[arg-type]
    lq, gt = tone_map(captured)[0], tone_map(scene)[0]
    return (torch.round(lq * 255) / 255, torch.round(gt * 255) / 255) if round_8_bit else (lq, gt)


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
    paths = _chosen(list_images(sources), only, exclude)
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
                    source = _radiance(path, settings.kind) if source is None else source
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


def _chosen(paths: Sequence[Path], only: Sequence[str], exclude: Sequence[str]) -> list[Path]:
    by_stem: dict[str, Path] = {}
    for path in paths:
        stem = path.name.split(".")[0]
        if stem in by_stem:
            raise UserError(f"{path} and {by_stem[stem].name} have the same name: rename or remove one of them")
        by_stem[stem] = path
    for name in (*only, *exclude):
        if name not in by_stem:
            raise unknown_name("source", name, by_stem)
    chosen = [path for stem, path in by_stem.items() if stem not in exclude and (not only or stem in only)]
    if not chosen:
        raise UserError(f"--only and --exclude leave none of the {len(by_stem)} sources: name fewer to exclude")
    return chosen


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


def _radiance(path: Path, kind: str) -> Tensor:
    """The linear light of a source; a photograph becomes pseudo-HDR."""
    picture = read_image(path)
    if kind == "photo":
        return expand_highlights(convert(picture.pixels, picture.domain, "linear"))
    if picture.domain != "linear":
        raise UserError(f"{path} is a photograph without HDR data: use --kind photo")
    return at_native_size(picture.pixels, path) if kind == "panorama" else picture.pixels


def at_native_size(panorama: Tensor, path: Path) -> Tensor:
    """Average a larger panorama down to the resolution at which a view of 90 degrees has ``FIELD`` pixels."""
    height, width = panorama.shape[-2:]
    if width != 2 * height or width < 1000:
        raise UserError(f"{path} is {height}x{width}: a panorama is twice as wide as high, and at least 1000 px wide")
    return F.interpolate(panorama[None], (2 * FIELD, 4 * FIELD), mode="area")[0] if width > 4 * FIELD else panorama


def _pair(out: Path, name: str, source: Tensor, psfs: dict[str, Tensor], settings: SynthSettings) -> dict[str, Any]:
    """Draw views until one is as hard as asked, and write it."""
    stream = torch.Generator().manual_seed(int(hashlib.sha256(f"{settings.seed}/{name}".encode()).hexdigest()[:15], 16))
    low, high = settings.difficulty
    view: dict[str, Any] = {}
    for _ in range(settings.tries):
        psf_name = settings.psfs[int(torch.randint(len(settings.psfs), (), generator=stream))]
        scene, view = draw_view(source, settings.kind, settings.size, stream)
        lq, gt = make_pair(
            scene, psfs[psf_name], shot=settings.shot, read=settings.read, generator=stream, edge=settings.edge
        )
        degraded = psnr(lq[None].double(), gt[None].double()).item()
        view |= {"psf": psf_name, "degraded_psnr": round(degraded, 3)}
        if low <= degraded <= high:
            written = {}
            for part, image in (("lq", lq), ("gt", gt)):
                write_image(out / part / f"{name}.png", image)
                written[part] = _file_digest(out / part / f"{name}.png")
            return {"kept": True, **view, "sha256": written}
    return {"kept": False, **view}


def draw_view(source: Tensor, kind: str, size: int, stream: torch.Generator) -> tuple[Tensor, dict[str, Any]]:
    """A random view of a panorama, or a random crop of a picture: ``(3,size,size)``, and where it is."""

    def draw(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=stream))

    place: dict[str, Any] = {}
    if kind == "panorama":
        place = {"yaw": round(draw(-180, 180), 2), "pitch": round(draw(-30, 30), 2)}
        source = perspective_view(source, place["yaw"], place["pitch"], size=FIELD)
        if size == FIELD:
            return source, place
    height, width = source.shape[-2:]
    if min(height, width) < size:
        raise UserError(f"a source is {height}x{width}, smaller than --size {size}")
    top, left = (int(draw(0, length - size + 1 - 1e-6)) for length in (height, width))
    return source[:, top : top + size, left : left + size], place | {"top": top, "left": left}

"""The page of `limits`: both scenes of every pair side by side, with their numbers, in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from udc_robust.files import file_part, write_text
from udc_robust.portable import portable
from udc_robust.report.gallery import data_uri, read_pixels
from udc_robust.report.page import template
from udc_robust.tasks.limits_words import EXPLAINED, Limits, figures, means, sentence

_PICTURES = {
    "scene_1": "Scene 1", "scene_2": "Scene 2", "capture_1": "Capture of scene 1", "capture_2": "Capture of scene 2",
    "shown": "What the attacker shows for both",
}  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """A pair on the page: its image's limits, and the pictures as (caption, data URI)."""

    limits: Limits
    pictures: Sequence[tuple[str, str]]


def write_limits_page(
    found: Sequence[Limits], out: Path, *, eps: str, restorer: str, command: str, floors: Sequence[str]
) -> None:  # fmt: skip
    """Write ``out/limits.html``, with the pictures of ``out/pairs`` in it, the lowest ceiling first."""
    pairs = [one for one in found if one.ceiling is not None]
    shown = [Shown(one, _pictures(out / "pairs" / file_part(one.image))) for one in pairs]
    page = template("limits.html.j2").render(
        sentence=sentence(found, eps, restorer), figures=figures(found), kappa=means(found)["kappa"], found=found,
        pairs=sorted(shown, key=lambda one: one.limits.ceiling or 0.0), explained=EXPLAINED, floors=floors, eps=eps,
        restorer=restorer, command=portable(command),
    )  # fmt: skip
    write_text(out / "limits.html", page)


def _pictures(folder: Path) -> list[tuple[str, str]]:
    return [(text, data_uri(read_pixels(folder / f"{name}.png"), lossless=True)) for name, text in _PICTURES.items()]

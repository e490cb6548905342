"""The pictures of a study's report: what was attacked, what the defence makes of it, and what it was taken for."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from udc_robust.data.images import read_image
from udc_robust.evaluation.classifying.run_folder import Outcome, Panel
from udc_robust.evaluation.gallery import Pixels, difference

# Larger pictures are shown smaller, so that a page stays of a sane size.
_LARGEST = 256


@dataclass(frozen=True)
class Card:
    """One image before one victim.

    Attributes:
        title: the attack shown.
        pictures: (caption, note, data URI).
        side: width in pixels of the image as measured.
    """

    victim: str
    title: str
    pictures: list[tuple[str, str, str]]
    side: int


@dataclass(frozen=True)
class Group:
    """One image before all victims."""

    image: str
    data: str
    label: str
    cards: list[Card]


def groups(panels: Sequence[Panel], budget: tuple[str, float]) -> list[Group]:
    """The images whose pictures were kept, each under the strongest attack of a budget ``(norm, eps)``."""
    found = []
    for data, image in dict.fromkeys((panel.data, row["image"]) for panel in panels for row in panel.clean_rows):
        mine = [panel for panel in panels if panel.data == data]
        cards = [card for panel in mine if (card := _card(panel, image, budget)) is not None]
        if cards:
            label = next(row["label"] for row in mine[0].clean_rows if row["image"] == image)
            found.append(Group(image, data, mine[0].classes[int(label)], cards))
    return found


def _card(panel: Panel, image: str, budget: tuple[str, float]) -> Card | None:
    given = panel.picture(image, "input.png", of_victim=False)
    kept = [o for o in panel.outcomes if panel.picture(image, f"{o.cell.key}.input.png").is_file()]
    rivals = [o for o in kept if not o.is_noise and (o.cell.attack.norm, o.cell.eps) == budget]
    if not given.is_file() or not rivals:
        return None
    worst = min(rivals, key=lambda o: o.left)
    clean = _read(given)
    attacked = _read(panel.picture(image, f"{worst.cell.key}.input.png"))
    delta, note = difference(attacked, clean)
    pictures = [
        ("Input", _answer(panel, image, None), _uri(clean)),
        *_view(panel, image, "clean", "What the defence makes of it"),
        ("Difference", note, _uri(delta)),
        ("Attacked input", _answer(panel, image, worst), _uri(attacked)),
        *_view(panel, image, worst.cell.key, "What the defence makes of that"),
    ]
    return Card(panel.label, worst.title, pictures, clean.shape[1])


def _view(panel: Panel, image: str, name: str, caption: str) -> list[tuple[str, str, str]]:
    path = panel.picture(image, f"{name}.view.png")
    return [(caption, "one draw" if panel.random else "", _uri(_read(path)))] if path.is_file() else []


def _answer(panel: Panel, image: str, outcome: Outcome | None) -> str:
    rows = panel.clean_rows if outcome is None else outcome.rows
    row = next(row for row in rows if row["image"] == image)
    answer = int(row["answer"])
    name = panel.classes[answer] if answer < len(panel.classes) else f"class {answer}"
    return f"taken for {name}{'' if row['top1'] else ' (wrong)'}"


def _read(path: Path) -> Pixels:
    return 255 * read_image(path).pixels.permute(1, 2, 0).numpy()


def _uri(pixels: Pixels) -> str:
    """A data URI of a PNG, which keeps dots as they are."""
    from PIL import Image

    image = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    image.thumbnail((_LARGEST, _LARGEST))
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()

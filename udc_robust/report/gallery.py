"""The pictures of a report: what was attacked, what came out, and where the two differ."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from udc_robust.data.images import image_size, read_image
from udc_robust.errors import UserError
from udc_robust.report.panel import Outcome, Panel
from udc_robust.report.words import number
from udc_robust.report.worst import hardest

Pixels = npt.NDArray[np.float32]  # (H,W,3) in levels 0..255
# A page of many or large pictures shows them smaller, so that it stays within some 15 MB: noisy ones take about one
# byte a pixel, and base64 a third more.
_LARGEST, _SMALLEST, _PAGE_PIXELS = 512, 192, 12_000_000
_PICTURES_PER_CELL, _PICTURES_PER_CARD = 4, 3
_GAINS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Picture:
    """A picture that a card always shows: its role, name, text below and data URI."""

    role: str
    name: str
    text: str
    uri: str


@dataclass(frozen=True)
class Card:
    """One image and one victim.

    Attributes:
        fixed: pictures that stay. ``names``: of the pictures of each cell, by role.
        cells: title, pictures and texts of each cell, by role; ``first`` is the index of the one shown at the start.
        compared: the fixed role and the cell's role that a slider lies between.
        side: width in pixels of the image as measured.
    """

    image: str
    data: str
    victim: str
    answer: str
    fixed: list[Picture]
    names: dict[str, str]
    cells: list[dict[str, Any]]
    first: int
    compared: tuple[str, str]
    side: int

    @property
    def base(self) -> Picture | None:
        """The fixed side of the slider."""
        return next((picture for picture in self.fixed if picture.role == self.compared[0]), None)


@dataclass(frozen=True)
class Shown:
    """Which images are shown, ``(data, image)``, and the longest side in pixels that they are shown with."""

    images: Sequence[tuple[str, str]]
    side: int


def choose(panels: Sequence[Panel]) -> tuple[Shown, int]:
    """Choose images so that the page stays of a sane size; the second value counts those left out."""
    images = list(dict.fromkeys((panel.data, image) for panel in panels for image in kept(panel)))
    if not images:
        return Shown([], _LARGEST), 0
    given = [panel.picture(image, "input.png", of_victim=False) for panel in panels for image in kept(panel)]
    largest = min(max(max(image_size(path)) for path in given), _LARGEST)
    smallest = min(largest, _SMALLEST)
    pictures = np.cumsum([_pictures(panels, data) for data, _ in images])
    fitting = max(int((pictures * smallest**2 <= _PAGE_PIXELS).sum()), 1)
    shown = images[:fitting]
    side = int(np.clip((_PAGE_PIXELS / pictures[fitting - 1]) ** 0.5, smallest, largest))
    return Shown(shown, side), len(images) - len(shown)


def _pictures(panels: Sequence[Panel], data: str) -> int:
    """Pictures that one image of a data block puts on the page."""
    mine = [panel for panel in panels if panel.data == data]
    more = 2 if any(panel.images.get("space") == "scene" for panel in mine) else 0  # captures, and their differences
    return sum((_PICTURES_PER_CELL + more) * len(panel.outcomes) + _PICTURES_PER_CARD + more // 2 for panel in mine)


def kept(panel: Panel) -> list[str]:
    """Images whose pictures were kept."""
    images = [row["image"] for row in panel.clean_rows]
    return [
        image for image in images
        if panel.picture(image, "input.png", of_victim=False).is_file()
        and (panel.task.shown.role != "output" or panel.picture(image, "clean.output.png").is_file())
    ]  # fmt: skip


def cards(panels: Sequence[Panel], shown: Shown) -> Iterator[Card]:
    """Cards of the shown images, the victims of an image side by side."""
    for data, image in shown.images:
        for panel in panels:
            if panel.data == data and image in kept(panel):
                yield _card(panel, image, shown.side)


def _card(panel: Panel, image: str, side: int) -> Card:
    word, outputs = panel.task.shown.name, panel.task.shown.role == "output"
    given = read_pixels(panel.picture(image, "input.png", of_victim=False))
    clean_path = panel.picture(image, "clean.output.png")
    clean = read_pixels(clean_path) if outputs else None
    row = next(row for row in panel.clean_rows if row["image"] == image)
    answer = panel.task.answer(panel, row)
    what = "scene" if panel.images.get("space") == "scene" else "input"
    fixed = [Picture("input", what.capitalize(), "" if outputs else answer, _uri(panel, given, side))]
    for role, name, path in (
        ("gt", "Ground truth", panel.picture(image, "gt.png", of_victim=False)),
        ("capture", "What the camera sees of it", panel.picture(image, "clean.capture.png")),
        ("view", "What the defence makes of it", panel.picture(image, "clean.view.png")),
    ):
        if path.is_file():
            fixed.append(Picture(role, name, "", _uri(panel, read_pixels(path), side)))
    if clean is not None:
        fixed.append(Picture("clean", f"Clean {word}", answer, _uri(panel, clean, side)))
    shown = [outcome for outcome in panel.outcomes if attacked_input_path(panel, image, outcome) is not None]
    cells = [_cell(panel, image, outcome, given, clean, side) for outcome in shown]
    names = {
        "attacked_input": f"Attacked {what}", "input_difference": f"Difference of the {what}s",
        "attacked_capture": "What the camera sees of that", "capture_difference": "Difference of the captures",
        "attacked_view": "What the defence makes of that", "attacked": f"Attacked {word}",
        "output_difference": f"Difference of the {word}s",
    }  # fmt: skip
    kept = {role: name for role, name in names.items() if cells and role in cells[0]["pictures"]}
    worst = [outcome for outcome in hardest(panel) if outcome in shown]
    compared = ("clean", "attacked") if outputs else ("input", "attacked_input")
    return Card(
        image, panel.data, panel.label, answer, fixed, kept, cells, shown.index(worst[0]) if worst else 0, compared,
        given.shape[1],
    )  # fmt: skip


def attacked_input_path(panel: Panel, image: str, outcome: Outcome) -> Path | None:
    """The attacked input of a cell (an array where it was not rounded); None where it was not kept for the gallery."""
    if panel.task.shown.role == "output" and not panel.picture(image, f"{outcome.cell.key}.output.png").is_file():
        return None
    names = [f"{outcome.cell.key}.input.png", f"{outcome.cell.key}.input.npy"]
    return next((path for name in names if (path := panel.picture(image, name)).is_file()), None)


def _cell(
    panel: Panel, image: str, outcome: Outcome, given: Pixels, clean: Pixels | None, side: int
) -> dict[str, Any]:  # fmt: skip
    path = attacked_input_path(panel, image, outcome)
    assert path is not None
    attacked_input = read_pixels(path)
    row = next(row for row in outcome.rows if row["image"] == image)
    difference_picture, note = difference(attacked_input, given)
    pictures = {"attacked_input": attacked_input, "input_difference": difference_picture}
    answer = panel.task.answer(panel, row)
    texts = {"attacked_input": "" if clean is not None else answer, "input_difference": note}
    captures = [panel.picture(image, f"{name}.capture.png") for name in ("clean", outcome.cell.key)]
    if all(path.is_file() for path in captures):
        before, after = map(read_pixels, captures)
        pictures["attacked_capture"], texts["attacked_capture"] = after, ""
        pictures["capture_difference"], texts["capture_difference"] = difference(after, before)
    view = panel.picture(image, f"{outcome.cell.key}.view.png")
    if view.is_file():
        pictures["attacked_view"], texts["attacked_view"] = read_pixels(view), "one draw" if panel.random else ""
    if clean is not None:
        attacked = read_pixels(panel.picture(image, f"{outcome.cell.key}.output.png"))
        pictures["attacked"], texts["attacked"] = attacked, answer
        pictures["output_difference"], texts["output_difference"] = difference(attacked, clean)
    uris = {role: _uri(panel, pixels, side) for role, pixels in pictures.items()}
    return {"title": outcome.title, "pictures": uris, "texts": texts, "answer": answer}


def difference(a: Pixels, b: Pixels) -> tuple[Pixels, str]:
    """``a - b`` around mid grey, amplified by the largest power of two that clips under 0.5 % of the values.

    Args:
        a, b: ``(H,W,3)`` in levels 0..255, of the files as they were stored.

    Returns:
        The picture, and its gain and size in words.
    """
    delta = a - b
    typical = max(float(np.percentile(np.abs(delta), 99.5)), 1.0)
    gain = max((gain for gain in _GAINS if gain * typical <= 127), default=1)
    mean, most = np.abs(delta).mean(), np.abs(delta).max()
    return 128 + gain * delta, f"\N{MULTIPLICATION SIGN} {gain}; mean {mean:.1f}, most {number(float(most), 0)} levels"


def read_pixels(path: Path) -> Pixels:
    """A kept picture.

    Raises:
        UserError: it is damaged.
    """
    try:
        return 255 * read_image(path).pixels.permute(1, 2, 0).numpy()
    except UserError as error:
        raise UserError(f"{error}; or delete it, and the report goes without it") from error


def _uri(panel: Panel, pixels: Pixels, side: int) -> str:
    return data_uri(pixels, side, lossless=panel.task.shown.lossless)


def data_uri(pixels: Pixels, side: int = _LARGEST, *, lossless: bool = False) -> str:
    """A data URI, no side over ``side`` pixels: PNG where dots must stay dots, else JPEG of quality 90."""
    from PIL import Image

    image = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    image.thumbnail((side, side))
    content = io.BytesIO()
    if lossless:
        image.save(content, "PNG", optimize=True)
        return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
    image.save(content, "JPEG", quality=90, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()

"""The pictures of a report: what was attacked, what came out, and where the two restorations differ."""

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
from udc_robust.evaluation.run_folder import Outcome, Panel
from udc_robust.evaluation.verdict import number, worst_by_norm

Pixels = npt.NDArray[np.float32]  # (H,W,3) in levels 0..255
# A page of many or large pictures shows them smaller, so that it stays within some 15 MB: noisy ones take about one
# byte a pixel, and base64 a third more.
_LARGEST, _SMALLEST, _PAGE_PIXELS = 512, 192, 12_000_000
_PICTURES_PER_CELL, _PICTURES_PER_CARD = 4, 3
_GAINS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Card:
    """One image and one restorer: pictures that stay, and those of each cell for the selector.

    Attributes:
        pictures: role to data URI: ``input``, ``clean`` and, where there is one, ``gt``.
        cells: title, pictures and texts of each cell; ``first`` is the index of the one shown at the start.
        side: width in pixels of the image as measured.
    """

    image: str
    data: str
    restorer: str
    pictures: dict[str, str]
    clean_text: str
    cells: list[dict[str, Any]]
    first: int
    side: int


@dataclass(frozen=True)
class Shown:
    """Which images are shown, ``(data, image)``, and the longest side in pixels that they are shown with."""

    images: Sequence[tuple[str, str]]
    side: int


def choose(panels: Sequence[Panel]) -> tuple[Shown, int]:
    """Choose images so that the page stays of a sane size; the second value counts those left out."""
    images = list(dict.fromkeys((panel.data, image) for panel in panels for image in _kept(panel)))
    if not images:
        return Shown([], _LARGEST), 0
    sides = [max(image_size(panel.picture(image, "clean.output.png"))) for panel in panels for image in _kept(panel)]
    largest = min(max(sides), _LARGEST)
    smallest = min(largest, _SMALLEST)
    pictures = np.cumsum([_pictures(panels, data) for data, _ in images])
    fitting = max(int((pictures * smallest**2 <= _PAGE_PIXELS).sum()), 1)
    shown = images[:fitting]
    side = int(np.clip((_PAGE_PIXELS / pictures[fitting - 1]) ** 0.5, smallest, largest))
    return Shown(shown, side), len(images) - len(shown)


def _pictures(panels: Sequence[Panel], data: str) -> int:
    """Pictures that one image of a data block puts on the page."""
    return sum(_PICTURES_PER_CELL * len(panel.outcomes) + _PICTURES_PER_CARD for panel in panels if panel.data == data)


def _kept(panel: Panel) -> list[str]:
    """Images whose pictures were kept."""
    images = [row["image"] for row in panel.clean_rows]
    return [image for image in images if panel.picture(image, "clean.output.png").is_file()]


def cards(panels: Sequence[Panel], shown: Shown) -> Iterator[Card]:
    """Cards of the shown images, the restorers of an image side by side."""
    for data, image in shown.images:
        for panel in panels:
            if panel.data == data and image in _kept(panel):
                yield _card(panel, image, shown.side)


def _card(panel: Panel, image: str, side: int) -> Card:
    clean = _read(panel.picture(image, "clean.output.png"))
    given = _read(panel.picture(image, "input.png", of_restorer=False))
    pictures = {"input": _uri(given, side), "clean": _uri(clean, side)}
    truth = panel.picture(image, "gt.png", of_restorer=False)
    if truth.is_file():
        pictures["gt"] = _uri(_read(truth), side)
    row = next(row for row in panel.clean_rows if row["image"] == image)
    shown = [outcome for outcome in panel.outcomes if _paths(panel, image, outcome)]
    worst = [found.outcome for found in worst_by_norm(panel) if found.outcome in shown]
    return Card(
        image=image,
        data=panel.data,
        restorer=panel.label,
        pictures=pictures,
        clean_text=f"{number(row['psnr'])} dB" if panel.has_truth else "the reference",
        cells=[_cell(panel, image, outcome, given, clean, side) for outcome in shown],
        first=shown.index(worst[0]) if worst else 0,
        side=given.shape[1],
    )


def _paths(panel: Panel, image: str, outcome: Outcome) -> tuple[Path, Path] | None:
    """Attacked input (an array where it was not rounded) and restoration of a cell; None where they were not kept."""
    names = [f"{outcome.cell.key}.{ending}" for ending in ("input.png", "input.npy", "output.png")]
    png, array, output = (panel.picture(image, name) for name in names)
    given = png if png.is_file() else array
    return (given, output) if given.is_file() and output.is_file() else None


def _cell(panel: Panel, image: str, outcome: Outcome, given: Pixels, clean: Pixels, side: int) -> dict[str, Any]:
    paths = _paths(panel, image, outcome)
    assert paths is not None
    attacked_input, attacked = map(_read, paths)
    input_difference, input_note = difference(attacked_input, given)
    output_difference, output_note = difference(attacked, clean)
    row = next(row for row in outcome.rows if row["image"] == image)
    drop = f", drop {number(row['psnr_clean'] - row['psnr'])} dB" if panel.has_truth else " to the clean one"
    return {
        "title": outcome.title,
        "pictures": {
            "attacked_input": _uri(attacked_input, side),
            "attacked": _uri(attacked, side),
            "input_difference": _uri(input_difference, side),
            "output_difference": _uri(output_difference, side),
        },
        "texts": {
            "attacked_input": f"{number(row['psnr_of_attacked_input'], 1)} dB to the input",
            "attacked": f"{number(row['psnr'])} dB{drop}",
            "input_difference": input_note,
            "output_difference": output_note,
        },
    }


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
    return 128 + gain * delta, f"\N{MULTIPLICATION SIGN} {gain}; mean {mean:.1f}, most {most:.0f} levels"


def _read(path: Path) -> Pixels:
    return 255 * read_image(path).pixels.permute(1, 2, 0).numpy()


def _uri(pixels: Pixels, side: int) -> str:
    """A data URI of a JPEG of quality 90 without chroma subsampling, no side over ``side`` pixels."""
    from PIL import Image

    image = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    image.thumbnail((side, side))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=90, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()

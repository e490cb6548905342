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

from udc_robust.errors import UserError
from udc_robust.evaluation.run_folder import Outcome, Panel
from udc_robust.evaluation.verdict import number, worst_by_norm

Pixels = npt.NDArray[np.uint8]
# A page of many or large pictures shows them smaller, so that it stays within some 15 MB.
_LARGEST, _SMALLEST, _PAGE_PIXELS = 512, 192, 20_000_000
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


def cards(panels: Sequence[Panel]) -> Iterator[Card]:
    """Cards of all images whose pictures were kept, the restorers of an image side by side."""
    kept = [
        (panel, row["image"])
        for panel in panels
        for row in panel.clean_rows
        if panel.picture(row["image"], "clean.output.png").is_file()
    ]
    pictures = sum(_PICTURES_PER_CELL * len(panel.outcomes) + _PICTURES_PER_CARD for panel, _ in kept)
    side = int(np.clip((_PAGE_PIXELS / max(pictures, 1)) ** 0.5, _SMALLEST, _LARGEST))
    order = list(dict.fromkeys((panel.data, image) for panel, image in kept))
    for panel, image in sorted(kept, key=lambda pair: order.index((pair[0].data, pair[1]))):
        yield _card(panel, image, side)


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
    """Attacked input and attacked restoration of a cell; None where they were not kept."""
    kinds = [panel.picture(image, f"{outcome.cell.key}.{kind}.png") for kind in ("input", "output")]
    return (kinds[0], kinds[1]) if all(path.is_file() for path in kinds) else None


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
        a, b: ``(H,W,3)`` levels 0..255 as read from the PNG files.

    Returns:
        The picture, and its gain and size in words.
    """
    delta = a.astype(np.int16) - b.astype(np.int16)
    typical = max(float(np.percentile(np.abs(delta), 99.5)), 1.0)
    gain = max((gain for gain in _GAINS if gain * typical <= 127), default=1)
    picture = np.clip(128 + gain * delta.astype(np.float32), 0, 255).astype(np.uint8)
    mean, most = np.abs(delta).mean(), np.abs(delta).max()
    return picture, f"× {gain}; mean {mean:.1f}, most {most} levels"


def _read(path: Path) -> Pixels:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path} is not a readable picture: delete its run folder and evaluate again") from error


def _uri(pixels: Pixels, side: int) -> str:
    """A data URI of a JPEG of quality 90 without chroma subsampling, no side over ``side`` pixels."""
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=90, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()

"""On a GPU the verbs give what they give on the processor."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from clean_folder import run, run_small

from udc_robust.data.images import read_image

pytestmark = pytest.mark.gpu


def test_a_grid_has_the_same_figures() -> None:
    psnr = {}
    for device in ("cpu", "cuda"):
        run_small(["evaluate", "mine.yaml", f"device={device}", "--out", device])
        with open(f"{device}/summary.csv", newline="") as handle:
            psnr[device] = {row["attack"]: float(row["psnr"]) for row in csv.DictReader(handle)}
    # Convolutions on a GPU may round to TF32, and an attack follows signs of gradients.
    assert psnr["cuda"] == pytest.approx(psnr["cpu"], abs=0.3) and len(psnr["cpu"]) > 1


@pytest.mark.parametrize("verb", ["restore", "purify"])
def test_a_picture_is_the_same(verb) -> None:
    run_small([verb, "photo.png", "--out", "cpu"])
    run(verb, "photo.png", "--device", "cuda", "--out", "cuda")
    one, other = (read_image(next(Path(device).rglob("photo*.png"))).pixels for device in ("cpu", "cuda"))
    assert (one - other).abs().mean() < 1 / 255

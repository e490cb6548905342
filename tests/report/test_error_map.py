"""Maps of where the error grew, and histograms of drops: the right square, the right scale, the right counts."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from fake_run import photo, write_fake_run
from PIL import Image

from udc_robust.report.error_map import error_maps, told
from udc_robust.report.histogram import drop_plots, drops
from udc_robust.report.run_folder import read_run
from udc_robust.report.worst import hardest
from udc_robust.tasks import TASKS, write_report

SIDE, SPOT = 96, (slice(40, 72), slice(8, 40))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("map") / "run"
    photos = {f"{i}.png": photo(i, SIDE) // 2 + 40 for i in range(5)}
    write_fake_run(folder, photos, restorers=["nafnet_mini"], attacks=["noise", "pgd"], gallery=5)
    return folder


def _pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def test_the_map_shows_the_square_in_which_the_error_grew(folder) -> None:
    (panel,) = read_run(folder, TASKS).panels()
    damage = next(error_maps([panel])).damage
    path = panel.picture(damage.image, f"{damage.outcome.cell.key}.output.png")
    clean = np.asarray(Image.open(panel.picture(damage.image, "clean.output.png"))).astype(int)
    attacked = clean.copy()
    attacked[SPOT] += 10
    attacked[50, 20] += 30
    Image.fromarray(attacked.astype(np.uint8)).save(path)
    truth = panel.picture(damage.image, "gt.png", of_victim=False)
    Image.fromarray((clean - 5).astype(np.uint8)).save(truth)
    (made,) = error_maps([panel])
    assert made.place == f"32 x 32 px, 8 from the left and 40 from the top of {SIDE} x {SIDE}"
    assert made.grown == pytest.approx(10 + 30 / 1024) and made.whole == pytest.approx((10 * 1024 + 30) / SIDE**2)
    assert made.top == pytest.approx(10) and "grew by 10.0 levels on average, in the whole picture by 1.1" in told(made)
    pictures = dict(made.pictures)
    assert (_pixels(pictures["Clean restoration"]) == clean[SPOT]).all()
    assert (_pixels(pictures["Growth"])[0, 0] == _pixels(made.bar)[0, -1]).all()  # the top of the scale


def test_a_histogram_counts_every_image_once(folder) -> None:
    panels = list(read_run(folder, TASKS).panels())
    (outcome,) = hardest(panels[0])
    expected = [row["psnr_clean"] - row["psnr"] for row in outcome.rows]
    assert drops(panels[0], outcome) == pytest.approx(expected) and len(expected) == 5
    (plot,) = drop_plots(panels, "drops")
    assert f"nafnet_mini: {min(expected):.1f} to {max(expected):.1f} dB, half of 5 images over" in plot.alt
    page = write_report([folder]).read_text(encoding="utf-8")
    assert plot.alt in page and "Where the error grew" in page and "levels of 255" in page


def test_without_pictures_or_truths_there_is_neither(tmp_path) -> None:
    write_fake_run(tmp_path / "run", {f"{i}.png": photo(i) for i in range(5)}, truth=False, gallery=0)
    panels = list(read_run(tmp_path / "run", TASKS).panels())
    assert list(error_maps(panels)) == [] and drop_plots(panels, "drops") == []
    assert "Where the error grew" not in write_report([tmp_path / "run"]).read_text(encoding="utf-8")

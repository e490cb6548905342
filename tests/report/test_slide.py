"""The slide: the right photograph, the bars of the tables, words that neither overlap nor leave it."""

from __future__ import annotations

import csv
import math
from itertools import combinations
from statistics import fmean

import numpy as np
import pytest
from fake_run import HOSTILE, photo, write_fake_run
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from udc_robust.cli import main
from udc_robust.errors import UserError
from udc_robust.report import slide as slide_module
from udc_robust.report.damage import worst_damage, worst_square
from udc_robust.report.run_folder import read_run
from udc_robust.report.slide import compose
from udc_robust.report.worst import held, worst_by_image
from udc_robust.tasks import TASKS, write_slide

LONG = "a_name_of_a_network_that_its_maker_was_very_proud_of_and_wrote_out_$x$"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slide") / "run"
    photos = {"wide.png": np.repeat(photo(0), 2, axis=1), HOSTILE: photo(1), "street.png": photo(2)}
    write_fake_run(folder, photos, restorers=["nafnet_mini", LONG], defences=["none", "blur"], gallery=3)
    return folder


def _texts(slide):
    return [text.get_text() for text in [*slide.texts, *(text for axes in slide.axes for text in axes.texts)]]


def test_the_photograph_that_lost_most_is_shown(folder) -> None:
    worst = worst_damage(list(read_run(folder, TASKS).panels()))
    with open(folder / "results.csv", newline="") as handle:
        rows = [r for r in csv.DictReader(handle) if r["access"] != "none" and r["eps"] != "inf"]
    drops = [float(r["psnr_clean"]) - float(r["psnr"]) for r in rows]
    assert worst.lost == pytest.approx(max(drops))
    row = rows[drops.index(max(drops))]
    assert (worst.image, worst.panel.network) == (row["image"], row["restorer"])
    before, after = worst.pictures()
    stored = worst.panel.picture(worst.image, f"{worst.outcome.cell.key}.output.png")
    assert (after == np.asarray(Image.open(stored))).all() and (before != after).any()
    assert worst.grown().mean() == pytest.approx(np.abs(after - before).mean())  # here the clean answer is the truth


def test_bars_are_what_is_held_and_what_noise_leaves(folder) -> None:
    panels = list(read_run(folder, TASKS).panels())
    slide, worst = compose(panels, "A sentence.", "title"), worst_damage(panels)
    drawn = sorted(round(bar.get_x() + bar.get_width(), 3) for bar in slide.axes[-1].patches)
    expected = []
    for panel in panels:
        met = [o for o in panel.outcomes if o.counts and o.budget == worst.outcome.budget]
        expected += [held(worst_by_image(panel, worst.outcome.budget)), min(met, key=lambda o: o.left).noise_left]
    assert len(panels) == 4 and drawn == sorted(round(value, 3) for value in expected)
    untreated = fmean(row["psnr_input"] for row in worst.panel.clean_rows)
    assert sum(line.get_xdata()[0] == pytest.approx(untreated) for line in slide.axes[-1].lines) == len(panels)
    legend = [text.get_text() for text in slide.legends[0].texts]
    assert f"do nothing: {untreated:.2f} dB" in legend


@pytest.mark.parametrize("sentences", [1, 2, 9])
def test_words_neither_overlap_nor_leave_the_slide(folder, sentences) -> None:
    with rc_context({"text.parse_math": False}):
        sentence = f"At 4/255 {LONG} loses 5.6 dB on photographs, and noise of the same size takes 3.5 dB"
        sentence = "; ".join([sentence] * 2) + ". And more." * sentences
        slide = compose(list(read_run(folder, TASKS).panels()), sentence, HOSTILE)
        renderer = FigureCanvasAgg(slide).get_renderer()
        slide.draw(renderer)
        legend = slide.legends[0].texts
        texts = [*slide.texts, *(text for axes in slide.axes for text in axes.texts), *legend]
        boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts if text.get_text()]
    for name, box in boxes:
        assert box.x0 >= 0 and box.x1 <= 1920 and box.y0 >= 0 and box.y1 <= 1080, name
    for (one, a), (other, b) in combinations(boxes, 2):
        assert not a.overlaps(b), (one, other)


def test_both_formats_are_written_and_are_the_same_again(folder, tmp_path) -> None:
    for name in ("slide.png", "slide.svg"):
        first = write_slide([folder], tmp_path / name).read_bytes()
        assert b"udc_robust" in first[:4096] and write_slide([folder], tmp_path / name).read_bytes() == first
    assert Image.open(tmp_path / "slide.png").size == (1920, 1080)
    assert b"<script" not in (tmp_path / "slide.svg").read_bytes()


def test_without_truth_there_is_no_line_for_doing_nothing(tmp_path) -> None:
    write_fake_run(tmp_path / "run", truth=False, attacks=["noise", "pgd"])
    panels = list(read_run(tmp_path / "run", TASKS).panels())
    slide = compose(panels, "A sentence.", "title")
    assert math.isinf(worst_damage(panels).clean)
    assert not any("do nothing" in text.get_text() for text in slide.legends[0].texts)
    assert "the reference" in _texts(slide)


def test_a_run_without_pictures_says_what_to_set(tmp_path) -> None:
    write_fake_run(tmp_path / "run", gallery=0)
    with pytest.raises(UserError, match="kept no pictures for a slide: set `gallery: 4` in its config"):
        write_slide([tmp_path / "run"], tmp_path / "slide.png")
    assert not (tmp_path / "slide.png").exists()


@given(st.integers(2, 9), st.integers(2, 9), st.data())
def test_the_worst_square_has_the_largest_mean(height, width, data) -> None:
    values = data.draw(st.lists(st.integers(-9, 9), min_size=height * width, max_size=height * width))
    grown = np.array(values, np.float32).reshape(height, width)
    side = data.draw(st.integers(1, min(height, width)))
    sums = {
        (y, x): grown[y : y + side, x : x + side].sum()
        for y in range(height - side + 1)
        for x in range(width - side + 1)
    }
    assert sums[worst_square(grown, side)] == max(sums.values())


def test_the_verb_says_what_to_type_next_and_replaces_slides_only(folder, tmp_path, monkeypatch, capsys) -> None:
    def report(*more, code=0):
        monkeypatch.setattr("sys.argv", ["udc-robust", "report", str(folder), "--out", "page.html", *more])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == code
        return capsys.readouterr()

    monkeypatch.chdir(tmp_path)
    assert report().err == f"next: udc-robust report {folder} --out page.html --slide study.png\n"
    assert "slide: study.png" in report("--slide", "study.png").out
    assert report("--slide", "study.png").err.startswith("next: udc-robust finetune ")
    (tmp_path / "mine.png").write_bytes(b"mine")
    assert "is no slide of ours" in report("--slide", "mine.png", code=2).err
    assert "must end in .png or .svg" in report("--slide", "page.html", code=2).err
    assert (tmp_path / "mine.png").read_bytes() == b"mine"


def test_the_baseline_comes_first_then_who_holds_most_and_controls_last(tmp_path) -> None:
    write_fake_run(tmp_path / "run", defences=["none", {"kind": "blur", "sigma": 1, "role": "control"}])
    panels = list(read_run(tmp_path / "run", TASKS).panels())
    bars = slide_module._bars(list(reversed(panels)), worst_damage(panels))
    control = {panel.label: panel.is_control for panel in panels}
    baselines = [panel.label for panel in panels if panel.is_baseline]
    assert bars[0].label in baselines and [control[bar.label] for bar in bars] == [False, False, True, True]
    assert bars[2].attacked >= bars[3].attacked

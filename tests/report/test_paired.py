"""Before and after: the same images under two runs, paired by image, ranked by quality under attack."""

from __future__ import annotations

import csv
import html
import re
from statistics import fmean

import pytest
from fake_run import photo, write_fake_run

from udc_robust.report.paired import pairings
from udc_robust.report.run_folder import read_run
from udc_robust.tasks import TASKS, write_report


@pytest.fixture
def two(tmp_path, monkeypatch):
    import fake_run

    write_fake_run(tmp_path / "before", name="before", restorers=["nafnet_mini"])
    monkeypatch.setitem(fake_run.STRENGTH, "pgd", 0.9)
    monkeypatch.setitem(fake_run.STRENGTH, "fgsm", 0.9)
    monkeypatch.setitem(fake_run.COST, "none", 0.5)
    write_fake_run(tmp_path / "after", name="after", restorers=["hardened"])
    return [tmp_path / "before", tmp_path / "after"]


def _left(folder):
    left = {}
    with open(folder / "results.csv", newline="") as handle:
        for row in csv.DictReader(handle):
            change = 0.0 if row["attack"] == "clean" else float(row["linf"])
            if row["access"] != "none" and change <= 4.001 / 255:
                left[row["image"]] = min(float(row["psnr"]), left.get(row["image"], 99.0))
    return left


def test_differences_are_paired_and_the_best_under_attack_comes_first(two) -> None:
    panels = [panel for folder in two for panel in read_run(folder, TASKS).panels(f"{folder.name}: ")]
    (found,) = pairings(panels)
    before, after = _left(two[0]), _left(two[1])
    assert str(found.budget).endswith("4/255") and [p.panel.network for p in found.pairs] == ["hardened", "nafnet_mini"]
    best = found.pairs[0]
    assert best.held.value == pytest.approx(fmean(after.values()))
    gaps = [after[image] - before[image] for image in after]
    assert best.held.difference == pytest.approx(fmean(gaps)) and min(gaps) <= best.held.interval[0] <= fmean(gaps)
    assert best.clean.difference == pytest.approx(-0.5) and found.pairs[1].held.difference is None
    assert found.verdict.endswith("more than before: nafnet_mini, for 0.50 dB of clean PSNR.")


def test_it_is_the_first_thing_that_a_report_of_two_runs_shows(two, tmp_path) -> None:
    page = html.unescape(write_report(two, tmp_path / "both.html").read_text(encoding="utf-8"))
    assert (
        page.index('id="paired"') < page.index('id="defences"') and "hardened holds most" in page[: page.index("<nav")]
    )
    with open(tmp_path / "both.paired.csv", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["metric"] == "psnr"]
    assert [row["victim"] for row in rows] == ["after: hardened", "before: nafnet_mini"]
    assert "Before and after" not in write_report(two[:1]).read_text(encoding="utf-8")


def test_where_nothing_was_gained_the_verdict_says_what_the_later_run_holds(two) -> None:
    (folder, other) = two
    panels = [panel for one in (other, folder) for panel in read_run(one, TASKS).panels(f"{one.name}: ")]
    verdict = pairings(panels)[0].verdict
    assert "after: hardened holds most" in verdict and re.search(
        r"; before: nafnet_mini holds \d+\.\d+ dB less", verdict
    )


def test_a_network_that_is_called_as_its_run_is_told_once(tmp_path) -> None:
    write_fake_run(tmp_path / "mine", name="mine", restorers=["mine"], defences=["none", "blur"])
    labels = [panel.label for panel in read_run(tmp_path / "mine", TASKS).panels("mine: ")]
    assert labels == ["mine", "blur + mine"]


def _pairings(folders):
    return pairings([panel for folder in folders for panel in read_run(folder, TASKS).panels(f"{folder.name}: ")])


def _noise(folder):
    with open(folder / "results.csv", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["attack"] == "noise"]
    return fmean(float(row["psnr"]) for row in rows if abs(float(row["eps"]) - 4 / 255) < 1e-6)


def test_noise_is_that_of_the_budget(two) -> None:
    (found,) = _pairings(two)
    before, after = map(_noise, two)
    for pair, left in zip(found.pairs, (after, before), strict=True):
        assert pair.noise.value == pytest.approx(left)
    assert found.pairs[0].noise.difference == pytest.approx(after - before)


def test_two_runs_of_one_network_differ_by_what_they_hold(two, tmp_path, monkeypatch) -> None:
    import fake_run

    monkeypatch.setitem(fake_run.COST, "none", 0.0)
    write_fake_run(tmp_path / "weaker", name="weaker", restorers=["nafnet_mini"])
    (found,) = _pairings([two[0], tmp_path / "weaker"])
    gain = found.pairs[0].held.difference
    assert gain > 1 and found.verdict.endswith(
        f", {gain:.2f} dB more than before: nafnet_mini, with the same clean PSNR."
    )


def test_runs_on_other_images_are_no_pair(two, tmp_path) -> None:
    write_fake_run(tmp_path / "other", {"other.png": photo(5)}, restorers=["nafnet_mini"])
    assert _pairings([two[0], tmp_path / "other"]) == []

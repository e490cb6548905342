"""The report of a study: figures of the tables, areas, flags, and a page that needs nothing else."""

from __future__ import annotations

import html
import re
import sys
from dataclasses import replace

import pytest
from small_study import block, make_workplace, rows_of, run

from udc_robust.cli import main
from udc_robust.errors import UserError
from udc_robust.metrics.accuracy_curve import area_under
from udc_robust.report.areas import areas
from udc_robust.report.comparison import comparisons
from udc_robust.report.flags import red_flags
from udc_robust.report.matrix import matrix
from udc_robust.report.run_folder import read_run
from udc_robust.tasks import TASKS, write_report


@pytest.fixture(scope="module")
def panels(finished):
    return {panel.defence: panel for panel in read_run(finished, TASKS).panels()}


def test_robust_accuracy_is_of_the_worst_attack_on_each_image(finished, panels) -> None:
    results = rows_of(finished / "results.csv")
    (compared,) = comparisons(list(panels.values()))
    averaged = {(a.panel.defence, a.budgets[0].norm): a for a in areas(list(panels.values()))}
    found = {standing.panel.defence: standing for standing in compared.standings}
    assert [str(b) for b in compared.budgets] == ["L∞\N{NO-BREAK SPACE}8/255", "L∞\N{NO-BREAK SPACE}32/255"]
    for defence in ("none", "halftone", "noisy"):
        mine = [r for r in results if r["defence"] == defence and r["access"] != "none"]
        for budget, held in zip(compared.budgets, found[defence].held, strict=True):
            images = {r["image"] for r in mine}
            fits = [r for r in mine if r["attack"] == "clean" or float(r["linf"]) <= budget.eps + 2e-6]
            safe = [image for image in images if all(float(r["top1"]) for r in fits if r["image"] == image)]
            assert held.quality == pytest.approx(100 * len(safe) / 12)
            blind = [r for r in fits if r["access"] in ("blind", "")]
            safe = [image for image in images if all(float(r["top1"]) for r in blind if r["image"] == image)]
            assert held.blind is None if defence == "none" else held.blind == pytest.approx(100 * len(safe) / 12)
            assert held.interval[0] <= held.quality <= held.interval[1]
            assert held.blind is None or held.quality <= held.blind
        curve = [found[defence].clean, *(held.quality for held in found[defence].held)]
        expected = area_under([0.0, *(budget.eps for budget in compared.budgets)], curve)
        assert averaged[defence, "linf"].quality == pytest.approx(expected)
    assert found["none"].held[0].gain is None
    gap = found["halftone"].held[1].quality - found["none"].held[1].quality
    assert found["halftone"].held[1].gain == pytest.approx(gap)


def test_flags_are_raised_by_what_breaks_their_rule(panels) -> None:
    def with_left(panel, shares):
        outcomes = [replace(o, summary={**o.summary, "top1": shares(o)}) for o in panel.outcomes]
        return {flag.name: flag for flag in red_flags(replace(panel, outcomes=outcomes))}

    panel = panels["halftone"]
    strong = {"none": 0.9, "query": 0.5, "blind": 0.8}
    flags = with_left(panel, lambda o: strong.get(o.cell.access, 0.3) - 0.4 * o.cell.eps)
    names = ("queries beat the gradient", "transfer beats white box", "noise beats white box", "not monotone in eps")
    assert {flags[name].state for name in names} == {"clear"}
    weak = {"none": 0.2, "query": 0.1, "blind": 0.25}
    flags = with_left(panel, lambda o: weak.get(o.cell.access, 0.3) + 0.4 * o.cell.eps)
    assert {flags[name].state for name in names} == {"raised"}
    assert flags["queries beat the gradient"].value.startswith("square 15.0 %, ")
    assert flags["known seed weaker than EOT"].state == "not measured"
    assert flags["queries beat the gradient"].rule == "a query attack 2 points below the best gradient attack"


def test_the_page_tells_the_figures_and_asks_nothing(finished) -> None:
    text = (finished / "report.html").read_text(encoding="utf-8")
    plain = html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)))
    for row in rows_of(finished / "report.defences.csv"):
        assert row["victim"] in plain and f"{float(row['held']):.0f}" in plain
    assert "halftone + tiny seems to hold" in plain and "udc-robust evaluate" in plain
    sources = re.findall(r'\bsrc="([^"]+)"', text)
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.findall(r'href="(?!#|data:)[a-z]+:|href="//', text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) and "{{" not in text
    # two images before three victims: the slider's two, input, attacked, difference, and two views of defended ones
    assert len(sources) == 2 * (5 + 7 + 7)
    rows = rows_of(finished / "report.flags.csv")
    assert {row["victim"] for row in rows} == {"tiny", "halftone + tiny", "noisy + tiny"} and len(rows) == 36


def test_classifiers_that_meet_the_same_defences_make_a_matrix(place, finished) -> None:
    assert "Trained on what" not in (finished / "report.html").read_text()  # one classifier is no matrix
    twice = [block(place), block(place, name="untrained", weights=None)]
    out = run(place, "out", classifiers=twice, attacks=["fgsm"], gallery=0)
    page = write_report([out])
    rows = {
        (row["network"], row["figure"]): row
        for row in rows_of(page.with_suffix(".matrix.csv"))
        if row["metric"] == "top1"
    }
    held = {
        (row["victim"], row["budget"]): row
        for row in rows_of(page.with_suffix(".defences.csv"))
        if row["metric"] == "top1"
    }
    assert len(rows) == 2 * (1 + 2 * 2)
    for classifier in ("tiny", "untrained"):
        for defence, victim in (("none", classifier), ("halftone", f"halftone + {classifier}")):
            row = held[victim, "L∞\N{NO-BREAK SPACE}8/255"]
            assert rows[classifier, "clean Top-1"][defence] == row["clean"]
            assert rows[classifier, "all attacks L∞\N{NO-BREAK SPACE}8/255"][defence] == row["held"]
    told = matrix(comparisons(list(read_run(out, TASKS).panels()))).verdict()
    assert told in html.unescape(page.read_text())
    both = ("tiny", "untrained")
    best = max(both, key=lambda name: float(rows[name, "clean Top-1"]["halftone"]))
    share = float(rows[best, "clean Top-1"]["halftone"])
    assert f"{best} behind halftone ({share:.0f} %)" in told and "on images as they are (" in told
    name = "all attacks L∞\N{NO-BREAK SPACE}32/255"
    kept = {one: [float(rows[one, name][d]) for d in ("none", "halftone", "noisy")] for one in both}
    steady = max(both, key=lambda one: sum(kept[one]))
    mean, least = sum(kept[steady]) / 3, min(kept[steady])
    assert f"over all columns {steady} ({mean:.0f} % on average, {least:.0f} % at worst)" in told


def test_a_grid_with_holes_is_no_matrix(place) -> None:
    twice = [block(place), block(place, name="other")]
    some = ["none", {"kind": "halftone"}, {"kind": "median", "classifiers": ["other"]}]
    out = run(place, "out", classifiers=twice, defences=some, attacks=["fgsm"], gallery=0)
    write_report([out])
    assert not (out / "report.matrix.csv").exists()


def test_two_studies_stand_side_by_side(tmp_path) -> None:
    folder = make_workplace(tmp_path)
    runs = [run(folder, name, name=name, attacks=["fgsm"], gallery=0, seed=seed) for seed, name in enumerate("ab")]
    page = write_report(runs, tmp_path / "both.html").read_text()
    assert "a: halftone + tiny" in page and "b: halftone + tiny" in page


def test_a_damaged_folder_is_told(place) -> None:
    out = run(place, "out", attacks=["fgsm"])
    lines = (out / "summary.csv").read_text().splitlines()
    (out / "summary.csv").write_text("\n".join(line for line in lines if "halftone,fgsm" not in line) + "\n")
    with pytest.raises(UserError, match=r"summary\.csv has no row for twelve/tiny/halftone/fgsm"):
        write_report([out])
    (out / "run.json").unlink()
    with pytest.raises(UserError, match=r"holds no finished run: run\.json is missing; run `udc-robust evaluate`"):
        write_report([out])


def test_the_report_verb_knows_a_study(finished, tmp_path, monkeypatch, capsys) -> None:
    out = tmp_path / "again.html"
    monkeypatch.setattr(sys, "argv", ["udc-robust", "report", str(finished), "--out", str(out)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0 and "halftone + tiny" in out.read_text()


def test_a_slide_shows_inputs_and_what_they_were_taken_for(panels) -> None:
    from udc_robust.report.slide import compose

    slide = compose(list(panels.values()), "A sentence.", "title")
    words = [text.get_text() for text in slide.texts]
    assert "Attacked input" in words and any(word.startswith("taken for ") and "(wrong)" in word for word in words)
    assert slide.axes[-1].get_xlim() == (0, 100) and slide.axes[-1].get_xlabel() == "Top-1, %"

"""The report of a study: figures of the tables, areas, flags, and a page that needs nothing else."""

from __future__ import annotations

import html
import math
import re
import sys
from dataclasses import replace

import pytest
import torch
from small_study import block, make_workplace, rows_of, run

from udc_robust.cli import main
from udc_robust.errors import UserError
from udc_robust.evaluation.classifying.matrix import matrix
from udc_robust.evaluation.classifying.robust import breaking, budgets, standings
from udc_robust.metrics.accuracy_curve import area_under
from udc_robust.report.flags import POINTS, red_flags
from udc_robust.report.run_folder import read_run
from udc_robust.tasks import TASKS, write_report


@pytest.fixture(scope="module")
def panels(finished):
    return {panel.defence: panel for panel in read_run(finished, TASKS).panels()}


def test_robust_accuracy_is_of_the_worst_attack_on_each_image(finished, panels) -> None:
    results = [r for r in rows_of(finished / "results.csv") if r["norm"] in ("linf", "")]
    found = {s.panel.defence: s for s in standings(list(panels.values()))}
    grid = budgets(list(panels.values()))
    assert grid == [("linf", pytest.approx(8 / 255)), ("linf", pytest.approx(32 / 255))]
    for defence in ("none", "halftone", "noisy"):
        mine = [r for r in results if r["defence"] == defence and r["access"] != "none"]
        for (_, eps), held in zip(grid, found[defence].held, strict=True):
            images = {r["image"] for r in mine}
            fits = [r for r in mine if r["attack"] == "clean" or float(r["linf"]) <= eps + 2e-6]
            safe = [image for image in images if all(float(r["top1"]) for r in fits if r["image"] == image)]
            assert held.accuracy == pytest.approx(len(safe) / 12)
            blind = [r for r in fits if r["access"] in ("blind", "")]
            safe = [image for image in images if all(float(r["top1"]) for r in blind if r["image"] == image)]
            assert held.blind is None if defence == "none" else held.blind == pytest.approx(len(safe) / 12)
            assert held.interval[0] <= held.accuracy <= held.interval[1]
            assert held.blind is None or held.accuracy <= held.blind
        curve = [found[defence].clean, *(held.accuracy for held in found[defence].held)]
        assert found[defence].auac == pytest.approx(area_under([0.0, *(eps for _, eps in grid)], curve))
    assert found["none"].held[0].gain is None
    gap = found["halftone"].held[1].accuracy - found["none"].held[1].accuracy
    assert found["halftone"].held[1].gain == pytest.approx(gap)


def test_a_minimum_norm_attack_gives_distances(panels) -> None:
    needed = breaking(panels["none"], "l2", lambda outcome: math.isinf(outcome.cell.eps))
    assert needed is not None and len(needed) == 12 and needed.isfinite().any()
    assert breaking(panels["halftone"], "l2") is None
    clean_wrong = torch.tensor([not row["top1"] for row in panels["none"].clean_rows])
    assert torch.equal(needed == 0, clean_wrong)


def test_flags_are_raised_by_what_breaks_their_rule(panels) -> None:
    def with_left(panel, shares):
        outcomes = [replace(o, summary={**o.summary, "top1": shares(o)}) for o in panel.outcomes]
        return {flag.name: flag for flag in red_flags(replace(panel, outcomes=outcomes), POINTS)}

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
    for row in rows_of(finished / "report.robust.csv"):
        assert row["victim"] in plain and f"{100 * float(row['robust']):.0f} %" in plain
    assert "halftone + tiny seems to hold" in plain and "udc-robust classify" in plain
    sources = re.findall(r'\bsrc="([^"]+)"', text)
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.findall(r'href="(?!#|data:)[a-z]+:|href="//', text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) and "{{" not in text
    # two images before three victims: input, difference, attacked, and two views of defended ones
    assert len(sources) == 2 * (3 + 5 + 5)
    rows = rows_of(finished / "report.flags.csv")
    assert {row["victim"] for row in rows} == {"tiny", "halftone + tiny", "noisy + tiny"} and len(rows) == 30


def test_classifiers_that_meet_the_same_defences_make_a_matrix(place, finished) -> None:
    assert "Trained on what" not in (finished / "report.html").read_text()  # one classifier is no matrix
    twice = [block(place), block(place, name="untrained", weights=None)]
    out = run(place, "out", classifiers=twice, attacks=["fgsm"], gallery=0)
    page = write_report([out])
    rows = {(row["classifier"], row["figure"]): row for row in rows_of(page.with_suffix(".matrix.csv"))}
    robust = {
        (row["victim"], f"{255 * float(row['eps']):.0f}/255"): row for row in rows_of(page.with_suffix(".robust.csv"))
    }
    assert len(rows) == 2 * (2 + 2 * 2)
    for classifier in ("tiny", "untrained"):
        for defence, victim in (("none", classifier), ("halftone", f"halftone + {classifier}")):
            row = robust[victim, "8/255"]
            assert rows[classifier, "clean top-1"][defence] == row["clean"]
            assert rows[classifier, "all attacks L∞ 8/255"][defence] == row["robust"]
    told = matrix("twelve", standings(list(read_run(out, TASKS).panels())), ["L∞ 8/255", "L∞ 32/255"]).verdict()
    assert told in html.unescape(page.read_text())
    both = ("tiny", "untrained")
    best = max(both, key=lambda name: float(rows[name, "clean top-1"]["halftone"]))
    share = float(rows[best, "clean top-1"]["halftone"])
    assert f"{best} behind halftone ({100 * share:.0f} %)" in told and "on images as they are (" in told
    held = {
        name: [float(rows[name, "all attacks L∞ 32/255"][d]) for d in ("none", "halftone", "noisy")] for name in both
    }
    steady = max(both, key=lambda name: sum(held[name]))
    mean, least = sum(held[steady]) / 3, min(held[steady])
    assert f"over all columns {steady} ({100 * mean:.0f} % on average, {100 * least:.0f} % at worst)" in told


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
    with pytest.raises(UserError, match=r"holds no finished run: run\.json is missing; run `udc-robust classify`"):
        write_report([out])


def test_the_report_verb_knows_a_study(finished, tmp_path, monkeypatch, capsys) -> None:
    out = tmp_path / "again.html"
    monkeypatch.setattr(sys, "argv", ["udc-robust", "report", str(finished), "--out", str(out)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0 and "halftone + tiny" in out.read_text()

"""What each victim holds and gains, in figures and words, on a run whose figures are known."""

from __future__ import annotations

import csv
import html
import json
import shutil
from dataclasses import replace
from statistics import fmean

import pytest
from fake_run import write_fake_run

from udc_robust.report.comparison import comparisons, unmade
from udc_robust.report.run_folder import read_run
from udc_robust.report.verdict import verdict
from udc_robust.report.words import percent, warnings
from udc_robust.report.worst import Worst
from udc_robust.tasks import TASKS, write_report

DEFENDED = {
    "restorers": ["nafnet_mini"],
    "defences": ["none", {"kind": "purifier", "name": "pure", "purifier": "p"}, {"kind": "blur", "role": "control"}],
    "attacks": [
        {"method": "noise"}, {"method": "fgsm"}, {"method": "square"},
        {"method": "pgd", "access": ["blind", "bpda", "adaptive"]},
        {"method": "pgd", "name": "told", "known_seed": True},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("fake") / "run"
    write_fake_run(out, **DEFENDED)
    return out


def _panels(run):
    return {panel.defence: panel for panel in read_run(run, TASKS).panels()}


def _by_hand(run, defence, eps, wanted=lambda row: True):
    """From results.csv: what is left of each image by any attack that fits eps, and which attacks leave it."""
    with open(run / "results.csv", newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if row["defence"] == defence and row["restorer"] == "nafnet_mini"]
    left = {}
    for row in rows:
        threat = row["access"] not in ("", "none") and row["known_seed"] == "0"
        if row["attack"] == "clean" or (threat and wanted(row) and float(row["linf"]) <= eps * 1.000001):
            left.setdefault(row["image"], []).append((float(row["psnr"]), row["attack"]))
    return {image: min(found) for image, found in left.items()}


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """A run in which the strongest attack is another on each image, and one of 1/255 does more than those of 4/255."""
    out = tmp_path_factory.mktemp("uneven") / "run"
    write_fake_run(out, **DEFENDED)
    with open(out / "results.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    images = list(dict.fromkeys(row["image"] for row in rows))
    for row in rows:
        levels = round(float(row["eps"]) * 255)
        if row["attack"].startswith("fgsm") and levels == 4 and row["image"] == images[0]:
            row["psnr"] = "11.5"
        if row["attack"] == "square" and levels == 1 and row["image"] == images[1]:
            row["psnr"] = "10.25"
    with open(out / "results.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return out


def test_images_of_one_scene_are_drawn_together(run, tmp_path) -> None:
    def interval_with(scenes):
        copy = tmp_path / f"{len(set(scenes.values()))}"
        shutil.copytree(run, copy)
        facts = json.loads((copy / "run.json").read_text())
        facts["data"]["photos"]["scenes"] = scenes
        (copy / "run.json").write_text(json.dumps(facts))
        (found,) = comparisons(list(_panels(copy).values()))
        assert "2 scenes are few" in warnings([], list(_panels(copy).values()))[0] or len(set(scenes.values())) == 3
        return [(s.clean_interval, s.at(0).interval, s.at(0).gain_interval) for s in found.standings]

    images = list(_by_hand(run, "none", 1))
    (before, after) = (interval_with(dict(zip(images, scenes, strict=True))) for scenes in ("abc", "aab"))
    assert all(one is not None for standing in before for one in standing[:2])
    assert all(one is None for standing in after for one in standing)  # two scenes say nothing


def test_the_worst_counts_on_each_image_whatever_budget_it_was_made_for(uneven) -> None:
    (found,) = comparisons(list(_panels(uneven).values()))
    for standing in found.standings:
        for budget, held in zip(found.budgets, standing.held, strict=True):
            worst = _by_hand(uneven, standing.panel.defence, budget.eps)
            assert {image: one.figure for image, one in held.worst.items()} == pytest.approx(
                {image: psnr for image, (psnr, _) in worst.items()}, abs=1e-4
            )
            assert held.quality == pytest.approx(fmean(psnr for psnr, _ in worst.values()), abs=1e-4)
            if held.blind is not None:
                blind = _by_hand(uneven, standing.panel.defence, budget.eps, lambda row: row["access"] == "blind")
                assert held.blind == pytest.approx(fmean(psnr for psnr, _ in blind.values()), abs=1e-4)
    names = {name for one in found.standings[0].held[1].worst.values() for name in one.attacks}
    assert names == {"fgsm", "square", "pgd"}  # another one on each image, one of them made for 1/255


def test_what_is_held_never_rises_with_eps_and_never_beats_no_attack(uneven) -> None:
    for standing in comparisons(list(_panels(uneven).values()))[0].standings:
        values = [standing.clean, *(held.quality for held in standing.held)]
        assert values == sorted(values, reverse=True)


def test_gains_are_paired_by_image(run) -> None:
    (found,) = comparisons(list(_panels(run).values()))
    assert [s.panel.defence for s in found.standings] == ["none", "pure", "blur"]
    assert [s.panel.is_control for s in found.standings] == [False, False, True]
    bare, pure, _ = found.standings
    assert [s.cost for s in found.standings] == pytest.approx((0, 1, 1))
    at = [str(budget) for budget in found.budgets].index("L∞\N{NO-BREAK SPACE}4/255")
    worst, floor = (_by_hand(run, defence, 4 / 255) for defence in ("pure", "none"))
    gains = [worst[image][0] - floor[image][0] for image in worst]
    assert pure.held[at].gain == pytest.approx(fmean(gains)) and bare.held[at].gain is None
    low, high = pure.held[at].gain_interval
    assert min(gains) <= low <= fmean(gains) <= high <= max(gains)
    assert pure.held[at].blind > pure.held[at].quality and pure.held[at].strongest in ("pgd adaptive", "pgd bpda")


def test_what_cannot_be_compared_says_why(tmp_path) -> None:
    write_fake_run(tmp_path / "bare")
    write_fake_run(tmp_path / "blind", truth=False, **DEFENDED)
    write_fake_run(tmp_path / "unpaired", **{**DEFENDED, "defences": DEFENDED["defences"][1:]})
    panels = {name: list(read_run(tmp_path / name, TASKS).panels()) for name in ("bare", "blind", "unpaired")}
    assert [verdict(found).text for found in comparisons(panels["bare"])] == ["", ""] and unmade(panels["bare"]) == []
    assert comparisons(panels["blind"]) == [] and "photos has no ground truth" in unmade(panels["blind"])[0]
    assert "add `none` to its defences" in unmade(panels["unpaired"])[0]
    assert all(held.gain is None for s in comparisons(panels["unpaired"])[0].standings for held in s.held)


def test_the_report_tells_what_each_defence_buys(run) -> None:
    page = write_report([run]).read_text(encoding="utf-8")
    (found,) = comparisons(list(read_run(run, TASKS).panels()))
    told = html.unescape(page)
    assert verdict(found).text in told and 'id="defences"' in page and "blur + nafnet_mini (control)" in page
    assert "Red flags" in page
    with open(run / "report.defences.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    held = {(row["victim"], row["budget"]): float(row["held"]) for row in rows if row["metric"] == "psnr"}
    for standing in found.standings:
        for budget, one in zip(found.budgets, standing.held, strict=True):
            assert held[standing.panel.label, str(budget)] == pytest.approx(one.quality, abs=1e-4)
    with open(run / "report.flags.csv", newline="", encoding="utf-8") as handle:
        assert {row["victim"] for row in csv.DictReader(handle)} == {s.panel.label for s in found.standings}


def test_fine_tuned_restorers_are_measured_against_their_parent(tmp_path) -> None:
    import json

    write_fake_run(tmp_path / "run", **{**DEFENDED, "restorers": ["nafnet_mini", "hardened"], "defences": ["none"]})
    path = tmp_path / "run" / "run.json"
    facts = json.loads(path.read_text())
    facts["networks"]["hardened"]["parent"] = "nafnet_mini"
    path.write_text(json.dumps(facts))
    (found,) = comparisons(list(read_run(tmp_path / "run", TASKS).panels()))
    assert [s.panel.label for s in found.standings] == ["nafnet_mini", "hardened"]
    assert all(held.gain > 0 for held in found.standings[1].held) and found.standings[1].cost == pytest.approx(-1)


def test_the_verdict_begins_with_whether_the_defence_earns_its_cost(run) -> None:
    (found,) = comparisons(list(read_run(run, TASKS).panels()))
    told = verdict(found)
    # The purifier lets 0.7 of the damage through, the blur 0.8, both for one dB of clean PSNR.
    assert told.text.startswith("pure + nafnet_mini earns its cost, for 1.00 dB of clean PSNR and 4 model calls: at L∞")
    assert "more than blur + nafnet_mini, which costs no more" in told.headline
    assert "pure + nafnet_mini seems to hold" in told.headline and "ignorance flatters it by" in told.headline


def test_a_defence_that_a_control_beats_earns_nothing(tmp_path, monkeypatch) -> None:
    import fake_run

    monkeypatch.setitem(fake_run.FRAGILITY, "purifier", 0.9)
    write_fake_run(tmp_path / "run", **DEFENDED)
    (found,) = comparisons(list(read_run(tmp_path / "run", TASKS).panels()))
    told = verdict(found).headline
    assert told.startswith("pure + nafnet_mini does not earn its cost") and "dB less than blur + nafnet_mini" in told


def test_what_is_studied_and_what_is_a_control_is_said_by_the_config_alone(tmp_path) -> None:
    swapped = ["none", {"kind": "purifier", "name": "pure", "purifier": "p", "role": "control"}, "blur"]
    write_fake_run(tmp_path / "run", **{**DEFENDED, "defences": swapped})
    (found,) = comparisons(list(read_run(tmp_path / "run", TASKS).panels()))
    told = verdict(found).text
    assert told.startswith("blur + nafnet_mini does not earn its cost") and "less than pure + nafnet_mini" in told
    page = html.unescape(write_report([tmp_path / "run"]).read_text(encoding="utf-8"))
    gallery = page[page.index('id="gallery"') :]
    assert "<h4>blur + nafnet_mini</h4>" in gallery and "<h4>pure + nafnet_mini</h4>" not in gallery


def test_a_gain_is_a_share_of_what_shifts_of_brightness_leave_open(tmp_path) -> None:
    attacks = ["noise", "pgd", "brightness"]
    write_fake_run(tmp_path / "run", attacks=attacks, defences=["none", {"kind": "blur", "sigma": 1}])
    (found, _) = comparisons(list(read_run(tmp_path / "run", TASKS).panels()))
    bare, blur = found.standings
    for place in range(len(found.budgets)):
        shifts = next(
            o for o in bare.panel.outcomes if o.cell.label == "brightness" and o.budget == found.budgets[place]
        )
        assert bare.at(place).cap == blur.at(place).cap == pytest.approx(shifts.left) and bare.at(place).share is None
        gap = bare.at(place).cap - bare.at(place).quality
        assert blur.at(place).share == pytest.approx(blur.at(place).gain / gap)
    page = html.unescape(write_report([tmp_path / "run"]).read_text(encoding="utf-8"))
    assert f"{percent(blur.at(1).share)} of the gap to {blur.at(1).cap:.2f}" in page and blur.at(1).share > 0
    without = list(read_run(_bare(tmp_path), TASKS).panels())
    assert comparisons(without)[0].standings[0].at(0).cap is None


def _bare(folder):
    write_fake_run(folder / "without", attacks=["noise", "pgd"])
    return folder / "without"


def test_noise_stands_beside_the_attacks_of_its_budget(run) -> None:
    (found,) = comparisons(list(_panels(run).values()))
    with open(run / "results.csv", newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if (row["attack"], row["defence"]) == ("noise", "none")]
    for budget, held in zip(found.budgets, found.standings[0].held, strict=True):
        left = [float(row["psnr"]) for row in rows if abs(float(row["eps"]) - budget.eps) < 1e-6]
        assert held.noise == pytest.approx(fmean(left))


def test_a_control_that_costs_more_is_no_rival(tmp_path, monkeypatch) -> None:
    import fake_run

    monkeypatch.setitem(fake_run.COST, "blur", 2.0)
    monkeypatch.setitem(fake_run.FRAGILITY, "blur", 0.3)
    write_fake_run(tmp_path / "run", gallery=0, **DEFENDED)
    (found,) = comparisons(list(_panels(tmp_path / "run").values()))
    told = verdict(found).headline
    assert told.startswith("pure + nafnet_mini earns its cost")
    assert "dB more than nafnet_mini, which costs no more" in told


def test_a_gain_whose_interval_holds_0_is_not_shown(run) -> None:
    (found,) = comparisons(list(_panels(run).values()))
    bare, pure, blur = found.standings
    rival = blur.at(1).worst.items()
    worst = {image: Worst(one.figure + more, ()) for more, (image, one) in zip((3, 1, -2), rival, strict=True)}
    pure = replace(pure, held=[pure.held[0], replace(pure.at(1), worst=worst)])
    told = verdict(replace(found, standings=[bare, pure, blur])).headline
    assert told.startswith("pure + nafnet_mini is not shown to earn its cost") and "0.67 dB more than blur" in told


def test_the_verdict_is_at_the_budget_that_the_field_states(tmp_path) -> None:
    write_fake_run(tmp_path / "run", gallery=0, **DEFENDED, eps=["4/255", "8/255", "16/255"])
    (found,) = comparisons(list(_panels(tmp_path / "run").values()))
    assert "at L∞\N{NO-BREAK SPACE}4/255 it holds" in verdict(found).headline

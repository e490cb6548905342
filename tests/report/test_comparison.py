"""What a defence buys, and the signs that a figure is not to be trusted, on a run whose figures are known."""

from __future__ import annotations

import csv
from dataclasses import replace
from statistics import fmean

import pytest
from fake_run import write_fake_run

from udc_robust.evaluation.bargains import markets, worst_by_image
from udc_robust.report.flags import red_flags
from udc_robust.report.run_folder import read_run
from udc_robust.tasks import TASKS, write_report

DEFENDED = {
    "restorers": ["nafnet_mini"],
    "defences": ["none", {"kind": "purifier", "name": "pure", "purifier": "p"}, "blur"],
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


def test_a_market_holds_the_worst_attack_on_each_image(run) -> None:
    panels = _panels(run)
    (market,) = markets(list(panels.values()))
    assert [b.panel.defence for b in market.bargains] == ["none", "pure", "blur"]
    assert [b.is_control for b in market.bargains] == [False, False, True]
    bare, pure, blur = market.bargains
    assert (bare.cost, pure.cost, blur.cost) == pytest.approx((0, 1, 1))
    at = list(market.budgets).index("L∞\N{NO-BREAK SPACE}4/255")
    attacks = [
        o for o in panels["pure"].outcomes if o.cell.eps > 0.01 and not o.is_noise and o.cell.attack.label != "told"
    ]
    worst = worst_by_image(attacks)
    assert pure.held[at].psnr == pytest.approx(fmean(psnr for psnr, _ in worst.values()))
    assert pure.held[at].blind > pure.held[at].psnr and pure.held[at].strongest in ("pgd adaptive", "pgd bpda")
    bare_worst = worst_by_image([o for o in panels["none"].outcomes if o.cell.eps > 0.01 and not o.is_noise])
    gains = [worst[image][0] - bare_worst[image][0] for image in worst]
    assert pure.held[at].gain == pytest.approx(fmean(gains)) and bare.held[at].gain is None
    low, high = pure.held[at].interval
    assert min(gains) <= low <= fmean(gains) <= high <= max(gains)
    assert "pure + nafnet_mini holds" in market.verdict and "flatters it by" in market.verdict


def test_no_market_without_rivals_or_truth(tmp_path) -> None:
    write_fake_run(tmp_path / "bare")
    write_fake_run(tmp_path / "blind", truth=False, **DEFENDED)
    for name in ("bare", "blind"):
        assert markets(list(read_run(tmp_path / name, TASKS).panels())) == []


def _flags(panel):
    return {flag.name: flag for flag in red_flags(panel)}


def test_flags_of_an_honest_attack_are_clear(run) -> None:
    flags = _flags(_panels(run)["pure"])
    for name in ("single step beats many", "queries beat the gradient", "transfer beats white box"):
        assert flags[name].state == "clear" and "dB" in flags[name].value
    assert flags["not monotone in eps"].state == "clear"
    assert flags["an unbounded attack fails"].state == "not measured"
    assert flags["still falling with more steps"].state == "not measured"


def _edited(panel, label, eps_over, **summary):
    """The panel with other figures for one attack."""
    outcomes = [
        replace(o, summary={**o.summary, **summary}) if o.cell.label == label and o.cell.eps > eps_over else o
        for o in panel.outcomes
    ]
    return replace(panel, outcomes=outcomes)


@pytest.mark.parametrize(
    "label, changes, flag",
    [
        ("fgsm adaptive", {"psnr": 5.0}, "single step beats many"),
        ("square", {"psnr": 5.0}, "queries beat the gradient"),
        ("pgd blind", {"psnr": 5.0}, "transfer beats white box"),
        ("noise", {"psnr": 5.0}, "noise beats white box"),
        ("pgd adaptive", {"psnr": 60.0}, "not monotone in eps"),
        ("pgd adaptive", {"bad_gradients": 500}, "dead or broken gradients"),
        ("told adaptive", {"psnr": 60.0}, "known seed weaker than EOT"),
    ],
)
def test_each_sign_raises_its_flag(run, label, changes, flag) -> None:
    panel = _panels(run)["pure"]
    assert _flags(panel)[flag].state != "raised"
    assert _flags(_edited(panel, label, 2 / 255, **changes))[flag].state == "raised"


@pytest.mark.parametrize(
    "twin, changes, flag",
    [
        ({"steps": 40}, {"psnr": 5.0, "backwards": 40}, "still falling with more steps"),
        ({"eot": 8}, {"psnr": 5.0}, "still falling with more EOT"),
    ],
)
def test_stronger_twins_show_whether_an_attack_had_converged(tmp_path, twin, changes, flag) -> None:
    attacks = [{"method": "pgd", "steps": 20}, {"method": "pgd", "name": "twin", "steps": 20, **twin}]
    write_fake_run(tmp_path / "run", **{**DEFENDED, "attacks": attacks})
    panel = _panels(tmp_path / "run")["pure"]
    panel = replace(panel, outcomes=[replace(o, summary={**o.summary, "draws": 4.0}) for o in panel.outcomes])
    panel = _edited(panel, "pgd adaptive", 0, backwards=20)
    panel = _edited(panel, "twin adaptive", 0, backwards=40)
    assert _flags(panel)[flag].state == "clear"
    assert _flags(_edited(panel, "twin adaptive", 0, **changes))[flag].state == "raised"


def test_an_attack_without_bounds_must_leave_nothing(tmp_path) -> None:
    write_fake_run(tmp_path / "run", **{**DEFENDED, "eps": ["64/255"]})
    panel = _panels(tmp_path / "run")["pure"]
    assert _flags(panel)["an unbounded attack fails"].state == "clear"
    stuck = _edited(
        _edited(_edited(panel, "pgd adaptive", 0, psnr=20.0), "fgsm adaptive", 0, psnr=20.0), "pgd bpda", 0, psnr=20.0
    )
    assert _flags(stuck)["an unbounded attack fails"].state == "raised"


def test_the_report_tells_what_each_defence_buys(run) -> None:
    page = write_report([run]).read_text(encoding="utf-8")
    (market,) = markets(list(read_run(run, TASKS).panels()))
    assert market.verdict in page and 'id="defences"' in page and "blur + nafnet_mini (control)" in page
    assert "Red flags" in page
    with open(run / "report.defences.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    held = {(row["victim"], row["budget"]): float(row["psnr"]) for row in rows}
    for bargain in market.bargains:
        for budget, found in zip(market.budgets, bargain.held, strict=True):
            assert held[bargain.panel.label, budget] == pytest.approx(found.psnr, abs=1e-4)
    with open(run / "report.flags.csv", newline="", encoding="utf-8") as handle:
        assert {row["victim"] for row in csv.DictReader(handle)} == {b.panel.label for b in market.bargains}


def test_fine_tuned_restorers_are_measured_against_their_parent(tmp_path) -> None:
    import json

    write_fake_run(tmp_path / "run", **{**DEFENDED, "restorers": ["nafnet_mini", "hardened"], "defences": ["none"]})
    path = tmp_path / "run" / "run.json"
    facts = json.loads(path.read_text())
    facts["restorers"]["hardened"]["parent"] = "nafnet_mini"
    path.write_text(json.dumps(facts))
    (market,) = markets(list(read_run(tmp_path / "run", TASKS).panels()))
    assert [b.panel.label for b in market.bargains] == ["nafnet_mini", "hardened"]
    assert all(held.gain > 0 for held in market.bargains[1].held) and market.bargains[1].cost == pytest.approx(-1)


def test_the_verdict_begins_with_whether_purification_earns_its_calls(run) -> None:
    (market,) = markets(list(read_run(run, TASKS).panels()))
    # The purifier lets 0.7 of the damage through, the blur 0.8, both for one dB of clean PSNR.
    assert market.verdict.startswith("Purification earns its model calls: at L∞\N{NO-BREAK SPACE}4/255")
    assert "more than blur + nafnet_mini, which costs no more clean PSNR" in market.headline


def test_a_purifier_that_a_blur_beats_earns_nothing(tmp_path, monkeypatch) -> None:
    import fake_run

    monkeypatch.setitem(fake_run.FRAGILITY, "purifier", 0.9)
    write_fake_run(tmp_path / "run", **DEFENDED)
    (market,) = markets(list(read_run(tmp_path / "run", TASKS).panels()))
    assert (
        market.headline.startswith("Purification does not earn its model calls:") and "dB less than" in market.headline
    )

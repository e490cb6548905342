"""Caps, kappas and the bracket, and defences by who attacks them, on a run whose figures are known."""

from __future__ import annotations

import csv
import html
import json
from dataclasses import replace
from statistics import fmean

import pytest
from fake_run import FRAGILITY, STRENGTH, write_fake_run

from udc_robust.report.attackers import attackers
from udc_robust.report.comparison import comparisons
from udc_robust.report.possible import kappa, limits_of
from udc_robust.report.run_folder import read_run
from udc_robust.tasks import TASKS, write_report

EPS = 4 / 255
ATTACKS = [
    {"method": "noise"}, {"method": "brightness"}, {"method": "smooth_field"},
    {"method": "channel", "name": "jam blur"}, {"method": "channel", "name": "jam bins", "channel": "bins"},
    {"method": "pgd", "access": ["blind", "bpda", "adaptive"]}, {"method": "square"},
    {"method": "pgd", "name": "lent", "access": "transfer", "sources": ["nafnet_mini", "discnet_mini"]},
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two networks, of which the second is the child of the first, bare and behind a purifier."""
    out = tmp_path_factory.mktemp("fake") / "run"
    STRENGTH.update(smooth_field=0.5, channel=0.3)
    write_fake_run(out, defences=["none", {"kind": "purifier", "name": "pure", "purifier": "p"}], attacks=ATTACKS)
    facts = json.loads((out / "run.json").read_text())
    facts["networks"]["discnet_mini"] |= {"parent": "nafnet_mini", "channel": "blur"}
    (out / "run.json").write_text(json.dumps(facts))
    with open(out / "results.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:  # the child alone knows the first channel
        if row["attack"] == "jam blur" and row["restorer"] == "discnet_mini" and row["defence"] == "none":
            row["psnr"] = str(float(row["psnr"]) + 0.25)
    with open(out / "results.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return out


def _panels(run):
    return list(read_run(run, TASKS).panels())


def _left(run, attack, eps=EPS, restorer="nafnet_mini", defence="none"):
    with open(run / "results.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    found = [row for row in rows if (row["attack"], row["restorer"], row["defence"]) == (attack, restorer, defence)]
    return {
        row["image"]: float(row["psnr"]) for row in found if attack == "clean" or abs(float(row["eps"]) - eps) < 1e-6
    }


def test_the_cap_of_an_image_is_the_worst_of_the_shifts(run) -> None:
    found = {one.budget.eps: one for one in limits_of(comparisons(_panels(run)))}
    shifts = {name: _left(run, name) for name in ("brightness", "smooth_field", "clean", "pgd")}
    possible = max(found.items())[1]
    assert possible.budget.eps == pytest.approx(EPS) and len(found) == 2
    for one in possible.images:
        assert one.shifts == pytest.approx({name: shifts[name][one.image] for name in ("brightness", "smooth_field")})
        assert one.cap == pytest.approx(min(one.shifts.values())) and one.clean == shifts["clean"][one.image]
        assert one.undefended == pytest.approx(shifts["pgd"][one.image]) and one.best > one.undefended
    assert possible.cap == pytest.approx(fmean(one.cap for one in possible.images))
    assert {one.holder for one in possible.images} <= {panel.label for panel in _panels(run)}


def test_kappa_is_what_the_attack_adds_to_the_root_of_the_error(run) -> None:
    panel = _panels(run)[0]
    (possible, *_) = (one for one in limits_of(comparisons(_panels(run))) if one.budget.eps > 3 / 255)
    gains = [
        (10 ** (-after / 20) - 10 ** (-_left(run, "clean")[image] / 20)) / EPS
        for image, after in _left(run, "pgd").items()
    ]
    assert dict(possible.kappas)["nafnet_mini"] == pytest.approx(fmean(gains), rel=1e-4)
    assert kappa(panel, possible.budget) == pytest.approx(fmean(gains), rel=1e-4)


def test_the_bracket_lies_between_the_best_that_holds_and_the_best_behind_the_worst_channel(run) -> None:
    (possible,) = (one for one in limits_of(comparisons(_panels(run))) if one.budget.eps > 3 / 255)
    bracket = possible.bracket
    means = {
        (name, restorer): fmean(_left(run, name, restorer=restorer).values())
        for name in ("jam blur", "jam bins", "pgd") for restorer in ("nafnet_mini", "discnet_mini")
    }  # fmt: skip
    assert bracket.held == pytest.approx(max(means["pgd", r] for r in ("nafnet_mini", "discnet_mini")))
    assert bracket.by == "discnet_mini" and [one.channel for one in bracket.channels] == ["jam bins", "jam blur"]
    for one in bracket.channels:
        assert one.best == pytest.approx(max(means[one.channel, r] for r in ("nafnet_mini", "discnet_mini")))
    # Nobody was told of the bins: that they leave less bounds nothing.
    assert [one.learnt for one in bracket.channels] == [False, True] and bracket.ceiling is bracket.channels[1]
    gap = bracket.ceiling.best - bracket.held
    assert gap > 0 and f"discnet_mini makes of channel jam blur: a gap of {gap:.2f} dB" in possible.sentence
    (other,) = (one for one in bracket.channels if not one.learnt)
    alone = replace(possible, bracket=replace(bracket, channels=[other]))
    assert alone.bracket.ceiling is None and alone.sentence.endswith("so what they leave bounds nothing.")


def test_without_channels_and_shifts_there_is_nothing_to_tell(tmp_path) -> None:
    write_fake_run(tmp_path / "run")
    panels = _panels(tmp_path / "run")
    assert limits_of(comparisons(panels)) == attackers(comparisons(panels)) == []
    page = write_report([tmp_path / "run"]).read_text()
    assert "<h2>Limits</h2>" not in page and "By who attacks" not in page
    assert not (tmp_path / "run" / "report.limits.csv").exists()


def test_a_defence_by_who_attacks_it(run) -> None:
    (table,) = (one for one in attackers(comparisons(_panels(run))) if one.budget.eps > 3 / 255)
    by = {row.panel.label: row.against for row in table.rows}
    bare, pure = by["nafnet_mini"], next(by[label] for label in by if "nafnet" in label and "pure" in label)
    assert bare["unknowing"] is None and all(one is None or one.gain is None for one in bare.values())
    means = {name: fmean(_left(run, name, defence="pure").values()) for name in ("pgd blind", "pgd adaptive", "lent")}
    assert pure["unknowing"].quality == pytest.approx(means["pgd blind"])
    assert pure["knowing"].quality == pytest.approx(means["pgd adaptive"])
    # The paper's gain: attacks on the bare network, shown to the purifier, against the bare network under them.
    white = fmean(_left(run, "pgd").values())
    assert pure["unknowing"].gain == pytest.approx(means["pgd blind"] - white)
    assert pure["knowing"].gain == pytest.approx(means["pgd adaptive"] - white)
    assert pure["transfer"].gain == pytest.approx(means["lent"] - fmean(_left(run, "lent").values()))
    assert pure["unknowing"].gain > pure["knowing"].gain + FRAGILITY["purifier"]
    assert "seems to gain" in table.sentence


def test_the_page_and_its_tables_say_so(run) -> None:
    page = html.unescape(write_report([run]).read_text())
    assert "<h2>Limits</h2>" in page and "<h2>By who attacks</h2>" in page and "(Jensen)" in page
    for table in limits_of(comparisons(_panels(run))):
        assert table.sentence in page
    with open(run / "report.bracket.csv", newline="") as handle:
        brackets = list(csv.DictReader(handle))
    assert len(brackets) == 4 and all(float(row["gap"]) >= 0 for row in brackets)
    assert [row["learnt"] for row in brackets] == ["0", "1"] * 2 and "no: no victim here was told of it" in page
    with open(run / "report.limits.csv", newline="") as handle:
        assert len(list(csv.DictReader(handle))) == 2 * 3
    with open(run / "report.attackers.csv", newline="") as handle:
        kinds = {row["attacker"] for row in csv.DictReader(handle)}
    assert kinds == {"unknowing", "transfer", "query", "knowing"}


def test_kappa_needs_one_unit_for_errors_and_budgets(run) -> None:
    scenes = [replace(p, images={**p.images, "space": "scene", "scene_domain": "srgb"}) for p in _panels(run)]
    for panels, known in ((_panels(run), True), (scenes, False)):
        assert all(bool(one.kappas) == known for one in limits_of(comparisons(panels)))


def test_a_defence_that_loses_to_the_ignorant_seems_to_lose(run) -> None:
    (table,) = (one for one in attackers(comparisons(_panels(run))) if one.budget.eps > 3 / 255)
    rows = []
    for row in table.rows:
        seen = row.against["unknowing"]
        rows.append(replace(row, against={**row.against, "unknowing": seen and replace(seen, gain=-1.5)}))
    assert "seems to lose 1.50 dB; against who knows it" in replace(table, rows=rows).sentence

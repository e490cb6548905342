"""Attacks made elsewhere in the report: the matrix, the curves over queries, and their flags."""

from __future__ import annotations

import csv
import re
from dataclasses import replace

import pytest
import yaml
from fake_run import write_fake_run

from udc_robust.grid.budget import Budget
from udc_robust.report.costs import costs
from udc_robust.report.flags import red_flags
from udc_robust.report.page import write_report
from udc_robust.report.query_curves import curve, query_plots
from udc_robust.report.run_folder import read_run
from udc_robust.report.transfer import transfers
from udc_robust.tasks import TASKS
from udc_robust.tasks.restoration_schema import RestorationConfig

MADE_ON = [
    {"method": "pgd", "access": "transfer", "sources": "discnet_mini"},
    {"method": "pgd", "access": "transfer", "sources": ["nafnet_mini", "discnet_mini"], "name": "both"},
    {"method": "pgd", "access": "transfer", "sources": "nafnet_mini", "name": "bare only", "defences": ["none"]},
]
RUN = {
    "eps": ["4/255"], "defences": ["none", "blur"],
    "attacks": [{"method": "noise"}, {"method": "fgsm"}, {"method": "pgd"}, *MADE_ON, {"method": "square"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("fake") / "run"
    write_fake_run(out, **RUN)
    return out


def _panels(run):
    return list(read_run(run, TASKS).panels())


def _left_of(panel, label):
    return next(o.left for o in panel.outcomes if o.cell.label == label)


def test_the_matrix_holds_each_transfer_with_the_white_box_where_no_network_attacks_itself(run) -> None:
    (table,) = transfers(_panels(run)[::-1])
    assert [name for name, _ in table.rows] == ["pgd from discnet_mini", "both", "bare only"]  # as in the config
    (table,) = transfers(_panels(run))
    assert table.budget == Budget("linf", pytest.approx(4 / 255))
    names = [panel.label for panel in table.victims]
    assert names == ["nafnet_mini", "blur + nafnet_mini", "discnet_mini", "blur + discnet_mini"]
    rows = {name: dict(zip(names, places, strict=True)) for name, places in table.rows}
    assert list(rows) == ["pgd from discnet_mini", "both", "bare only"]
    for panel in table.victims:
        white = min(_left_of(panel, label) for label in (("pgd", "fgsm") if panel.is_bare else ("pgd adaptive",)))
        assert dict(zip(names, table.white_box, strict=True))[panel.label].quality == white
        one, both = rows["pgd from discnet_mini"][panel.label], rows["both"][panel.label]
        if panel.network == "discnet_mini":
            assert one.white_box and one.quality == white
        else:
            assert not one.white_box and one.quality == _left_of(panel, "pgd from discnet_mini") > white
        assert both.without and both.quality == _left_of(panel, "both") and not one.without
    assert rows["bare only"]["nafnet_mini"].white_box and rows["bare only"]["blur + nafnet_mini"] is None
    assert rows["bare only"]["blur + discnet_mini"] is None and rows["bare only"]["discnet_mini"].quality > 0
    assert [left.quality for left in table.noise] == [_left_of(panel, "noise") for panel in table.victims]


def test_the_page_and_its_table_tell_the_matrix(run) -> None:
    text = write_report([run], TASKS).read_text()
    section = text[text.index('id="transfer"') : text.index('id="defences"')]
    assert section.count("<strong>") == 3 and section.count("*</td>") == 4 and 'href="#transfer"' in text
    with open(run / "report.transfer.csv", newline="") as handle:
        rows = {row["made_on"]: row for row in csv.DictReader(handle)}
    (table,) = transfers(_panels(run))
    assert float(rows["both"]["nafnet_mini"]) == pytest.approx(table.rows[1][1][0].quality)
    assert rows["bare only"]["blur + nafnet_mini"] == "n/a" and {"white box", "noise"} < set(rows)


def test_runs_without_a_transfer_have_no_matrix(tmp_path) -> None:
    write_fake_run(tmp_path / "run", attacks=["pgd"])
    assert 'id="transfer"' not in write_report([tmp_path / "run"], TASKS).read_text()
    assert not (tmp_path / "run" / "report.transfer.csv").exists()


def test_curves_over_queries_carry_the_last_value_of_images_that_took_fewer(run) -> None:
    panel = _panels(run)[0]
    outcome = next(o for o in panel.outcomes if o.cell.label == "square")
    rows = {row["image"]: row for row in outcome.rows}
    last = max(row["queries"] for row in outcome.asked)
    long = next(row["image"] for row in outcome.asked if row["queries"] == last)
    half = [(row["psnr_clean"] + row["psnr"]) / 2 for row in rows.values()]
    then = [row["psnr"] for image, row in rows.items() if image != long]
    waiting = (rows[long]["psnr_clean"] + rows[long]["psnr"]) / 2
    found = dict(curve(outcome))
    assert list(found) == [10, 100, 200]
    assert found[10] == pytest.approx(sum(half) / 3, rel=1e-5)
    assert found[100] == pytest.approx((sum(then) + waiting) / 3, rel=1e-5)
    assert found[200] == pytest.approx(outcome.left, rel=1e-5)


def test_the_plot_over_queries_has_noise_beside_it(run) -> None:
    (plot,) = query_plots(_panels(run), "q")
    assert "200 queries" in plot.alt and plot.markers[0][1] == "square" and "noise" in plot.dashes
    assert len(plot.colours) == 4 and re.search(r">10<", plot.svg) and re.search(r">100<", plot.svg)
    assert "Damage over queries" in write_report([run], TASKS).read_text()


def _flag(panel, name):
    return next(flag for flag in red_flags(panel) if flag.name == name)


def _edited(panel, label, psnr):
    outcomes = [replace(o, summary={**o.summary, "psnr": psnr}) if o.cell.label == label else o for o in panel.outcomes]
    return replace(panel, outcomes=outcomes)


@pytest.mark.parametrize("place", [0, 1])
def test_a_transfer_that_beats_the_white_box_raises_its_flag(run, place) -> None:
    panel = _panels(run)[place]
    assert _flag(panel, "transfer beats white box").state == "clear"
    raised = _flag(_edited(panel, "both", 5.0), "transfer beats white box")
    assert raised.state == "raised" and "both 5.0" in raised.value and "pgd longer" in raised.remedy


@pytest.mark.parametrize("more, state", [(-5.0, "clear"), (-0.05, "raised"), (1.0, "raised")])
def test_a_query_attack_that_does_no_more_than_noise_says_so_with_a_remedy(run, more, state) -> None:
    panel = _panels(run)[0]
    noise = next(o.noise_left for o in panel.outcomes if o.cell.label == "square")
    flag = _flag(_edited(panel, "square", noise + more), "queries do no more than noise")
    assert flag.state == state and "noise of its norm" in flag.value
    remedy = yaml.safe_load(flag.remedy)
    assert remedy["sources"] == ["discnet_mini"] and remedy["steps"] == 5000
    RestorationConfig.model_validate({"attacks": [remedy], "restorers": ["nafnet_mini", "discnet_mini"]})
    quiet = replace(panel, outcomes=[o for o in panel.outcomes if o.cell.access != "query"])
    assert _flag(quiet, "queries do no more than noise").state == "not measured"


def test_dead_gradients_of_sources_say_nothing_of_the_victim(run) -> None:
    panel = _panels(run)[0]
    dead = [
        replace(o, summary={**o.summary, "bad_gradients": 500 if o.cell.attack.sources else 0}) for o in panel.outcomes
    ]
    assert _flag(replace(panel, outcomes=dead), "dead or broken gradients").state == "clear"


def test_calls_of_a_defence_are_those_of_the_victims_answers(tmp_path) -> None:
    attacks = [*MADE_ON[:1], {"method": "square", "sources": "discnet_mini"}, {"method": "pgd"}]
    pure = {"kind": "purifier", "name": "pure", "purifier": "p"}
    write_fake_run(tmp_path / "run", restorers=["nafnet_mini"], defences=["none", pure], attacks=attacks)
    panel = _panels(tmp_path / "run")[1]
    calls = {cost["attack"]: cost["calls"] for cost in costs(panel)}
    attacks = [{"method": "pgd", "access": ["blind", "bpda", "adaptive"]}]
    write_fake_run(tmp_path / "two", restorers=["nafnet_mini"], defences=["none", pure], attacks=attacks)
    met = [cost["attack"] for cost in costs(_panels(tmp_path / "two")[1])]
    assert len(met) == len(set(met)) == 3  # of all budgets together
    assert calls == {"pgd from discnet_mini": 0, "square from discnet_mini": 4 * 30, "pgd adaptive": 4 * 41}

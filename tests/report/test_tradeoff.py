"""Unattacked against held: the plot's figures are the table's, at a budget that all victims met."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_run import write_fake_run

from udc_robust.report.comparison import comparisons
from udc_robust.report.run_folder import read_run
from udc_robust.report.tradeoff import tradeoff_plots
from udc_robust.report.words import number
from udc_robust.tasks import TASKS, write_report


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("fake") / "run"
    blur = {"kind": "blur", "role": "control"}
    wide = {"kind": "blur", "name": "wide", "role": "control"}
    write_fake_run(out, defences=["none", blur, wide], attacks=[{"method": "brightness"}, {"method": "pgd"}])
    return out


def test_the_plot_says_what_the_table_says_at_the_largest_budget(run) -> None:
    found = comparisons(list(read_run(run, TASKS).panels()))
    (plot,) = tradeoff_plots("data", found, "t")
    budget = found[0].shared_budgets[-1]
    assert str(budget) in plot.note and plot.dashes.startswith("cap")
    for one in found:
        for standing in one.standings:
            held = standing.held[one.budgets.index(budget)]
            told = f"{standing.panel.label}: {number(standing.clean, 2)} unattacked, {number(held.quality, 2)} held"
            assert told in plot.alt
    labels = [label for _, _, label in plot.colours]
    assert len(labels) == 6 and sum(label.endswith("(control)") for label in labels) == 4


def test_two_victims_need_no_plot_and_budgets_must_be_shared(run) -> None:
    found = comparisons(list(read_run(run, TASKS).panels()))
    assert tradeoff_plots("data", [replace(found[0], standings=found[0].standings[:1])], "t") == []
    unmet = replace(found[0].standings[0], held=[None] * len(found[0].budgets))
    assert tradeoff_plots("data", [replace(found[0], standings=[unmet, *found[0].standings]), *found[1:]], "t") == []


def test_the_page_shows_it(run) -> None:
    page = write_report([run]).read_text()
    assert "unattacked against held at" in page

"""Corruptions of labelled images: the same cells, judged by right answers."""

from __future__ import annotations

import pytest
from small_study import run

from udc_robust.report import corruptions
from udc_robust.report.run_folder import read_run
from udc_robust.tasks import TASKS


def test_a_classifier_meets_corruptions_alone_and_behind_defences(place) -> None:
    out = run(
        place, "out", attacks=[], corruptions=[{"kind": "impulse_noise", "severity": [1, 5]}, "overexposure"],
        defences=["none", {"kind": "median", "role": "control"}],
    )  # fmt: skip
    bare, median = corruptions.tables(list(read_run(out, TASKS).panels()))
    assert (bare.panel.defence, median.panel.defence) == ("none", "median")
    assert 0 <= bare.rows[0][3][0].quality <= 100 and bare.clean > 80  # in percent
    assert bare.rows[0][3][0].given is None and not bare.rows[0][3][0].useless
    rows = corruptions.rows([bare])
    assert [row["severity"] for row in rows] == [1, 2, 3, 4, 5, 1, 5]
    assert rows[-1]["quality"] == pytest.approx(100 * rows[-1]["top1"])
    assert "capture was better" not in bare.verdict()

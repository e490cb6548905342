"""Areas under quality: against hand-made sums, over shared budgets only, worst attack by image."""

from __future__ import annotations

import csv
import math

import pytest
from fake_run import write_fake_run

from udc_robust.metrics import records
from udc_robust.report.areas import areas
from udc_robust.report.run_folder import read_run
from udc_robust.tasks import TASKS, write_report


@pytest.mark.parametrize("metric", [records.PSNR, records.SSIM, records.GMSD], ids=lambda metric: metric.name)
def test_it_is_the_trapezium_under_the_worst_of_each_image(tmp_path, metric) -> None:
    write_fake_run(tmp_path / "run")
    found = areas(list(read_run(tmp_path / "run", TASKS).panels()))
    area = next(a for a in found if (a.panel.label, a.budgets[0].norm) == ("nafnet_mini", "linf"))
    with open(tmp_path / "run" / "results.csv", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["restorer"] == "nafnet_mini" and row["access"] != "none"]
    heights = []
    for size in (0.0, 1 / 255, 4 / 255):
        left = {}
        for row in rows:
            if row["attack"] == "clean" or (size and float(row["linf"]) <= size * 1.000001):
                left.setdefault(row["image"], []).append(float(row[metric.name]))
        worst = [(min if metric.higher_is_better else max)(values) for values in left.values()]
        heights.append(sum(worst) / len(worst))
    expected = ((heights[0] + heights[1]) / 2 * 1 + (heights[1] + heights[2]) / 2 * 3) / 4
    told = area.quality if metric is records.PSNR else area.others[metric.name]
    assert told == pytest.approx(expected, abs=1e-4)
    assert [b.size for b in area.budgets] == ["1/255", "4/255"] and area.noise > area.quality


def test_only_shared_budgets_count_and_one_is_not_enough(tmp_path) -> None:
    attacks = [
        {"method": "pgd", "eps": ["1/255", "4/255"]}, {"method": "fgsm", "eps": "8/255", "defences": ["none"]},
        {"method": "pgd", "norm": "l2", "eps": [0.5]},
    ]  # fmt: skip
    write_fake_run(tmp_path / "run", attacks=attacks, defences=["none", {"kind": "blur", "sigma": 1}])
    found = areas(list(read_run(tmp_path / "run", TASKS).panels()))
    assert len(found) == 4 and {a.budgets[0].norm for a in found} == {"linf"}
    assert all([b.size for b in a.budgets] == ["1/255", "4/255"] and a.noise is None for a in found)


def test_the_report_shows_them_and_a_run_without_truth_has_none(tmp_path) -> None:
    write_fake_run(tmp_path / "run")
    page = write_report([tmp_path / "run"]).read_text()
    with open(tmp_path / "run" / "report.areas.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 4 and "Area under quality" in page
    assert all(f"{float(row['quality']):.2f}" in page and math.isfinite(float(row["ssim"])) for row in rows)
    write_fake_run(tmp_path / "blind", truth=False)
    assert "Area under quality" not in write_report([tmp_path / "blind"]).read_text()
    assert not (tmp_path / "blind" / "report.areas.csv").exists()


def test_the_blind_area_and_that_of_noise_are_of_their_own_attacks(tmp_path) -> None:
    attacks = [{"method": "noise"}, {"method": "pgd", "access": ["blind", "adaptive"]}]
    write_fake_run(tmp_path / "run", restorers=["nafnet_mini"], gallery=0, attacks=attacks, defences=["none", "blur"])
    _, blur = areas(list(read_run(tmp_path / "run", TASKS).panels()))
    for attack, told in (("pgd blind", blur.blind), ("noise", blur.noise)):
        left = {o.budget.size: o.left for o in blur.panel.outcomes if o.cell.label == attack}
        clean, small, large = blur.panel.clean["psnr"], left["1/255"], left["4/255"]
        assert told == pytest.approx(((clean + small) / 2 + (small + large) / 2 * 3) / 4)

"""Areas under quality: against hand-made sums, over shared budgets only, worst attack by image."""

from __future__ import annotations

import csv
import math

import pytest
from fake_run import write_fake_run

from udc_robust.report.areas import areas
from udc_robust.report.run_folder import read_run
from udc_robust.tasks import TASKS, write_report


def _figures(folder, restorer: str, figure: str) -> dict[tuple[str, float], dict[str, float]]:
    """Figure by (attack, eps in levels) and image, of Linf cells and the clean pass."""
    found: dict[tuple[str, float], dict[str, float]] = {}
    with open(folder / "results.csv", newline="") as handle:
        for row in csv.DictReader(handle):
            if row["restorer"] == restorer and row["norm"] in ("", "linf"):
                place = (row["attack"], round(float(row["eps"]) * 255, 3))
                found.setdefault(place, {})[row["image"]] = float(row[figure])
    return found


@pytest.mark.parametrize("figure", ["psnr", "ssim"])
def test_it_is_the_trapezium_under_the_worst_of_each_image(tmp_path, figure) -> None:
    write_fake_run(tmp_path / "run")
    found_areas = areas(list(read_run(tmp_path / "run", TASKS).panels()))
    area = next(area for area in found_areas if (area.victim, area.norm) == ("nafnet_mini", "L∞"))
    found = _figures(tmp_path / "run", "nafnet_mini", figure)
    images = found["clean", 0.0]
    heights = [sum(images.values()) / len(images)]
    for levels in (1.0, 4.0):
        met = [found[attack, size] for attack in ("fgsm", "pgd") for size in (1.0, 4.0) if size <= levels]
        worst = {i: min(cell[i] for cell in (images, *met)) for i in images}
        heights.append(sum(worst.values()) / len(worst))
    expected = ((heights[0] + heights[1]) / 2 * 1 + (heights[1] + heights[2]) / 2 * 3) / 4
    assert getattr(area, figure) == pytest.approx(expected, abs=1e-4)
    assert area.budgets == 2 and area.eps == pytest.approx(4 / 255) and area.noise_psnr > area.psnr


def test_only_shared_budgets_count_and_one_is_not_enough(tmp_path) -> None:
    attacks = [
        {"method": "pgd", "eps": ["1/255", "4/255"]}, {"method": "fgsm", "eps": "8/255", "defences": ["none"]},
        {"method": "pgd", "norm": "l2", "eps": [0.5]},
    ]  # fmt: skip
    write_fake_run(tmp_path / "run", attacks=attacks, defences=["none", {"kind": "blur", "sigma": 1}])
    found = areas(list(read_run(tmp_path / "run", TASKS).panels()))
    assert len(found) == 4 and {(a.norm, a.budgets) for a in found} == {("L∞", 2)}
    assert all(a.eps == pytest.approx(4 / 255) and a.noise_psnr is None for a in found)


def test_the_report_shows_them_and_a_run_without_truth_has_none(tmp_path) -> None:
    write_fake_run(tmp_path / "run")
    page = write_report([tmp_path / "run"]).read_text()
    with open(tmp_path / "run" / "report.areas.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 4 and "Area under quality" in page
    assert all(f"{float(row['psnr']):.2f}" in page and math.isfinite(float(row["ssim"])) for row in rows)
    write_fake_run(tmp_path / "blind", truth=False)
    assert "Area under quality" not in write_report([tmp_path / "blind"]).read_text()
    assert not (tmp_path / "blind" / "report.areas.csv").exists()

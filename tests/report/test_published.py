"""Published figures stand as printed, and ours come from the run: the least of each kind of attacker."""

from __future__ import annotations

import csv
from statistics import fmean

import pytest
from fake_run import write_fake_run

from udc_robust.errors import UserError
from udc_robust.grid.published import systems
from udc_robust.report.published import KNOWING, beside
from udc_robust.report.run_folder import read_run
from udc_robust.tasks import TASKS, write_report

DEFENCES = ["none", {"kind": "purifier", "name": "purified", "purifier": "purifier_mini"}]
ATTACKS = [
    {"method": "noise"}, {"method": "pgd", "access": ["blind", "bpda", "adaptive"]},
    {"method": "pgd", "name": "pgd-ssim", "objective": "ssim"},
]  # fmt: skip


def rows_of(path) -> list[dict[str, str]]:
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


def test_ours_comes_from_the_results_and_theirs_from_the_paper(tmp_path) -> None:
    published = [
        {"system": "udc_discnet_purified", "victim": "purified + nafnet_mini", "eps": "4/255"},
        {"system": "udc_discnet", "victim": "nafnet_mini", "eps": "4/255", "differs": "a mini network"},
        {"system": "gccs", "victim": "nafnet_mini", "eps": "4/255"},
    ]
    run = tmp_path / "run"
    write_fake_run(run, defences=DEFENCES, attacks=ATTACKS, eps=["2/255", "4/255"], published=published)
    page = write_report([run]).read_text(encoding="utf-8")
    assert "Published figures beside ours" in page and "a mini network" in page and "No published figure" in page
    found = {(row["system"], row["figure"]): row for row in rows_of(run / "report.published.csv")}
    results = rows_of(run / "results.csv")

    def left(defence: str, attack: str) -> float:
        mine = [
            row
            for row in results
            if (row["restorer"], row["defence"], row["attack"]) == ("nafnet_mini", defence, attack)
        ]
        return fmean(float(row["psnr"]) for row in mine if abs(float(row["eps"]) - 4 / 255) < 1e-6 or attack == "clean")

    defended = found["udc_discnet_purified", "PGD"]
    assert float(defended["published"]) == 32.17
    assert float(defended["blind"]) == pytest.approx(left("purified", "pgd blind"))
    knowing = min(left("purified", "pgd bpda"), left("purified", "pgd adaptive"))
    assert float(defended["knowing"]) == pytest.approx(knowing)
    bare = found["udc_discnet", "PGD"]
    assert bare["blind"] == "n/a" and float(bare["knowing"]) == pytest.approx(left("none", "pgd"))
    clean = found["udc_discnet", "clean"]
    assert clean["blind"] == clean["knowing"] and float(clean["blind"]) == pytest.approx(left("none", "clean"))
    assert found["udc_discnet", "C&W"]["knowing"] == "n/a"  # not in this run


def test_auto_pgd_stands_for_a_papers_pgd(tmp_path) -> None:
    published = [{"system": "udc_discnet", "victim": "nafnet_mini", "eps": "4/255"}]
    write_fake_run(tmp_path / "run", attacks=[{"method": "apgd"}], eps=["4/255"], published=published)
    write_report([tmp_path / "run"])
    found = {row["figure"]: row["knowing"] for row in rows_of(tmp_path / "run" / "report.published.csv")}
    assert found["PGD"] != "n/a" and found["C&W"] == "n/a"


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ({"system": "halftoned", "victim": "nafnet_mini", "eps": "4/255"}, "did you mean 'halftone'"),
        ({"system": "halftone", "victim": "nafnet_min", "eps": "4/255"}, "did you mean 'nafnet_mini'"),
        ({"system": "halftone", "victim": "nafnet_mini"}, "eps"),
    ],
)
def test_mistakes_are_told(tmp_path, block, told) -> None:
    with pytest.raises((UserError, ValueError), match=told):
        write_fake_run(tmp_path, published=[block])


def test_every_published_figure_is_one_of_a_task() -> None:
    columns = {column for task in TASKS.values() for column in task.results}
    for name, system in systems().items():
        assert system.theirs and system.paper, name
        assert all(figure.figure in columns and figure.value > 0 for figure in system.figures), name


def _knowing(out, **config) -> list[float | None]:
    published = [{"system": "udc_discnet_purified", "victim": "purified + nafnet_mini", "eps": "4/255"}]
    write_fake_run(out, defences=DEFENCES, published=published, gallery=0, **config)
    run = read_run(out, TASKS)
    (found,) = beside([run], list(run.panels()))
    return list(dict(found.rows)[KNOWING])


def test_what_climbs_else_has_another_budget_or_knows_the_seed_is_not_ours(tmp_path) -> None:
    (alone,) = _knowing(tmp_path / "alone", attacks=["pgd"], eps=["4/255"])
    assert alone is not None and _knowing(tmp_path / "more", attacks=["pgd"], eps=["4/255", "8/255"]) == [alone]
    for name, changes in (("ssim", {"objective": "ssim"}), ("told", {"known_seed": True})):
        attacks = [{"method": "pgd", "name": name, **changes}]
        assert _knowing(tmp_path / name, attacks=attacks, eps=["4/255"]) == [None]

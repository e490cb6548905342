"""Every table, curve and flag by any figure: directions, learned judges that an attacker fooled, and the page."""

from __future__ import annotations

import csv
import html

import pytest
from fake_run import write_fake_run

from udc_robust.grid.budget import Budget
from udc_robust.metrics import Metric, records
from udc_robust.report.comparison import comparisons
from udc_robust.report.flags import red_flags
from udc_robust.report.run_folder import read_run
from udc_robust.report.verdict import verdict
from udc_robust.report.worst import held, worst_by_image
from udc_robust.tasks import TASKS, write_report

AT = Budget("linf", 4 / 255)
ALEX, SQUEEZE = records.LPIPS["alex"], records.LPIPS["squeeze"]
ATTACKS = [
    {"method": "noise"}, {"method": "pgd"}, {"method": "pgd", "name": "on alex", "objective": "lpips_alex"},
    {"method": "pgd", "name": "on both", "objective": "lpips_alex+lpips_squeeze"},
]  # fmt: skip


def _panels(folder, **config):
    write_fake_run(folder, **{"attacks": ATTACKS, "lpips": ["alex", "squeeze"], **config})
    return list(read_run(folder, TASKS).panels())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures") / "run"
    return folder, _panels(folder, defences=["none", {"kind": "blur", "sigma": 1}])


def test_where_lower_is_better_the_worst_is_the_largest_and_a_gain_is_a_fall(run) -> None:
    _, panels = run
    (found, _) = comparisons([panel.judged_by(records.GMSD) for panel in panels])
    bare, blur = found.standings
    at = len(found.budgets) - 1
    rows = [row for o in bare.panel.outcomes if o.counts for row in o.rows]
    by_image: dict[str, float] = {}
    for row in rows:
        by_image[row["image"]] = max(by_image.get(row["image"], 0.0), row["gmsd"])
    assert bare.at(at).quality == pytest.approx(sum(by_image.values()) / len(by_image))
    assert bare.at(at).quality > bare.clean
    assert blur.cost == pytest.approx(blur.clean - bare.clean) and blur.cost > 0
    assert blur.at(at).gain == pytest.approx(bare.at(at).quality - blur.at(at).quality)
    assert ("less than undefended" in verdict(found).text) == (blur.at(at).gain > 0)


def test_a_backbone_that_the_attacker_climbed_judges_nothing(run) -> None:
    _, (panel, *_) = run
    of = {outcome.cell.label: outcome for outcome in panel.outcomes if str(outcome.budget) == str(AT)}

    def left(metric: Metric, *attacks: str) -> float:
        mine = [o for o in panel.judged_by(metric).outcomes if str(o.budget) == str(AT) and o.cell.label in attacks]
        return max(o.left for o in mine)

    def worst(metric: Metric) -> float:
        return held(worst_by_image(panel.judged_by(metric), AT))

    assert of["on alex"].summary["lpips_alex"] > 2 * of["pgd"].summary["lpips_alex"]
    assert worst(ALEX) == pytest.approx(left(ALEX, "pgd"))  # not by "on alex", not by "on both"
    assert worst(SQUEEZE) == pytest.approx(left(SQUEEZE, "on alex", "pgd"))
    assert held(worst_by_image(panel, AT)) == pytest.approx(min(o.left for o in of.values() if o.counts))


def test_the_flag_tells_a_fooled_metric_from_a_ruined_picture(run, tmp_path) -> None:
    _, (panel, *_) = run
    flags = {flag.name: flag for flag in red_flags(panel)}
    fooled = flags["the metric was fooled, not the picture"]
    assert fooled.state == "raised" and "LPIPS (AlexNet)" in fooled.value and "LPIPS (SqueezeNet)" in fooled.value
    assert "on alex" in fooled.value  # "on both" leaves no judge
    assert fooled.name not in {flag.name for flag in red_flags(panel.judged_by(SQUEEZE))}  # told once
    (honest, *_) = _panels(tmp_path / "honest", attacks=ATTACKS[:2])
    assert {f.name: f.state for f in red_flags(honest)}[fooled.name] == "not measured"
    (without, *_) = _panels(tmp_path / "without", attacks=ATTACKS[:2], lpips=None)
    assert fooled.name not in {flag.name for flag in red_flags(without)}


def test_flags_of_a_figure_are_about_the_attacks_that_climb_it(run) -> None:
    _, (panel, *_) = run
    flags = {flag.name: flag for flag in red_flags(panel.judged_by(SQUEEZE))}
    beaten = flags["noise beats white box"]
    assert beaten.state == "clear" and "on alex" in beaten.value and "objective: lpips_alex" in beaten.remedy


def test_the_page_and_the_tables_have_every_figure(run) -> None:
    folder, panels = run
    page = html.unescape(write_report([folder]).read_text(encoding="utf-8"))
    part = page[page.index('id="others"') : page.index('id="gallery"')]
    for title in ("SSIM: higher", "GMSD: lower", "LPIPS (AlexNet): lower", "LPIPS (SqueezeNet): lower"):
        assert title in part
    with open(folder / "report.defences.csv", newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if row["victim"] == panels[0].label]
    assert {row["metric"] for row in rows} == {"psnr", "ssim", "ms_ssim", "gmsd", "lpips_alex", "lpips_squeeze"}


def test_a_former_run_whose_column_did_not_name_its_backbone_is_read(tmp_path) -> None:
    folder = tmp_path / "run"
    write_fake_run(folder, lpips="alex")
    for name in ("results.csv", "summary.csv"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("lpips_alex", "lpips", 1))
    settings = (folder / "config.yaml").read_text()
    assert "lpips:\n- alex\n" in settings
    (folder / "config.yaml").write_text(settings.replace("lpips:\n- alex\n", "lpips: alex\n"))
    (panel, *_) = read_run(folder, TASKS).panels()
    assert panel.clean["lpips_alex"] > 0 and panel.has(ALEX)
    (folder / "config.yaml").write_text(settings.replace("lpips:\n- alex\n", "lpips: null\n"))
    (panel, *_) = read_run(folder, TASKS).panels()
    assert not {"lpips", "lpips_alex"} & panel.clean.keys() and not any(m.learned for m in panel.metrics)

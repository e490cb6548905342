"""The table of corruptions: means over images, drops of captures only, and who should have left them alone."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from fake_run import HOSTILE, write_fake_run

from udc_robust.errors import UserError
from udc_robust.report import corruptions
from udc_robust.report.run_folder import read_run
from udc_robust.tasks import TASKS, write_report

HEAD = "data,restorer,defence,corruption,family,place,severity,image,psnr,ssim,psnr_input\n"
FIGURES = {  # by kind, place, severity: PSNR of three images, and of their inputs
    ("fog", "after", 1): ([28, 29, 30], 20),
    ("fog", "after", 2): ([18, 19, 20], 19.5),
    ("shot_noise", "after", 1): ([24, 25, 26], 26),
    ("shot_noise", "after", 2): ([10, 11, 12], 9),
    ("fog", "before", 2): ([38, 39, 40], 30),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "run"
    write_fake_run(out, restorers=["nafnet_mini"])
    text = HEAD
    for (kind, place, severity), (psnrs, given) in FIGURES.items():
        family = "noise" if "noise" in kind else "weather"
        for i, psnr in enumerate(psnrs):
            text += f"photos,nafnet_mini,none,{kind},{family},{place},{severity},{i},{psnr},0.5,{given}\n"
    (out / "corruptions.csv").write_text(text)
    return out


@pytest.fixture(scope="module")
def table(folder):
    (found,) = corruptions.tables(list(read_run(folder, TASKS).panels()))
    return found


def test_means_drops_and_shares(table) -> None:
    assert table.severities == [1, 2] and table.clean == pytest.approx(31)  # of 30, 31 and 32
    rows = {(kind, place): cells for kind, _, place, cells in table.rows}
    assert list(rows) == [("shot_noise", "after"), ("fog", "after"), ("fog", "before")]
    mild, strong = rows["fog", "after"]
    assert (mild.quality, mild.drop, mild.given) == pytest.approx((29, 2, 20))
    assert (strong.quality, strong.drop, strong.share) == pytest.approx((19, 12, 12 / 20))
    assert [kept.useless for kept in (mild, strong, *rows["shot_noise", "after"])] == [False, True, True, False]
    nothing, before = rows["fog", "before"]
    assert nothing is None and before.drop is None and before.share == 0
    assert table.means == {"after": [pytest.approx(27), pytest.approx(15)], "before": [None, pytest.approx(39)]}


def test_the_verdict_is_of_captures(table) -> None:
    assert table.verdict() == (
        "Of 31.00 dB it keeps 21.00 dB on average over all corruptions of the capture, and 11.00 dB under the worst, "
        "shot noise 2. In 2 of 4 cases the capture was better before the network had it."
    )
    scenes = replace(table, rows=[row for row in table.rows if row[2] == "before"])
    assert scenes.verdict() == ""


def test_rows_for_machines(table) -> None:
    found = corruptions.rows([table])
    assert len(found) == 5 and set(found[0]) == set(corruptions.columns([table]))
    by = {(row["corruption"], row["place"], row["severity"]): row for row in found}
    assert by["fog", "after", 2]["quality"] == pytest.approx(19) and by["fog", "after", 2]["ssim"] == 0.5
    assert by["fog", "after", 2]["low"] < 19 < by["fog", "after", 2]["high"]


def test_the_page_has_the_table_and_escapes_what_is_in_it(folder, tmp_path) -> None:
    page = write_report([folder], tmp_path / "page.html").read_text()
    assert "Threats that nobody aims" in page and "▼ 19.00" in page and "▼ 29.00" not in page
    assert 'href="#corruptions"' in page
    text = (folder / "corruptions.csv").read_text()
    try:
        (folder / "corruptions.csv").write_text(text.replace("shot_noise", f'"{HOSTILE.replace(chr(34), "")}"'))
        assert "<img src=x" not in write_report([folder], tmp_path / "hostile.html").read_text()
    finally:
        (folder / "corruptions.csv").write_text(text)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace(",severity,", ",strength,"),
        lambda text: text.replace("28,0.5", "n/a,0.5"),
        lambda text: text.replace("28,0.5", "many,0.5"),
        lambda text: text[:-30],
    ],
)
def test_a_damaged_table_is_told_in_one_line(tmp_path, folder, spoil) -> None:
    run = shutil.copytree(folder, tmp_path / "run")
    (run / "corruptions.csv").write_text(spoil((folder / "corruptions.csv").read_text()))
    with pytest.raises(UserError, match="is damaged") as told:
        write_report([run], tmp_path / "page.html")
    assert "\n" not in str(told.value)

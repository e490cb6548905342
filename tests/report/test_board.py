"""The leaderboard: right figures, fair comparisons only, and results of others checked to the bottom."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from fake_run import HOSTILE, write_fake_run

from udc_robust.errors import UserError
from udc_robust.files import shipped
from udc_robust.metrics import records
from udc_robust.report.flags import red_flags
from udc_robust.report.run_folder import read_run
from udc_robust.report.worst import held, worst_by_image
from udc_robust.tasks import TASKS, write_leaderboard

ATTACKS = [{"method": "noise"}, {"method": "pgd"}, {"method": "square"}]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with a defence and a brightness attack, whose figures are Square's under another name."""
    folder = tmp_path_factory.mktemp("board") / "one"
    write_fake_run(
        folder, restorers=["nafnet_mini"], attacks=ATTACKS, defences=["none", {"kind": "blur", "role": "control"}],
    )  # fmt: skip
    for name in ("results.csv", "summary.csv"):
        path = folder / name
        path.write_text(path.read_text().replace("square", "brightness"))
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    settings["attacks"][2]["method"] = "brightness"
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


@pytest.fixture
def one(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "one").name)


def _board(*sources: Path, out: str = "board.html") -> dict:
    write_leaderboard(sources, Path(out))
    return json.loads(Path(out).with_suffix(".json").read_text())


def _copy(run: Path, name: str, facts=None, settings=None) -> Path:
    """The same run with something changed in what it says of itself."""
    shutil.copytree(run, name)
    for file, change, load, dump in (
        ("run.json", facts, json.loads, json.dumps),
        ("config.yaml", settings, yaml.safe_load, yaml.safe_dump),
    ):
        if change is not None:
            values = load((Path(name) / file).read_text())
            change(values)
            (Path(name) / file).write_text(dump(values))
    return Path(name)


def test_figures_are_those_of_the_report(one) -> None:
    (one / "report.html").write_text("a report")
    board = _board(one)
    panels = {panel.label: panel for panel in read_run(one, TASKS).panels()}
    assert {row["victim"] for row in board["rows"]} == set(panels) == {"nafnet_mini", "blur + nafnet_mini"}
    for row in board["rows"]:
        panel = panels[row["victim"]]
        assert row["clean"]["psnr"] == pytest.approx(panel.clean["psnr"]) and row["nfe"] == 0
        assert set(row["clean"]) == {"psnr", "ssim", "ms_ssim", "gmsd"}  # LPIPS was not measured
        assert row["raised"] == [flag.name for flag in red_flags(panel) if flag.state == "raised"]
        assert row["command"] == "udc-robust evaluate study.yaml" and row["report"] == "one/report.html"
        for one_held, budget in zip(row["held"], sorted({o.budget for o in panel.outcomes}, key=str), strict=True):
            worst = worst_by_image(panel, budget)
            assert one_held["held"]["psnr"] == pytest.approx(held(worst)) and one_held["strongest"].startswith("pgd")
            assert one_held["low"] < one_held["held"]["psnr"] < one_held["high"]
            # Lower is better: the worst is the largest.
            worst_gmsd = held(worst_by_image(panel.judged_by(records.GMSD), budget))
            assert row["clean"]["gmsd"] < one_held["held"]["gmsd"] == pytest.approx(worst_gmsd) and worst_gmsd < 1
    assert board["preset"] == "none" and board["data"] == [{"name": "photos", "images": 3, "domain": "tonemapped"}]


def test_the_share_of_what_can_be_closed(one) -> None:
    rows = {row["victim"]: row["held"] for row in _board(one)["rows"]}
    bare = next(panel for panel in read_run(one, TASKS).panels() if panel.is_bare)
    for before, after in zip(rows["nafnet_mini"], rows["blur + nafnet_mini"], strict=True):
        cap = next(o for o in bare.outcomes if o.cell.attack.method == "brightness"
                   and f"{o.budget.eps:.7g}" == f"{before['eps']:.7g}")  # fmt: skip
        gap = cap.left - before["held"]["psnr"]
        assert before["cap"] == after["cap"] == pytest.approx(cap.left)
        assert before["closable"] is None and before["why"] == "the undefended network itself"
        assert after["closable"] == pytest.approx((after["held"]["psnr"] - before["held"]["psnr"]) / gap)
        assert after["closable"] != 0
    write_fake_run(Path("without"), restorers=["nafnet_mini"], attacks=ATTACKS)
    told = _board(Path("without"), out="other.html")["rows"][0]["held"][0]
    assert told["closable"] is None and told["cap"] is None
    assert told["why"] == "no brightness or smooth_field attack at L∞\N{NO-BREAK SPACE}1/255 on the undefended network"


def test_ranks_and_tables(one) -> None:
    theirs = _board(one)
    theirs["rows"] = [dict(theirs["rows"][0], victim="rival", run="their run", report="https://example.org/r.html")]
    for at in theirs["rows"][0]["held"]:
        at["held"]["psnr"] += 0.5
    Path("theirs.json").write_text(json.dumps(theirs))
    board = _board(one, Path("theirs.json"), out="both.html")
    assert [row["victim"] for row in board["rows"]] == ["nafnet_mini", "blur + nafnet_mini", "rival"]
    page = Path("both.html").read_text()
    body = re.search(r"<tbody>(.*?)</tbody>", page, re.S)[1]
    held_at = {row["victim"]: row["held"][-1]["held"]["psnr"] for row in board["rows"]}
    shown = re.findall(r'<th scope="row" data-value="([^"]*)"', body)
    assert shown == sorted(held_at, key=lambda name: -held_at[name])
    assert '<a href="https://example.org/r.html">rival</a>' in page and "study.yaml" in page
    with open("both.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 3 * 2 and {row["images"] for row in rows} == {board["digest"]}
    assert float(rows[0]["held_psnr"]) == pytest.approx(board["rows"][0]["held"][0]["held"]["psnr"], rel=1e-6)


def _domain(facts) -> None:
    facts["data"]["photos"]["domain"] = "srgb"


def _preset(facts) -> None:
    facts["preset"] = "standard-1"


def _images(settings) -> None:
    settings["fingerprint"]["images"] = "others"


def _display(settings) -> None:
    settings["data"][0]["psf"] = "poled"


def _subject(settings) -> None:
    settings["data"][0]["subject"] = "night"


@pytest.mark.parametrize(
    "facts, settings, message",
    [
        (_domain, None, r"one and two differ in their colour domain \(tonemapped and srgb\): .*leave one out"),
        (_preset, None, r"one and two differ in their preset \(none and standard-1\)"),
        (None, _images, r"one and two differ in their images \([0-9a-f]{16} and [0-9a-f]{16}\)"),
        (None, _display, r"one and two differ in their images"),
        (None, _subject, r"one and two differ in their images"),
    ],
)
def test_what_may_not_be_compared_is_refused(one, facts, settings, message) -> None:
    two = _copy(one, "two", facts, settings)
    with pytest.raises(UserError, match=message) as told:
        _board(one, two)
    assert "\n" not in str(told.value) and not Path("board.html").exists()
    if facts is not _preset:
        assert _board(two)["rows"]  # alone it may be shown


def test_who_quotes_a_preset_ran_it_at_its_budgets(one) -> None:
    """The default of the task; the run's are 1/255 and 4/255."""
    two = _copy(one, "two", _preset)
    with pytest.raises(UserError) as told:
        _board(two)
    assert str(told.value) == (
        "two ran standard-1 at eps 1/255, 4/255, and the preset's are 1/255, 2/255, 4/255, 8/255: attacks go on from "
        "smaller budgets, so run it with these (leave out `eps`)"
    )
    board = _board(one) | {"preset": "standard-2"}
    for row in board["rows"]:
        low, high = row["held"]
        row["held"] = [dict(at, eps=k / 255) for k, at in ((1, low), (2, low), (4, high), (8, high))]
    Path("theirs.json").write_text(json.dumps(board))
    assert _board(Path("theirs.json"))["preset"] == "standard-2"
    Path("theirs.json").write_text(json.dumps(board | {"preset": "standrd-2"}))
    with pytest.raises(UserError, match=r"theirs.json: unknown preset 'standrd-2'.*did you mean 'standard-2'"):
        _board(Path("theirs.json"))


def test_other_tasks_and_runs_that_cannot_be_ranked(one) -> None:
    theirs = _board(one)
    for row in theirs["rows"]:
        row["clean"], row["held"] = {"top1": 90}, [dict(at, held={"top1": 20}) for at in row["held"]]
    Path("theirs.json").write_text(json.dumps(theirs | {"task": "classification"}))
    with pytest.raises(UserError, match=r"differ in their task \(restoration and classification\)"):
        _board(one, Path("theirs.json"), out="x.html")
    write_fake_run(Path("blind"), truth=False)
    with pytest.raises(UserError, match="blind: photos has no ground truth"):
        _board(Path("blind"))
    write_fake_run(Path("noise"), attacks=["noise"])
    with pytest.raises(UserError, match="noise has no attack of a limited budget"):
        _board(Path("noise"))
    with pytest.raises(UserError, match="one is named twice"):
        _board(one, one)


def _first(change):
    return lambda board: change(board["rows"][0])


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda b: b.pop("digest"), "digest is missing"),
        (lambda b: b.update(format="2"), "format"),
        (lambda b: b.update(task="restoring"), "did you mean 'restoration'"),
        (lambda b: b.update(digest="mine"), "digest: "),
        (lambda b: b.update(rows=[]), "rows: "),
        (_first(lambda r: r.update(score=3)), "score"),
        (_first(lambda r: r.update(nfe=-1)), "rows.0.nfe"),
        (_first(lambda r: r.update(command="udc-robust evaluate /home/me/x.yaml")), "rows.0.command: .*machine"),
        (_first(lambda r: r.update(report="javascript:alert(1)")), "rows.0.report: .*https://"),
        (_first(lambda r: r.update(report="/srv/x/report.html")), "rows.0.report"),
        (_first(lambda r: r["clean"].update(psnr="NaN")), "rows.0.clean.psnr"),
        (_first(lambda r: r["clean"].update(psnrr=3)), "rows.0 .*psnrr"),
        (_first(lambda r: r["clean"].pop("psnr")), "rows.0 .*psnr is missing"),
        (_first(lambda r: r.update(data="others")), "its data 'others' is not among photos"),
        (_first(lambda r: r["held"].append(r["held"][0])), "a budget is there twice"),
        (_first(lambda r: r["held"][1]["held"].update(psnr=29.9)), "29.90 dB at .*never rises with eps"),
        (_first(lambda r: r["held"][0]["held"].update(psnr=70)), "70.00 dB at .*1/255 and 31.00 dB clean"),
        (_first(lambda r: r["held"][0].update(eps=0)), "rows.0.held.0.eps"),
    ],
)
def test_files_of_others_are_checked(one, spoil, message) -> None:
    board = _board(one)
    spoil(board)
    Path("theirs.json").write_text(json.dumps(board))
    with pytest.raises(UserError, match=message) as told:
        _board(Path("theirs.json"), out="checked.html")
    assert str(told.value).startswith("theirs.json") and "\n" not in str(told.value)
    assert not Path("checked.html").exists()


@pytest.mark.parametrize("text", ["", "[1]", "{", '"x"', "\0", "[" * 100_000])
def test_what_is_no_file_of_ours_is_told(text) -> None:
    Path("theirs.json").write_text(text)
    with pytest.raises(UserError, match=r"theirs.json"):
        _board(Path("theirs.json"), out="x.html")


def test_a_page_made_of_its_own_file_says_the_same(one) -> None:
    board = _board(one)
    Path("sent.json").write_text(json.dumps(board))
    assert _board(Path("sent.json"), out="again.html") == board


@pytest.mark.parametrize("path", sorted((shipped("checkpoints") / "leaderboard").glob("*.json")), ids=lambda p: p.stem)
def test_results_that_ship_are_sound(path) -> None:
    assert _board(path)["rows"]


def test_what_is_written_travels(one, tmp_path) -> None:
    settings = yaml.safe_load((one / "config.yaml").read_text())
    settings["name"] = f"study {HOSTILE.replace('/', '')}"
    (one / "config.yaml").write_text(yaml.safe_dump(settings))
    (one / "report.html").write_text("a report")
    elsewhere = tmp_path.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    for out in (Path("board.html"), elsewhere / "board.html"):
        write_leaderboard([one], out)
        texts = [out.with_suffix(ending).read_text() for ending in (".html", ".csv", ".json")]
        assert all(str(tmp_path) not in text and "/home" not in text for text in texts)
        assert "<img src=x" not in texts[0] and 'src="http' not in texts[0]
    assert "one/report.html" in Path("board.html").read_text()
    assert "report.html" not in texts[0]  # the way there would tell folders of this machine


def test_what_was_photographed_otherwise_is_other_images(one) -> None:
    run = read_run(one, TASKS)

    def images(**changes):
        return replace(run, settings={**run.settings, "data": [{**run.settings["data"][0], **changes}]}).images

    others = [
        {"psf": "poled"}, {"subject": "night"}, {"whole": True}, {"shot": 0.1}, {"read": 0.1}, {"shift_px": 1},
        {"white": 2}, {"region": [0, 0, 4, 4]}, {"bits": 12}, {"pattern": ["R", "GR", "GB", "B"]},
        {"white_balance": [2, 1, 2]}, {"develop": False}, {"space": "scene"}, {"space": "scene", "domain": "srgb"},
    ]  # fmt: skip
    assert len({images(), *(images(**changes) for changes in others)}) == 1 + len(others)
    assert images(domain="tonemapped", space="capture") == images()

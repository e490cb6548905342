"""Every verb that writes refuses what it may not write to before any work; a run and its report know their place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from clean_folder import run

from udc_robust.data.images import write_image

PAIRS = "data={kind: pairs, lq: S/lq, gt: S/gt}"
TINY = ["restorers=nafnet_mini", PAIRS, "attacks=[{method: pgd, steps: 1}]", "eps=4/255", "lpips=null"]
VERBS = {
    "evaluate": ["evaluate", "quickstart", *TINY],
    "attack": ["attack", "S/lq"],
    "restore": ["restore", "S/lq"],
    "purify": ["purify", "S/lq"],
    "noise-level": ["noise-level", "nafnet_mini"],
    "limits": ["limits", "nafnet_mini", "--images", "S/lq", "--gt", "S/gt"],
    "limits of scenes": ["limits", "nafnet_mini", "--images", "S/gt", "--gt", "S/gt", "--scenes", "S/lq"],
    "level of a purifier": ["noise-level", "nafnet_mini", "S/lq", "--weights", "file"],
    "certify": ["certify", "digits_mini", "--data", "S"],
    "tolerance": ["tolerance", "nafnet_mini", "--scenes", "S/lq"],
    "synth": ["synth", "S/lq", "--kind", "photo"],
    "fetch": ["fetch"],
    "train": ["train", "restorer", "nafnet_mini", "train=S", "validation=S"],
    "diffusion": ["train", "diffusion", "purifier_mini", "train=S/lq", "validation=S/lq"],
    "finetune": ["finetune", "nafnet_mini_adversarial", "parent=nafnet_mini", "train=S", "validation=S"],
}


@pytest.fixture(autouse=True)
def pictures(tmp_path):
    for name in "xy":
        write_image(tmp_path / "S" / "gt" / f"{name}.png", torch.rand(3, 40, 40))
        write_image(tmp_path / "S" / "lq" / f"{name}.png", torch.rand(3, 40, 40))
    (tmp_path / "file").write_text("mine")


def _files() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(".").rglob("*") if path.is_file()}


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_writes_to_what_is_no_folder(verb, capsys) -> None:
    before = _files()
    for out in ("file", "file/below", "/dev/null", "x" * 300):
        run(*VERBS[verb], "--out", out, code=2)
        told = capsys.readouterr().err.splitlines()
        assert len(told) == 1 and "--out" in told[0], told
    assert _files() == before


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("noise-level", "fetch")])
def test_no_verb_writes_to_where_it_reads(verb, capsys) -> None:
    before = _files()
    Path("link").symlink_to("S")
    for out in ("link/lq", "S/lq") if verb not in ("train", "finetune") else ("S", "link"):
        run(*VERBS[verb], "--out", out, code=2)
        (told,) = capsys.readouterr().err.splitlines()
        assert "--out" in told
    Path("link").unlink()
    assert _files() == before


@pytest.mark.parametrize("verb", ["restore", "purify"])
def test_pictures_of_the_user_are_not_written_over(verb, capsys) -> None:
    write_image("kept/x.png", torch.rand(3, 8, 8))
    before = _files()
    run(*VERBS[verb], "--out", "kept", code=2)
    assert "x.png is there already" in capsys.readouterr().err and _files() == before


@pytest.mark.parametrize("verb", ["restore", "purify", "synth", "evaluate", "train"])
def test_no_verb_writes_to_where_another_process_does(verb, capsys) -> None:
    hold = "import time; from pathlib import Path; from udc_robust.lock import sole_writer\n"
    hold += "with sole_writer(Path('taken')): print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        options = ["patch_size=16", "batch_size=1"] if verb == "train" else []
        run(*VERBS[verb], *options, "--out", "taken", code=2)
        assert "another process is writing to taken" in capsys.readouterr().err.splitlines()[-1]
        assert [path.name for path in Path("taken").iterdir()] == [".lock"]
        process.kill()


def test_a_report_replaces_reports_only(capsys) -> None:
    run(*VERBS["evaluate"], "--out", "one")
    run(*VERBS["evaluate"], "--out", "two")
    (results, page) = ((Path("one") / name).read_bytes() for name in ("results.csv", "report.html"))
    Path("index.html").write_text("mine")
    for arguments in (
        ["one", "--out", "one/results.csv"],
        ["one", "--out", "index.html"],
        ["one", "--out", "S"],
        ["one", "two", "--out", "one/report.html"],
    ):
        run("report", *arguments, code=2)
    assert (Path("one") / "results.csv").read_bytes() == results and Path("index.html").read_text() == "mine"
    run("report", "one")
    run("report", "one", "two", "--out", "both.html")
    run("report", "one", "two", "--out", "both.html")
    assert (Path("one") / "report.html").read_bytes() == page
    assert str(Path.cwd()) not in (Path("one") / "run.json").read_text()


def test_a_leaderboard_replaces_leaderboards_only(capsys) -> None:
    run(*VERBS["evaluate"], "--out", "one")
    Path("index.html").write_text("mine")
    Path("notes.json").write_text("{}")
    Path("figures.csv").write_text("a,b\n1,2\n")
    run("leaderboard", "one", "--out", "board.html")
    before = _files()
    for arguments in (
        ["one", "--out", "index.html"],
        ["one", "--out", "notes.html"],  # whose .json is not ours
        ["one", "--out", "figures.html"],  # whose .csv is not ours
        ["one", "--out", "one/results.html"],
        ["one", "--out", "one/report.html"],
        ["board.json", "--out", "board.html"],  # which is read
        ["one", "--out", "board.csv"],
        ["one", "--out", "S"],
        ["nothing"],
        ["S/lq"],
        ["notes.json"],
    ):
        capsys.readouterr()
        run("leaderboard", *arguments, code=2)
        assert len(capsys.readouterr().err.splitlines()) == 1, arguments
    assert _files() == before
    run("leaderboard", "one", "--out", "board.html")
    assert _files() == before


def test_names_are_shown_and_pictures_of_any_name_are_evaluated(capsys) -> None:
    import os

    odd = ["写" * 40, "x" * 250, os.fsdecode(b"caf\xe9"), "öl", "a\x1b[31mb", "[bold]c", ":smile:", "100%41"]
    for part in ("lq", "gt"):
        for name in odd:
            write_image(Path("odd") / part / f"{name}.png", torch.rand(3, 40, 40))
    data = "data={kind: pairs, lq: odd/lq, gt: odd/gt}"
    run("evaluate", "quickstart", *TINY, data, "name='[bold]run :smile:'", "--out", "run")
    told = capsys.readouterr()
    assert "[bold]run :smile:" in told.err and "\x1b" not in told.out + told.err
    rows = (Path("run") / "results.csv").read_text(encoding="utf-8")
    assert all(name in rows for name in ("写" * 40, r"caf\xe9", r"a\x1b[31mb", "[bold]c")) and "\x1b" not in rows
    names = (Path("run") / "images" / "names.json").read_text()
    assert names.count("~") == 2 and "x" * 250 in names
    run("restore", "odd/lq", "--out", "restored")
    assert sum(path.suffix == ".png" for path in Path("restored").iterdir()) == len(odd)

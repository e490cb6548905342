"""Every file of a run folder, damaged in every way: the run ends with the same table, or one line names the file."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from small_run import make_workplace, run

from udc_robust.errors import UserError
from udc_robust.tasks import write_report

FILES = (
    "config.yaml", "inputs.json", "run.json", "matched.json", "journal.jsonl", "results.csv", "summary.csv",
    "timings.csv",
)  # fmt: skip
DAMAGES = {
    "missing": None, "a folder": None, "a pipe": None, "empty": b"", "binary": bytes(range(256)), "list": b"[1, 2]\n",
    "number": b"5\n", "brace": b"{", "object": b"{}\n", "null": b"null\n", "deep": b"[" * 3000,
}  # fmt: skip
CHANGES = {
    "batch_size": 5, "gallery": 1, "eps": ["4/255"], "draws": 1, "attacks": [{"method": "pgd", "steps": 1}],
    "defences": ["none", {"kind": "noise", "name": "noisy", "sigma": 0.1}, {"kind": "bit_depth", "match": "noisy"}],
}  # fmt: skip


def _run(workplace: Path, out: str) -> Path:
    validation = {"kind": "pairs", "lq": str(workplace / "lq"), "gt": str(workplace / "gt"), "limit": 1}
    return run(workplace, out, validation=validation, **CHANGES)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run beside its data."""
    workplace = make_workplace(tmp_path_factory.mktemp("damaged"))
    write_report([_run(workplace, "good")])
    return workplace


def _damaged(workplace: Path, name: str, how: str) -> Path:
    out = workplace / "bad"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(workplace / "good", out)
    path = out / name
    content = path.read_bytes()
    path.unlink()
    if how == "a folder":
        path.mkdir()
    elif how == "a pipe":
        os.mkfifo(path)
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "utf-16":
        path.write_bytes(content.decode().encode("utf-16"))
    elif how != "missing":
        path.write_bytes(DAMAGES[how] or b"")
    return out


FEW = ("brace", "a folder", "a pipe")
REST = sorted({*DAMAGES, "cut", "utf-16"} - {*FEW})


@pytest.mark.parametrize("hows", [FEW, pytest.param(REST, marks=pytest.mark.slow)], ids=["few", "rest"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_or_made_again(finished, name, hows) -> None:
    whole = (finished / "good" / "results.csv").read_bytes()
    for how in hows:
        out = _damaged(finished, name, how)
        try:
            assert write_report([out]).is_file()
        except UserError as error:
            assert "bad" in str(error) and "\n" not in str(error), how
        try:
            _run(finished, "bad")
        except UserError as error:
            assert "bad" in str(error) and "\n" not in str(error) and name != "inputs.json", how
        else:
            assert name != "config.yaml" and (out / "results.csv").read_bytes() == whole, how


@pytest.mark.parametrize("line", ["[]", '{"unit": 5}', '{"unit": "a/b"}', '{"unit": "a", "rows": [5], "cost": {}}'])
def test_a_line_of_the_journal_that_says_nothing_is_named(finished, line) -> None:
    out = _damaged(finished, "run.json", "missing")
    with open(out / "journal.jsonl", "a") as handle:
        handle.write(line + "\n")
    count = len((out / "journal.jsonl").read_bytes().splitlines())
    with pytest.raises(UserError, match=f"line {count} is damaged .*delete that line"):
        _run(finished, "bad")


def test_what_is_lost_with_a_table_comes_back_from_the_journal(finished) -> None:
    out = _damaged(finished, "results.csv", "missing")
    for name in ("summary.csv", "timings.csv", "run.json"):
        (out / name).unlink()
    with pytest.raises(UserError, match=r"run.json is missing; run `udc-robust evaluate`"):
        write_report([out])
    _run(finished, "bad")
    for name in ("results.csv", "summary.csv", "timings.csv"):
        assert (out / name).read_bytes() == (finished / "good" / name).read_bytes()


def test_a_picture_of_the_gallery_that_cannot_be_read_is_named(finished) -> None:
    picture = next((finished / "good" / "images").rglob("clean.output.png")).relative_to(finished / "good")
    out = _damaged(finished, str(picture), "empty")
    with pytest.raises(UserError, match=r"output.png is empty .*; or delete it"):
        write_report([out])
    (out / picture).unlink()
    assert write_report([out]).is_file()


def test_a_temporary_file_of_a_kill_does_not_spoil_a_folder(finished) -> None:
    out = finished / "begun"
    out.mkdir()
    (out / ".inputs.999999999.tmp.json").write_text("{")
    _run(finished, "begun")
    assert not list(out.glob(".*")) and (out / "results.csv").is_file()


def test_nothing_in_a_run_says_on_whose_machine_it_was_made(finished) -> None:
    page = write_report([finished / "good"])
    for path in (page, *(finished / "good" / name for name in FILES if name != "config.yaml")):
        assert str(finished) not in path.read_text(), path
    assert json.loads((finished / "good" / "run.json").read_text())["name"] == "test"

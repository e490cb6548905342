"""No verb writes over what it reads or over what it did not write, and all of them ask before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from udc_robust.errors import UserError
from udc_robust.outputs import check_files, file_name, note_file, output_file, output_folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("mine")
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "out, message",
    [
        ("file", "file is no folder"),
        ("file/deeper/still", "file is no folder"),
        ("/dev/null", "/dev/null is no folder"),
        ("/dev/full/x", "/dev/full is no folder"),
        ("pipe", "pipe is no folder"),
        ("dangling", "a link to nothing"),
        ("loop/x", "a link to nothing"),
        ("x" * 300, "choose a shorter one"),
        ("/".join(["写" * 80] * 20), "choose a shorter one"),
        ("a\0b", "choose a shorter one"),
        ("/proc/x", "cannot be written"),
        ("photos", "is read from"),
        ("link", "is read from"),
        ("photos/../photos", "is read from"),
    ],
)
def test_places_that_cannot_be_written_or_are_read_are_refused(place, out, message) -> None:
    for reads in ([place / "photos"], [Path("photos/a.png")], [place / "link" / "a.png"]):
        with pytest.raises(UserError, match=message) as told:
            output_folder(Path(out), reads)
        assert "\n" not in str(told.value)
    assert sorted(path.name for path in place.iterdir()) == ["dangling", "file", "link", "loop", "photos", "pipe"]


def test_folders_inside_what_is_read_or_that_hold_it(place) -> None:
    assert output_folder(Path("photos/restored"), [Path("photos")]) == Path("photos/restored")
    with pytest.raises(UserError, match="lies in photos"):
        output_folder(Path("photos/run"), [Path("photos")], apart=True)
    with pytest.raises(UserError, match="is read from"):
        output_folder(Path("."), [Path("photos")], below=["photos"])
    assert output_folder(Path("new/er"), [Path("photos")], apart=True) and not Path("new").exists()


def test_a_file_has_its_ending_and_is_not_one_that_is_read(place) -> None:
    for out, message in (
        ("results.csv", "must end in .html or .htm"),
        ("photos", "must end in"),
        ("file/x.html", "file is no folder"),
        ("page.html", "is read"),
    ):
        with pytest.raises(UserError, match=message):
            output_file(Path(out), (".html", ".htm"), [Path("page.html")])
    Path("folder.html").mkdir()
    with pytest.raises(UserError, match="is no file"):
        output_file(Path("folder.html"), (".html",))
    assert output_file(Path("deep/page.HTML"), (".html",)) == Path("deep/page.HTML")


def test_only_what_was_written_this_way_is_written_again(place) -> None:
    check_files(place / "new", ["a.png", "b.png"])
    assert not (place / "new").exists()
    note_file(place / "new" / "a.png").write_text("ours")
    check_files(place / "new", ["a.png", "c.png"])
    with pytest.raises(UserError, match=r"a.png is there already"):
        check_files(place / "photos", ["a.png"])
    (place / "new" / ".written.json").write_text("{")
    with pytest.raises(UserError, match=r"a.png is there already"):
        check_files(place / "new", ["a.png"])


@pytest.mark.parametrize(
    "name", ["", " ", "../x", "a/b", "a\\b", ".", "..", ".hidden", "a\nb", "a\x1b[m", "x" * 101, "写" * 34]
)
def test_names_of_runs_are_file_names(name) -> None:
    with pytest.raises(ValueError, match="file"):
        file_name(name)


@pytest.mark.parametrize("name", ["quickstart", "my run (2)", "写真", "a[bold]b", "x" * 100])
def test_ordinary_names_stay(name) -> None:
    assert file_name(name) == name

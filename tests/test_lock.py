"""A second process is told; locks and temporary files of killed processes are no hindrance and go away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from udc_robust.errors import UserError
from udc_robust.lock import LOCK, sole_writer

HOLD = "import sys, time; from pathlib import Path; from udc_robust.lock import sole_writer\n"
HOLD += "with sole_writer(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def _holder(folder, **environment: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_told_and_a_killed_one_is_forgotten(tmp_path) -> None:
    with _holder(tmp_path / "run") as process:
        with (
            pytest.raises(UserError, match=f"another process is writing to .*process {process.pid} on "),
            sole_writer(tmp_path / "run"),
        ):
            raise AssertionError
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / "run" / LOCK).is_file()
    with sole_writer(tmp_path / "run"), sole_writer(tmp_path / "run"):
        assert str(os.getpid()) in (tmp_path / "run" / LOCK).read_text()
    assert list((tmp_path / "run").iterdir()) == []


def test_processes_of_one_launch_share_the_lock(tmp_path, monkeypatch) -> None:
    with _holder(tmp_path) as process:
        monkeypatch.setenv("RANK", "1")
        with sole_writer(tmp_path):
            pass
        process.kill()


def test_temporary_files_of_dead_processes_are_removed(tmp_path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "images").mkdir()
    (tmp_path / f".purifier.{gone.pid}.tmp").mkdir()
    (tmp_path / f".purifier.{gone.pid}.tmp" / "model.json").write_text("")
    for name in (f".state.{gone.pid}.tmp.pt", f"images/.a.{gone.pid}.tmp.png", f".LICENCE.{gone.pid}.tmp"):
        (tmp_path / name).write_text("")
    kept = [f".state.{os.getppid()}.tmp.pt", ".mine", "a.tmp", ".diary.tmp.txt"]
    for name in kept:
        (tmp_path / name).write_text("")
    with sole_writer(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "images"])
    assert list((tmp_path / "images").iterdir()) == []


def test_only_what_is_ours_is_removed_from_a_folder_of_the_user(tmp_path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "deep").mkdir()
    for folder in (tmp_path, tmp_path / "deep"):
        (folder / f".a.{gone.pid}.tmp.png").write_text("")
    with sole_writer(tmp_path, whole=False):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["deep"] and list((tmp_path / "deep").iterdir())


def test_a_folder_that_nothing_was_written_to_goes_away(tmp_path) -> None:
    with sole_writer(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()

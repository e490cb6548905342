"""Files are whole or absent, and a full disk is said in one line."""

from __future__ import annotations

import errno
import os

import pytest

from udc_robust.errors import UserError, unknown_name
from udc_robust.files import atomic_path, shipped, write_text


def test_a_failed_write_leaves_the_old_file(tmp_path) -> None:
    path = tmp_path / "a" / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_full_disk_is_the_users_to_mend(tmp_path, monkeypatch) -> None:
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*report\.html: No space left.*same command again"):
        write_text(tmp_path / "report.html", "text")
    assert list(tmp_path.iterdir()) == []


def test_unknown_names_are_answered_with_the_nearest() -> None:
    assert "did you mean 'NAFNet'" in str(unknown_name("network", "NAFnet", ["NAFNet", "DISCNet"]))
    assert "did you mean" not in str(unknown_name("network", "zzz", ["NAFNet"]))


def test_shipped_folders_exist() -> None:
    assert shipped("configs").is_dir() and shipped("checkpoints").is_dir()

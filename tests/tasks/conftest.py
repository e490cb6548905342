"""Fixtures of the tests of classifier studies."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_study import make_workplace, run


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A finished study with its report; not to be changed."""
    from udc_robust.tasks import write_report

    folder = make_workplace(tmp_path_factory.mktemp("study"))
    write_report([run(folder, "out")])
    return folder / "out"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the tiny classifier."""
    return make_workplace(tmp_path)

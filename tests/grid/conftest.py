"""Fixtures of the evaluation tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_run import make_workplace


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """Five pairs of two sizes and a small network with weights."""
    return make_workplace(tmp_path)

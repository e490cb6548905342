"""Shared pieces of the tests: the data kit beside the checkout, where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import settings

# The same examples on every machine: a change that breaks nothing must not meet a new one in CI. To look for new ones:
# `pytest --hypothesis-profile=search`.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile("fixed")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """``-m shared`` selects what takes the kit; what needs a GPU skips where there is none."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("shared")
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the data kit; the test skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the data kit, not found at {SHARED}")
    return SHARED


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)

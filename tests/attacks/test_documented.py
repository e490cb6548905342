"""``configs/ATTACKS.md`` tells of every method what it takes and what it needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from udc_robust.attacks import METHODS

PAGE = (Path(__file__).parents[2] / "configs" / "ATTACKS.md").read_text(encoding="utf-8")
ROWS = {
    row[1].strip(" `"): [cell.strip() for cell in row[2:-1]]
    for row in (line.split("|") for line in PAGE.partition("## Towards a picture")[0].splitlines())
    if len(row) > 4 and row[1].startswith(" `")
}


def test_every_method_has_its_row_and_no_other() -> None:
    assert set(ROWS) == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_options_and_access_are_those_of_the_code(name) -> None:
    method = METHODS[name]
    told = ROWS[name] if method.access == "gradient" else ROWS[name][1:]
    assert re.findall(r"`(\w+)`", told[0]) == list(method.options())
    assert method.access == "gradient" or ROWS[name][0] == method.access
    assert method.images_only == told[-1].endswith("; restorers")

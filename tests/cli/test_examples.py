"""Every example of ``--help`` does what it says, from a clean folder."""

from __future__ import annotations

import re
import shlex

import pytest
from clean_folder import VERBS, run_small

EXAMPLES = [
    " ".join(example.split())
    for command in VERBS.values()
    for example in re.findall(r"`udc-robust ([^`]+)`", (command.help or "").partition("Example:")[2])
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs(example) -> None:
    run_small(shlex.split(example))


def test_every_verb_that_takes_something_has_an_example() -> None:
    silent = [verb for verb, command in VERBS.items() if command.params and "Example: `udc-robust" not in command.help]
    assert silent == []

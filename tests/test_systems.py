"""The page of systems: all 53 stand on it once, and its commands are understood by the program as it is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from udc_robust.cli import app
from udc_robust.cli.configs import find_config
from udc_robust.config_file import check_config, read_values
from udc_robust.tasks import load_run_config
from udc_robust.training.classifier_config import ClassifierConfig
from udc_robust.training.filter_config import FilterConfig
from udc_robust.training.finetune_config import FinetuneConfig

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "configs/SYSTEMS.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+) \| (.+?) \| (.+) \|$", PAGE, re.MULTILINE)
COMMANDS = sorted({shlex.join(shlex.split(found)) for found in re.findall(r"`udc-robust (\w[^`]+ [^`]+)`", PAGE)})
TRAININGS = {"train classifier": ClassifierConfig, "train filter": FilterConfig, "finetune": FinetuneConfig}


def test_every_system_stands_there_once_with_a_command_or_a_reason() -> None:
    assert [int(number) for number, _, _ in ROWS] == list(range(1, 54))
    for number, system, here in ROWS:
        runs = "`udc-robust " in here or "`scripts/" in here
        assert runs != here.startswith("out of scope: "), f"{number} {system} needs a command or one reason"
    assert all((ROOT / script).is_file() for script in re.findall(r"`(scripts/\S+?\.\w+)", PAGE))


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_are_understood(command) -> None:
    """Verb, config, keys and options exist; nothing is run."""
    words = shlex.split(command)
    verb = " ".join(words[:2]) if words[0] == "train" else words[0]
    rest = words[len(verb.split()) :]
    if verb in TRAININGS:
        path, _ = find_config(Path(rest[0]), verb)
        check_config(read_values(path, rest[1:]), TRAININGS[verb], command)
    elif verb in ("evaluate", "classify"):
        assert load_run_config(find_config(Path(rest[0]), "evaluate")[0], rest[1:]).networks
    else:
        group = typer.main.get_command(app)
        group.commands[verb].make_context(verb, rest)  # type: ignore[attr-defined]

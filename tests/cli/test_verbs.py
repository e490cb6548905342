"""The command line: light to start, helpful, and strict about exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from clean_folder import VERBS
from clean_folder import run as run_here


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys) -> None:
    run_here(*verb.split(), "--help")
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["configs"],
        ["evaluat"],
        ["evaluate", "quikstart"],
        ["train", "restorer", "nafnet_mini", "stepz=1"],
        ["finetune", "nafnet_mini_adversarial", "parent"],
        ["restore", "nowhere.png"],
        ["report", "nowhere"],
        ["synth", "nowhere", "--out", "x"],
        ["attack", ".", "--method", "pdg"],
        ["attack", ".", "--restorer", "nafnet_mimi"],
        ["attack", ".", "--lpips", "alexa"],
        ["restore", ".", "--restorer", "nafnet_mimi"],
        ["evaluate", "broken.yaml"],
        ["evaluate", "quickstart", "sede=1"],
        ["evaluate", "quickstart", "attacks=[pdg]"],
        ["classify", "classifiers_quickstart", "data.sorce=x"],
    ],
    ids=" ".join,
)
def test_what_only_parses_or_fails_loads_nothing_heavy(arguments) -> None:
    code = (
        "import atexit, sys; from udc_robust.cli import main; sys.argv = ['udc-robust', *sys.argv[1:]];"
        "heavy = ('torch', 'numpy', 'basicsr', 'diffusers', 'torchvision', 'matplotlib');"
        "atexit.register(lambda: print([m for m in heavy if m in sys.modules]));"
        "main()"
    )
    Path("broken.yaml").write_text("name: [")
    told = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert told.returncode in (0, 2) and told.stdout.endswith("[]\n"), told.stdout + told.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["evaluate", "nowhere.yaml"], "no config at nowhere.yaml"),
        (["evaluate", "quickstart", "sede=1"], "did you mean 'seed'"),
        (["evaluate", "quickstart", "device=cuda:99"], "device"),
        (["restore", "nowhere.png"], "nowhere.png"),
        (["report", "nowhere"], "nowhere"),
        (["attack", ".", "--method", "pdg"], "did you mean 'pgd'"),
        (["evaluat"], "No such command 'evaluat'. Did you mean 'evaluate'; try `udc-robust --help`"),
        (["train", "foo"], "No such command 'foo'; try `udc-robust train --help`"),
        (["restore"], "Missing argument 'images'; try `udc-robust restore --help`"),
        (["train", "restorer", "--fool", "3"], "No such option: --fool; try `udc-robust train restorer --help`"),
        (["restore", "--tile", "x", "."], "Invalid value for '--tile': "),
        (["restore", ".", "--tile"], "Option '--tile' requires an argument; try `udc-robust"),
        (["synth", "nowhere", "--out", "x"], "nowhere"),
    ],
)
def test_the_users_mistakes_exit_with_2_and_one_line(arguments, message, capsys) -> None:
    run_here(*arguments, code=2)
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("udc-robust: ") and message in told


def test_a_fault_of_ours_exits_with_1_and_its_traceback(monkeypatch, capsys) -> None:
    monkeypatch.setattr("udc_robust.cli.configs.list_configs", lambda: 1 / 0)
    run_here("configs", code=1)
    assert "ZeroDivisionError" in (told := capsys.readouterr().err) and "a fault of ours" in told


def test_the_module_is_the_program_too() -> None:
    told = subprocess.run([sys.executable, "-m", "udc_robust", "evaluat"], capture_output=True, text=True)
    assert told.returncode == 2 and "Did you mean 'evaluate'" in told.stderr


@pytest.mark.slow
def test_models_and_doctor_speak(capsys) -> None:
    run_here("models")
    models = capsys.readouterr().out
    assert "nafnet_mini" in models and "Restormer" in models
    run_here("doctor")
    findings = capsys.readouterr().out
    assert "torch" in findings and "LPIPS alex backbone" in findings and "shipped checkpoints" in findings


def test_configs_are_listed_by_what_they_are_for(capsys) -> None:
    run_here("configs")
    groups = capsys.readouterr().out.split("\n\n")
    assert "evaluate NAME" in groups[0] and "  quickstart  " in groups[0] and "The main job" in groups[0]
    assert any("train restorer NAME" in group and "  nafnet_mini  " in group for group in groups)

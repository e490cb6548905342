"""The command line: light to start, helpful, and strict about exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "udc_robust", *arguments], capture_output=True, text=True, **options)


VERBS = [
    *("evaluate", "report", "attack", "restore", "synth", "fetch", "noise-level"),
    *("psf-code", "train restorer", "purify", "train diffusion", "train classifier", "models", "configs", "doctor"),
]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb) -> None:
    result = run(*verb.split(), "--help")
    assert result.returncode == 0 and "Usage" in result.stdout
    assert verb in ("models", "configs", "doctor") or "Example" in result.stdout


def test_starting_imports_nothing_heavy() -> None:
    code = (
        "import sys, udc_robust, udc_robust.cli;"
        "heavy = ('torch', 'numpy', 'basicsr', 'diffusers', 'torchvision', 'matplotlib');"
        "print([m for m in heavy if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["evaluate", "nowhere.yaml"], "no config at nowhere.yaml"),
        (["evaluate", "quickstart", "sede=1"], "did you mean 'seed'"),
        (["evaluate", "quickstart", "device=cuda:99"], "device"),
        (["restore", "nowhere.png"], "nowhere.png"),
        (["report", "nowhere"], "nowhere"),
        (["attack", ".", "--method", "pdg"], "did you mean 'pgd'"),
        (["evaluat"], "No such command"),
        (["synth", "nowhere", "--out", "x"], "nowhere"),
    ],
)
def test_the_users_mistakes_exit_with_2_and_one_line(arguments, message, tmp_path) -> None:
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr and "Traceback" not in result.stderr


def test_models_and_doctor_speak() -> None:
    models = run("models").stdout
    assert "nafnet_mini" in models and "Restormer" in models
    findings = run("doctor").stdout
    assert "torch" in findings and "LPIPS alex backbone" in findings and "shipped checkpoints" in findings

"""Every shell command of the documents works on a fresh machine: those that only call other tools are checked dry."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clean_folder import VERBS, make_files, run, run_small, verb_of

from udc_robust.cli.options import read_config
from udc_robust.training.classifier_config import ClassifierConfig
from udc_robust.training.config import DiffusionConfig, TrainConfig
from udc_robust.training.finetune_config import FinetuneConfig

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    "README.md",
    "configs/README.md",
    "configs/STUDIES.md",
    "configs/BRING_YOUR_OWN.md",
    "configs/YOUR_DISPLAY.md",
    "checkpoints/README.md",
    ".github/CONTRIBUTING.md",
)
# Tools that are not ours; what they are asked to do is theirs.
OTHERS = ("git", "pip", "pre-commit")
TRAININGS = {
    "train restorer": TrainConfig, "train classifier": ClassifierConfig, "train diffusion": DiffusionConfig,
    "finetune": FinetuneConfig,
}  # fmt: skip


def write_files_of(page: str) -> None:
    """The files that a page shows whole: their first line is their name."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for name, content in re.findall(r"^```\w+\n# (\w+\.\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        Path(name).write_text(content, encoding="utf-8")


def blocks() -> Iterator[tuple[str, str]]:
    """The fenced shell blocks of the documents, each with its place."""
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8") if (ROOT / name).is_file() else ""
        for found in re.finditer(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            yield f"{name}:{text.count(chr(10), 0, found.start()) + 2}", found[1]


def commands(block: str) -> list[list[str]]:
    """Its commands as words, without comments and settings of the environment."""
    lines = block.replace("\\\n", " ").splitlines()
    split = (shlex.split(line, comments=True) for line in lines)
    return [words for words in ([*_after_settings(words)] for words in split) if words]


def _after_settings(words: list[str]) -> list[str]:
    return words if not words or not re.fullmatch(r"[A-Z_]+=.*", words[0]) else _after_settings(words[1:])


def of_ours(words: list[str]) -> list[str] | None:
    """What ``udc-robust`` is told, also by a launcher of several processes; None: another command."""
    if words[0] == "udc-robust":
        return words[1:]
    if "udc_robust" in words:
        return words[words.index("udc_robust") + 1 :]
    if "scripts/train_restorer.py" in words:
        return ["train", "restorer", *words[words.index("scripts/train_restorer.py") + 1 :]]
    return None


def dry_run(script: list[str], folder: Path) -> list[list[str]]:
    """What a shell script of ours would call: ``udc-robust`` and ``cp`` only say their arguments."""
    if not (folder / "scripts").exists():
        (folder / "scripts").symlink_to(ROOT / "scripts")
    say = '() { printf "%q " {0} "$@"; echo; }'
    defined = "; ".join(f"{name}{say.replace('{0}', name)}; export -f {name}" for name in ("udc-robust", "cp", "rm"))
    told = subprocess.run(["bash", "-c", f"{defined}; {shlex.join(script)}"], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    return [shlex.split(line) for line in told.stdout.splitlines()]


def check_dry(script: list[str], folder: Path) -> None:
    """Its calls are understood, and what it trains from and copies has been made by an earlier one."""
    made: set[str] = set()
    for name, *words in dry_run(script, folder):
        if name == "cp":
            assert {path for path in words[:-1] if path.endswith(".safetensors")} <= made  # the last is where it goes
        elif name == "udc-robust" and (verb := verb_of(words)) in TRAININGS:
            config, *overrides = words[len(verb.split()) :]
            settings, out = read_config(Path(config), verb, TRAININGS[verb], overrides, None)
            assert getattr(settings, "weights", None) is None or settings.weights in made or "/" not in settings.weights
            made.add(f"{out / settings.name}.safetensors")
            if getattr(settings, "channel", None) == "learnt":
                jammer = Path(f"{out / settings.name}_jammer.safetensors")
                jammer.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / "checkpoints/channels/jammer_mini.safetensors", jammer)
                made.add(str(jammer))
        elif name == "udc-robust":
            make_files(" ".join(words))
            options = VERBS[verb_of(words)].make_context(words[0], words[1:]).params
            if verb == "interpolate":
                assert options["hardened"] in made
                made.add(f"{options['out']}/{options['name']}.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("place, block", [pytest.param(*found, id=found[0]) for found in blocks()])
def test_a_block_of_commands_works(place, block, tmp_path) -> None:
    write_files_of(place.partition(":")[0])
    for words in commands(block):
        ours = of_ours(words)
        if ours is not None and Path(ours[-1]).is_file() and ours[0] == "evaluate":  # a config that the page shows
            make_files(" ".join(path.read_text() for path in Path().glob("*.yaml")))
            run(*ours)
        elif ours is not None:
            run_small(ours)
        elif words[0] == "make":
            subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        elif words[0].startswith("scripts/"):
            check_dry(words, tmp_path)
        elif words[0].startswith(".ci/"):
            assert os.access(ROOT / words[0], os.X_OK)
        elif words[:3] == ["python", "-m", "pytest"]:
            subprocess.run([sys.executable, *words[1:], "--collect-only"], cwd=ROOT, check=True, capture_output=True)
        else:
            assert words[0] in OTHERS, f"what is {shlex.join(words)}? Teach this test, or OTHERS"

"""Killed at any moment, as often as one likes: the same command ends with the same bytes, and leaves nothing behind."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

sys.path[:0] = [str(Path(__file__).parent / folder) for folder in ("grid", "tasks")]

import small_run  # noqa: E402
import small_study  # noqa: E402

from udc_robust.config_file import check_config  # noqa: E402
from udc_robust.data.images import write_image  # noqa: E402
from udc_robust.data.synth import SynthSettings, synthesise  # noqa: E402
from udc_robust.training.config import TrainConfig  # noqa: E402
from udc_robust.training.restorer import train_restorer  # noqa: E402

Job = Callable[[str], Path]
"""Writes to a folder of that name, and resumes what is there."""


def _evaluation(place: Path) -> Job:
    small_run.make_workplace(place)
    attacks = ["noise", {"method": "pgd", "steps": 2}]
    return lambda out: small_run.run(place, out, attacks=attacks)


def _study(place: Path) -> Job:
    small_study.make_workplace(place)
    few = {"attacks": ["noise", "fgsm"], "defences": ["none", {"kind": "noise", "name": "noisy", "sigma": 0.1}]}
    return lambda out: small_study.run(place, out, **few)


def _training(place: Path) -> Job:
    small_run.make_workplace(place / "data")
    config = {
        "name": "tiny", "network": "NAFNet", "options": small_run.OPTIONS, "domain": "srgb",
        "train": str(place / "data"), "validation": str(place / "data"), "patch_size": 16, "batch_size": 2, "steps": 6,
        "warmup": 2, "save_every": 2, "validate_every": 3,
    }  # fmt: skip

    def job(out: str) -> Path:
        train_restorer(check_config(config, TrainConfig, "test"), place / out)
        return place / out

    return job


def _set(place: Path) -> Job:
    for i in range(2):
        write_image(place / "photos" / f"{i}.png", torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(i)))
    settings = SynthSettings(kind="photo", size=24, per_source=2, difficulty=(1.0, 99.0))

    def job(out: str) -> Path:
        synthesise(place / "photos", place / out, settings)
        return place / out

    return job


JOBS = {"evaluation": _evaluation, "study": _study, "training": _training, "set": _set}
# Seconds and dates are in these.
TIMED = {"timings.csv", "run.json", "journal.jsonl", "state.pt", "tiny.md"}


def _kept(out: Path) -> dict[str, bytes]:
    """What is the same every time, hidden files too."""
    files = (path for path in out.rglob("*") if path.is_file() and "tensorboard" not in path.parts)
    return {str(path.relative_to(out)): path.read_bytes() for path in files if path.name not in TIMED}


def _killed(job: Job, *, after: float | None = None, at_write: int | None = None) -> bool:
    """Run a job in a process of its own that is killed after some seconds, or at a write; whether it was."""
    child = os.fork()
    if child == 0:
        try:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 1)
                os.dup2(nowhere.fileno(), 2)
            if at_write is not None:
                _die_at_write(at_write)
            job("killed")
        except BaseException:
            os._exit(1)
        os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "it failed by itself"
    return os.WIFSIGNALED(status)


def _die_at_write(number: int) -> None:
    """Die before the n-th time that something is made to last: a synced or a renamed file."""
    left = [number]
    for name in ("fsync", "replace"):

        def dying(*arguments, _true=getattr(os, name)):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return _true(*arguments)

        setattr(os, name, dying)


def _same_after(job: Job, kills: list[dict[str, float]], whole: dict[str, bytes]) -> int:
    """Kill a job again and again, let it end, and compare; the number of kills that met it alive."""
    met = sum(_killed(job, **kill) for kill in kills)
    out = job("killed")
    assert _kept(out) == whole
    return met


@pytest.fixture(autouse=True)
def _one_thread():
    """A forked process has no other threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", JOBS)
def test_a_handful_of_kills(name, tmp_path) -> None:
    job = JOBS[name](tmp_path)
    whole = _kept(job("whole"))
    assert not any(part.startswith(".") for path in whole for part in Path(path).parts)
    assert _same_after(job, [{"at_write": number} for number in (1, 2, 5)], whole) == 3


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", JOBS)
def test_many_kills_at_random(name, tmp_path) -> None:
    """A hundred over the four jobs, at random writes and random moments."""
    job, luck, met = JOBS[name](tmp_path), random.Random(name), 0
    begun = time.monotonic()
    whole = _kept(job("whole"))
    seconds = time.monotonic() - begun
    while met < 25:
        kills = [
            {"after": luck.uniform(0, seconds)},
            {"at_write": luck.randint(1, 25)},
            {"after": luck.uniform(0, 0.2)},
        ]
        met += _same_after(job, kills[: luck.randint(1, 3)], whole)
        (tmp_path / "killed").rename(tmp_path / f"done{met}{luck.random()}")

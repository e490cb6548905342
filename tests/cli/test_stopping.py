"""Ctrl-C and SIGTERM end a command at once, with one line that says how to go on; of several processes one speaks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clean_folder import VERBS

from udc_robust.stopping import STARTS_AGAIN

# What a command may be doing: Python, a wait that no signal ends, and a library that swallows exceptions.
WORK = {
    "python": "while True: pass",
    "wait": "import threading; threading.Lock().acquire(); t = __import__('ctypes').CDLL(None).sleep; t(30); t(30)",
    "swallowed": """
while True:
    try:
        time.sleep(0.01)
    except BaseException:
        pass""",
}


def _started(work: str, verb: str, tmp_path: Path, **environment: str) -> subprocess.Popen[str]:
    inner = "\n".join(f"    {line}" for line in f"print('ready', flush=True)\n{work}".splitlines())
    heard = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # what runs in the background ignores Ctrl-C
    code = f"import signal, sys, time\n{heard}\nfrom udc_robust.stopping import stoppable\nwith stoppable():\n{inner}"
    return subprocess.Popen(
        [sys.executable, "-c", code, "--flag", verb], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **environment}, cwd=tmp_path,
    )  # fmt: skip


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_with_one_line(work, number, code, tmp_path) -> None:
    if work != "python" and number == signal.SIGTERM:
        pytest.skip("once is enough")
    verb, again = ("restore", "starts again") if code == 143 else ("evaluate", "goes on where it was")
    with _started(WORK[work], verb, tmp_path) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        begun = time.monotonic()
        process.send_signal(number)
        _, told = process.communicate(timeout=20)
    assert process.returncode == code and told == f"udc-robust: stopped; the same command {again}\n"
    assert time.monotonic() - begun < 8


def test_what_is_in_order_is_left_in_order(tmp_path) -> None:
    work = "try:\n    while True: time.sleep(0.01)\nfinally:\n    open('closed', 'w').close()"
    with _started(work, "evaluate", tmp_path) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(0.2)  # until it is inside of `try`
        process.terminate()
        process.communicate(timeout=20)
    assert (tmp_path / "closed").is_file()


def test_of_several_processes_one_speaks(tmp_path) -> None:
    told = []
    for rank in "01":
        (tmp_path / "attempt" / rank).mkdir(parents=True)
        where = {
            "WORLD_SIZE": "2",
            "RANK": rank,
            "TORCHELASTIC_ERROR_FILE": str(tmp_path / "attempt" / rank / "e.json"),
        }
        with _started(WORK["python"], "evaluate", tmp_path, **where) as process:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            process.terminate()
            told += process.communicate(timeout=20)[1].splitlines()
    assert len(told) == 1


LOSES_A_WORKER = """
import os, signal, sys, threading
from torch.utils.data import DataLoader
from udc_robust.cli import configs, main

class Batches:
    def __len__(self):
        return 1
    def __getitem__(self, i):
        os.kill(os.getpid(), signal.SIGKILL)

def work():
    if TO_ALL:  # a signal to all processes, which reaches this one last
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    list(DataLoader(Batches(), num_workers=1))

configs.list_configs, sys.argv = work, ["udc-robust", "configs"]
main()
"""


@pytest.mark.parametrize(
    "to_all, code, told",
    [("0", 1, "a process that makes batches was killed (is memory short?)"), ("1", 143, "stopped")],
)
def test_a_killed_worker_is_told_in_one_line(to_all, code, told) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOSES_A_WORKER.replace("TO_ALL", to_all)], capture_output=True, text=True, timeout=60
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == code and line.startswith(f"udc-robust: {told}; the same command ")


def test_every_verb_says_what_becomes_of_it() -> None:
    first_words = {verb.split()[0] for verb in VERBS}
    assert first_words >= STARTS_AGAIN
    resuming = {
        "evaluate",
        "classify",
        "attack",
        "noise-level",
        "limits",
        "certify",
        "tolerance",
        "finetune",
        "interpolate",
        "train",
        "synth",
        "fetch",
    }
    assert first_words - STARTS_AGAIN == resuming

"""Many processes train as one: `torchrun` with two of them on the CPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from udc_robust.config_file import check_config
from udc_robust.errors import UserError
from udc_robust.networks.weights import read_weights, save_weights
from udc_robust.restorers.zoo import build_network
from udc_robust.training.finetune import finetune
from udc_robust.training.finetune_config import FinetuneConfig

TINY = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}
TINY_WITH_A_CONSTANT = {"nf": 4, "depths": [1] * 7}  # UDC-UNet's PSF code, its one buffer


def _config(sets, network="NAFNet", options=TINY, **changes) -> dict:
    parent = sets / "parent.safetensors"
    save_weights(parent, build_network(network, options), {"network": network, "options": options, "domain": "srgb"})
    return {
        "name": "hard", "parent": str(parent), "train": str(sets / "train"), "validation": str(sets / "validation"),
        "recipe": "adversarial", "patch_size": 16, "batch_size": 4, "steps": 6, "lr": 0.003, "warmup": 2, "ema": 0.5,
        "inner_steps": 2, "plain_share": 0.3, "validation_crops": 1, "validation_size": 16, **changes,
    }  # fmt: skip


def _launched(config: dict, out: Path) -> subprocess.Popen[str]:
    """The command on two processes."""
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(config))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [*launch, "-m", "udc_robust", "finetune", str(path), "--out", str(out)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    "changes",
    [{}, {"network": "UDCUNet", "options": TINY_WITH_A_CONSTANT, "channels_last": True}],
    ids=["NAFNet", "UDCUNet"],
)
def test_two_processes_finetune_as_one(sets, changes) -> None:
    """Gradients are averaged and a row's luck is its own, so the split over processes only rounds differently."""
    config = _config(sets, **changes)
    finetune(check_config(config, FinetuneConfig, "test"), sets / "one")
    with _launched(config, sets / "two") as processes:
        try:
            _, errors = processes.communicate(timeout=120)
        finally:
            processes.terminate()  # the launcher takes its workers with it
    assert processes.returncode == 0, errors[-2000:]
    one, two = (read_weights(sets / name / "hard.safetensors")[0] for name in ("one", "two"))
    start = read_weights(Path(config["parent"]))[0]
    moved = sum((one[name] - start[name]).abs().sum().item() for name in one)
    apart = sum((one[name] - two[name]).abs().sum().item() for name in one)
    assert moved > 0.1 and apart < 0.01 * moved


def test_a_killed_rank_leaves_a_training_that_resumes(sets) -> None:
    config = _config(sets, steps=1_000_000, save_every=1)
    out, deadline = sets / "killed", time.monotonic() + 120
    with _launched(config, out) as processes:
        try:
            while not (out / "state.pt").is_file():
                assert processes.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            ranks = Path(f"/proc/{processes.pid}/task/{processes.pid}/children").read_text().split()
            os.kill(int(ranks[-1]), signal.SIGKILL)
            assert processes.wait(timeout=60) != 0
        finally:
            processes.terminate()
    reached = torch.load(out / "state.pt", weights_only=True)
    resumed = check_config({**config, "steps": reached["step"] + 2}, FinetuneConfig, "test")
    # Its own config names more steps; the shorter one is another training, which the state must refuse.
    with pytest.raises(UserError, match="another steps"):
        finetune(resumed, out)
    reached["settings"]["steps"] = resumed.steps
    torch.save(reached, out / "state.pt")
    assert finetune(resumed, out)["steps"] == resumed.steps and (out / "hard.safetensors").is_file()

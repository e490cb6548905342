"""Many processes train as one: `torchrun` with two of them on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys

import yaml

from udc_robust.config_file import check_config
from udc_robust.restorers.weights import read_weights, save_weights
from udc_robust.restorers.zoo import build_network
from udc_robust.training.config import FinetuneConfig
from udc_robust.training.finetune import finetune

TINY = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}


def test_two_processes_finetune_as_one(sets) -> None:
    """Gradients are averaged and a row's luck is its own, so the split over processes only rounds differently."""
    parent, path = sets / "parent.safetensors", sets / "config.yaml"
    save_weights(parent, build_network("NAFNet", TINY), {"network": "NAFNet", "options": TINY, "domain": "srgb"})
    values = {
        "name": "hard", "parent": str(parent), "train": str(sets / "train"), "validation": str(sets / "validation"),
        "recipe": "adversarial", "patch_size": 16, "batch_size": 4, "steps": 6, "lr": 0.003, "warmup": 2, "ema": 0.5,
        "inner_steps": 2, "plain_share": 0.3, "validation_crops": 1, "validation_size": 16,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(values))
    finetune(check_config(values, FinetuneConfig, "test"), sets / "one")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, "-m", "udc_robust", "finetune", str(path), "--out", str(sets / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as processes:
        try:
            _, errors = processes.communicate(timeout=120)
        finally:
            processes.terminate()  # the launcher takes its workers with it
    assert processes.returncode == 0, errors[-2000:]
    one, two = (read_weights(sets / name / "hard.safetensors")[0] for name in ("one", "two"))
    start = read_weights(parent)[0]
    moved = sum((one[name] - start[name]).abs().sum().item() for name in one)
    apart = sum((one[name] - two[name]).abs().sum().item() for name in one)
    assert moved > 0.1 and apart < 0.01 * moved

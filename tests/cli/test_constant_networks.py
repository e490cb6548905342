"""Every verb that takes a network refuses one that answers the same to all images, before it writes anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from clean_folder import run

from udc_robust.data.images import write_image
from udc_robust.networks.weights import save_weights
from udc_robust.restorers.zoo import build_network

CODE = """
from torch import nn

class Deaf(nn.Module):
    def __init__(self, num_classes=3):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return 0 * self.layer(x) + self.layer.bias.view(3, 1, 1)

class Scores(Deaf):
    def forward(self, x):
        return super().forward(x).mean((2, 3)).repeat(1, 4)[:, :10]
"""
OPTIONS = {"width": 2, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}
SIZE = ["steps=1", "warmup=0", "batch_size=1", "patch_size=16"]
PAIRS = ["train=S", "validation=S", *SIZE]
VERBS = {
    "restore": ["restore", "S/lq", "--restorer", "mine.py:Deaf"],
    "attack": ["attack", "S/lq", "--restorer", "mine.py:Deaf"],
    "noise-level": ["noise-level", "mine.py:Deaf", "--images", "S/lq", "--gt", "S/gt"],
    "limits": ["limits", "mine.py:Deaf", "--images", "S/lq", "--gt", "S/gt"],
    "train restorer": ["train", "restorer", "nafnet_mini", "network=mine.py:Deaf", "options={}", *PAIRS],
    "train classifier": ["train", "classifier", "hybrid", "network=mine.py:Scores", "weights=null", "options={}",
                         "train=digits:train", "validation=digits:test"],
    "finetune": ["finetune", "nafnet_mini_adversarial", "parent=constant.safetensors", "validation_size=16", *PAIRS],
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_it_is_refused_before_the_work(verb, tmp_path, capsys) -> None:
    (tmp_path / "mine.py").write_text(CODE)
    for part, name in (("lq", "x"), ("lq", "y"), ("gt", "x"), ("gt", "y")):
        write_image(tmp_path / "S" / part / f"{name}.png", torch.rand(3, 24, 24))
    network = build_network("NAFNet", OPTIONS)
    torch.nn.init.constant_(network.ending.bias, 9.0)  # far above white
    save_weights(tmp_path / "constant.safetensors", network, {"network": "NAFNet", "options": OPTIONS})
    run(*VERBS[verb], "--out", "out", code=2)
    assert "answers the same to different images" in capsys.readouterr().err.splitlines()[-1]
    assert not Path("out").exists()

"""No verb that reads weights runs code that only their metadata name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from clean_folder import run

from udc_robust.classifiers.resnet_cifar import ResNetCifar
from udc_robust.data.images import write_image
from udc_robust.networks.weights import save_weights
from udc_robust.restorers.zoo import build_network

OPTIONS = {"width": 2, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}
VERBS = {
    "restore": ["restore", "lq", "--weights", "net.safetensors"],
    "attack": ["attack", "lq", "--weights", "net.safetensors"],
    "noise-level": ["noise-level", "nafnet_mini", "--weights", "net.safetensors", "--images", "lq", "--gt", "gt"],
    "limits": ["limits", "nafnet_mini", "--weights", "net.safetensors", "--images", "lq", "--gt", "gt"],
    "evaluate": ["evaluate", "quickstart", "restorers=[{name: a, weights: net.safetensors}]", "lpips=null"],
    "evaluate, inverse halftone": [
        "evaluate", "quickstart", "restorers=nafnet_mini", "lpips=null",
        "defences=[{kind: halftone, inverse: learned, restorer: net.safetensors}]",
    ],
    "finetune": [
        "finetune", "nafnet_mini_adversarial", "parent=net.safetensors", "train=.", "validation=.", "batch_size=1",
        "patch_size=16", "validation_size=16", "steps=1",
    ],
    "train restorer": [
        "train", "restorer", "inverse_halftone_mini", "train=.", "validation=.", "batch_size=1", "patch_size=16",
        "degradation={kind: halftone, inverse: learned, restorer: net.safetensors}", "steps=1",
    ],
    "classify": ["classify", "classifiers_quickstart", "classifiers=[{name: a, weights: class.safetensors}]"],
}  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for folder in ("lq", "gt"):
        write_image(tmp_path / folder / "0.png", torch.rand(3, 16, 16))
        write_image(tmp_path / folder / "1.png", torch.rand(3, 16, 16))
    (tmp_path / "evil.py").write_text("import pathlib\npathlib.Path('ran').touch()\nclass Net: pass\n")
    (tmp_path / "evil_module.py").write_text("import pathlib\npathlib.Path('ran').touch()\nclass Net: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("verb", VERBS)
def test_it_is_refused_and_not_imported(verb, place, capsys) -> None:
    for network in ("evil.py:Net", "evil_module:Net", "evil_module.Net"):
        facts = {"network": network, "options": OPTIONS, "domain": "srgb"}
        save_weights(place / "net.safetensors", build_network("NAFNet", OPTIONS), facts)
        save_weights(place / "class.safetensors", ResNetCifar(8, num_classes=10), facts)

        run(*VERBS[verb], "--out", "out", code=2)
        told = capsys.readouterr().err.strip().splitlines()
        assert "is not run; if you trust it" in told[-1] and network in told[-1]
        assert not (place / "ran").exists() and not (place / "out").exists()

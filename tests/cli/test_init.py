"""`init` writes configs that a run accepts, of what was said and of what lies in the folder."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from clean_folder import make_files, run

from udc_robust.data.images import write_image
from udc_robust.tasks import load_run_config

NET = "from torch import nn\nclass Mine(nn.Module):\n    def __init__(self, k=3):\n        super().__init__()\n"
NET += "        self.c = nn.Conv2d(3, 3, k, padding=k // 2)\n    def forward(self, x):\n        return x + self.c(x)\n"


def test_pairs_weights_and_class_are_found_and_the_config_runs(capsys) -> None:
    make_files("photos/degraded photos/clean")
    Path("nets.py").write_text(NET)
    scope: dict = {}
    exec(NET, scope)
    torch.save({"model": {f"module.{k}": v for k, v in scope["Mine"]().state_dict().items()}}, "net_g.pth")
    run("init", "mine.yaml")
    told = capsys.readouterr().err
    assert "found weights: net_g.pth" in told and "found network classes: nets.py:Mine" in told
    assert "found pairs: photos/degraded and photos/clean" in told
    assert "next: udc-robust evaluate mine.yaml --out runs/mine" in told
    values = yaml.safe_load(Path("mine.yaml").read_text())
    assert values["data"] == {
        "kind": "pairs", "lq": "photos/degraded", "gt": "photos/clean", "domain": "srgb", "limit": 8
    }  # fmt: skip
    assert values["restorers"] == [{"name": "mine", "network": "nets.py:Mine", "weights": "net_g.pth"}]
    assert "taken for sRGB" in Path("mine.yaml").read_text()
    run("evaluate", "mine.yaml", "attacks=[{method: pgd, steps: 1}]", "eps=4/255", "--out", "runs/mine")
    assert Path("runs/mine/report.html").is_file()


def test_a_name_that_yaml_takes_for_a_number_stays_a_name() -> None:
    write_image("captures/1.png", torch.rand(3, 64, 64))
    run("init", "2024.yaml", "--images", "captures", "--domain", "srgb")
    assert yaml.safe_load(Path("2024.yaml").read_text())["name"] == "2024"


def test_it_never_overwrites_and_asks_where_there_are_several(capsys) -> None:
    Path("mine.yaml").write_text("mine")
    run("init", "mine.yaml", code=2)
    assert "never overwrites" in capsys.readouterr().err and Path("mine.yaml").read_text() == "mine"
    for name in ("a.pth", "b.pth"):
        Path(name).write_bytes(b"")
    run("init", "other.yaml", code=2)
    assert "several weights here (a.pth, b.pth): say which by --weights" in capsys.readouterr().err
    assert not Path("other.yaml").exists()


def test_folders_that_do_not_go_together_are_refused(capsys) -> None:
    make_files("photos/degraded photos/clean")
    for given in ("--classes photos --domain srgb", "--images photos --lq photos/degraded"):
        run("init", "mine.yaml", *given.split(), code=2)
        told = capsys.readouterr().err
        assert "leave out --classes" in told or "give one of them" in told
    assert not Path("mine.yaml").exists()


def test_a_large_folder_without_truths_gets_a_crop_and_the_shipped_restorer() -> None:
    write_image("captures/1.png", torch.rand(3, 300, 320))
    run("init", "mine.yaml", "--images", "captures", "--domain", "tonemapped")
    config = load_run_config("mine.yaml")
    assert (config.data[0].kind, config.data[0].crop, config.data[0].domain) == ("folder", 256, "tonemapped")
    assert config.restorers[0].name == "nafnet_mini"


def test_a_classifier_of_ones_own_on_folders_of_ones_own() -> None:
    for i, name in enumerate(("cat", "dog")):
        write_image(f"pets/{name}/{i}.png", torch.rand(3, 40, 32))
    run("init", "pets.yaml", "--classes", "pets", "--network", "torchvision.models:resnet18", "--options",
        "{num_classes: 2}")  # fmt: skip
    config = load_run_config("pets.yaml")
    assert config.task == "classification" and config.data[0].side == 32
    assert config.classifiers[0].network == "torchvision.models:resnet18"
    run("evaluate", "pets.yaml", "attacks=[{method: fgsm}]", "eps=4/255", "--out", "runs/pets")
    assert Path("runs/pets/report.html").is_file()


def test_weights_that_say_what_they_are_of_need_no_class() -> None:
    make_files("mine.safetensors photos")
    Path("nets.py").write_text(NET + NET.replace("Mine", "Other"))
    run("init", "shipped.yaml", "--images", "photos")
    block = yaml.safe_load(Path("shipped.yaml").read_text())["restorers"]
    assert block == [{"name": "shipped", "weights": "mine.safetensors"}]

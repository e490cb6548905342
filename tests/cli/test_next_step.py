"""The last line of a verb is a command that does the next thing, with paths that are there."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from udc_robust.cli.next_step import after_evaluation, after_finetuning, after_synthesis, after_training
from udc_robust.config_file import check_config
from udc_robust.tasks.classification_schema import ClassificationConfig
from udc_robust.tasks.restoration_schema import DataConfig, RestorationConfig


def _told(capsys) -> list[str]:
    line = capsys.readouterr().err.strip()
    assert line.startswith("next: udc-robust ")
    return shlex.split(line)[2:]


def test_an_odd_name_becomes_one_of_files(capsys) -> None:
    blocks = {"restorers": [{"name": "a[/x]b", "network": "nafnet_mini"}], "attacks": ["pgd"]}
    data = {"data": {"kind": "folder", "lq": "lq"}}
    after_evaluation(check_config({**blocks, **data}, RestorationConfig, "t"))
    assert "name=a_x_b_hardened" in _told(capsys)


def test_what_was_trained_is_evaluated_on_its_validation_pairs(capsys) -> None:
    after_training(
        SimpleNamespace(validation=Path("sets/my validation"), name="mine", network="NAFNet"),
        Path("runs/train/mine.safetensors"),
    )
    verb, config, restorers, data, *out = _told(capsys)
    assert (verb, config, out) == ("evaluate", "quickstart", ["--out", "runs/mine"])
    values = {"restorers": yaml.safe_load(restorers.partition("=")[2]), "attacks": ["pgd"]}
    assert check_config(values, RestorationConfig, "t").restorers[0].weights == "runs/train/mine.safetensors"
    pairs = check_config(yaml.safe_load(data.partition("=")[2]), DataConfig, "t")
    assert pairs.kind == "pairs" and pairs.lq == [Path("sets/my validation/lq")]


def test_what_was_hardened_is_put_beside_its_parent(capsys) -> None:
    settings = SimpleNamespace(recipe="adversarial", parent="mine.pth", validation=Path("v"), name="hard", network=None)
    after_finetuning(settings, Path("runs/train/hard/hard.safetensors"))
    restorers = yaml.safe_load(_told(capsys)[2].partition("=")[2])
    config = check_config({"restorers": restorers, "attacks": ["pgd"]}, RestorationConfig, "t")
    assert [block.name for block in config.restorers] == ["mine", "hard"]


def test_a_class_of_ones_own_is_named_beside_its_weights(capsys) -> None:
    settings = SimpleNamespace(recipe="noise", parent="m.pth", validation=Path("v"), name="hard", network="n.py:Net")
    after_finetuning(settings, Path("hard.safetensors"))
    restorers = yaml.safe_load(_told(capsys)[2].partition("=")[2])
    assert restorers == [
        {"name": "m", "network": "n.py:Net", "weights": "m.pth"},
        {"name": "hard", "network": "n.py:Net", "weights": "hard.safetensors"},
    ]


@pytest.mark.parametrize(
    "restorer, parent",
    [("nafnet_mini", "nafnet_mini"), ("runs/mine.safetensors", "runs/mine.safetensors")],
)
def test_what_was_evaluated_is_hardened_with_the_sets_that_are_there(restorer, parent, capsys) -> None:
    Path("runs/sets/train").mkdir(parents=True)
    after_evaluation(check_config({"restorers": restorer, "attacks": ["pgd"]}, RestorationConfig, "t"))
    told = _told(capsys)
    assert told[:2] == ["finetune", "nafnet_mini_adversarial"]
    assert f"parent={parent}" in told and "train=runs/sets/train" in told


def test_a_classifier_is_hardened_on_the_folder_beside_the_one_it_was_tested_on(capsys) -> None:
    values = {"data": "scenes/test", "classifiers": "digits_mini", "attacks": ["pgd"]}
    config = check_config(values, ClassificationConfig, "t")
    after_evaluation(config)
    assert "train=scenes/test" in _told(capsys)
    Path("scenes/train").mkdir(parents=True)
    after_evaluation(config)
    assert {"train=scenes/train", "validation=scenes/test"} <= set(_told(capsys))
    Path("archives").mkdir()
    Path("archives/cifar_train20k.npz").touch()
    after_evaluation(check_config({**values, "data": "archives/cifar_test.npz"}, ClassificationConfig, "t"))
    assert {"train=archives/cifar_train20k.npz", "validation=archives/cifar_test.npz"} <= set(_told(capsys))


def test_random_weights_are_not_to_be_hardened(capsys) -> None:
    block = {"name": "mine", "network": "torch.nn:Identity"}
    after_evaluation(check_config({"restorers": [block], "attacks": ["pgd"]}, RestorationConfig, "t"))
    assert capsys.readouterr().err == ""


def test_a_set_wants_another_to_validate_on_and_then_a_training(capsys) -> None:
    after_synthesis(Path("hdr"), Path("sets/train"), {"--psf": ["a.npy", "phone"]})
    words = ["--psf", "a.npy", "--psf", "phone", "--seed", "1", "--out", "sets/validation"]
    assert _told(capsys) == ["synth", "hdr", *words]
    after_synthesis(Path("hdr"), Path("sets/train"), {"--psf": ["phone"]}, {"--exclude": ["a", "b"], "--only": []})
    assert _told(capsys)[2:-4] == ["--psf", "phone", "--exclude", "a", "--exclude", "b"]
    Path("sets/validation").mkdir(parents=True)
    after_synthesis(Path("hdr"), Path("sets/train"), {})
    assert _told(capsys)[3:] == ["name=mine", "train=sets/train", "validation=sets/validation"]

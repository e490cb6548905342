"""What options of the command line become."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from udc_robust.attacks import METHODS
from udc_robust.cli.options import (
    METHOD_NAMES,
    attack_block,
    known_restorer,
    read_config,
    read_run_config,
    restorer_block,
    yaml_of,
)
from udc_robust.cli.pictures import pictures_block
from udc_robust.errors import UserError
from udc_robust.files import shipped
from udc_robust.training.config import TrainConfig
from udc_robust.training.finetune_config import FinetuneConfig


def test_the_methods_that_help_lists_are_all_there_are() -> None:
    assert set(METHOD_NAMES) == set(METHODS)


@pytest.mark.parametrize(
    "arguments, block",
    [
        (("nafnet_mini", None, None, None, None), {"name": "nafnet_mini"}),
        (("discnet", None, None, "d.pth", "srgb"), {"name": "discnet", "weights": "d.pth", "domain": "srgb"}),
        (("runs/mine.safetensors", None, None, None, None), {"name": "mine", "weights": "runs/mine.safetensors"}),
        (("net.pth", "n.py:Net", "{width: 8}", None, None),
         {"name": "net", "weights": "net.pth", "network": "n.py:Net", "options": {"width": 8}}),
        (("SRVGGNetCompact", None, None, None, None), {"name": "SRVGGNetCompact", "network": "SRVGGNetCompact"}),
        (("n.py:Net", None, None, "w.pth", None), {"name": "Net", "network": "n.py:Net", "weights": "w.pth"}),
    ],
)  # fmt: skip
def test_which_network(arguments, block) -> None:
    assert restorer_block(*arguments) == block


def test_which_pictures() -> None:
    photos = [Path("photos")]
    named = {"name": "images"}
    assert pictures_block(photos, None, None, None) == {**named, "kind": "folder", "lq": photos}
    assert pictures_block(photos, Path("gt"), "srgb", None)["kind"] == "pairs"
    scenes = pictures_block(photos, None, None, "{psf: phone, shift_px: 1}")
    assert scenes == {
        **named, "kind": "scenes", "hdr": photos, "space": "scene", "psf": "phone", "shift_px": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    "gt, scene, words", [(None, "phone", "must say how"), (Path("gt"), "{}", "--gt goes with captures")]
)
def test_scenes_that_are_said_wrongly(gt, scene, words) -> None:
    with pytest.raises(UserError, match=words):
        pictures_block([Path("photos")], gt, None, scene)


def test_which_attack() -> None:
    assert attack_block("pgd", "linf", None, None, None) == {"method": "pgd", "norm": "linf", "eps": ["4/255"]}
    assert attack_block("cw", "l2", [], 5, "ssim") == {"method": "cw", "norm": "l2", "steps": 5, "objective": "ssim"}
    assert attack_block("pgd", "linf", ["1/255", "2/255"], None, None)["eps"] == ["1/255", "2/255"]
    assert yaml_of("--defence", "{kind: blur, sigma: 1}") == {"kind": "blur", "sigma": 1}
    with pytest.raises(UserError, match=r"--options '\{width' is not valid YAML"):
        yaml_of("--options", "{width")


def test_a_misspelt_restorer_is_told_before_torch_is_loaded() -> None:
    assert known_restorer("discnet_mini") and known_restorer("NAFNet") and known_restorer("mine.pth")
    with pytest.raises(UserError, match="unknown restorer 'nafnet_mimi': did you mean 'nafnet_mini'"):
        known_restorer("nafnet_mimi")


def test_a_training_on_other_data_does_not_claim_what_the_shipped_one_may() -> None:
    ours, _ = read_config(Path("nafnet_mini"), "train restorer", TrainConfig, ["lr=0.1"], None)
    assert ours.licence == "CC0-1.0" and "mini NAFNet" in ours.about
    theirs, _ = read_config(Path("nafnet_mini"), "train restorer", TrainConfig, ["train=mine", "steps=30"], None)
    assert theirs.licence == "unknown" and theirs.about == ""
    said, _ = read_config(Path("nafnet_mini"), "train restorer", TrainConfig, ["train=mine", "licence=MIT"], None)
    assert said.licence == "MIT" and said.about == ""


def test_another_network_does_not_take_the_options_of_the_shipped_one() -> None:
    read = partial(read_config, Path("nafnet_mini"), "train restorer", TrainConfig)
    assert read(["network=net.py:Net"], None)[0].options == {}
    assert read(["network=net.py:Net", "options={width: 8}"], None)[0].options == {"width": 8}
    assert "enc_blk_nums" in read(["name=mine"], None)[0].options


@pytest.mark.parametrize("override", ["parent=mine.pth", "validation=mine", "purifier.name=mine"])
def test_another_parent_clears_the_claims_too(override) -> None:
    name = "nafnet_mini_both"
    settings, _ = read_config(Path(name), "finetune", FinetuneConfig, [override], None)
    assert (settings.licence, settings.about) == ("unknown", "")


def test_a_config_of_ones_own_keeps_what_it_says(tmp_path) -> None:
    text = (shipped("configs") / "train" / "restorer" / "nafnet_mini.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text)
    settings, _ = read_config(tmp_path / "mine.yaml", "train restorer", TrainConfig, ["train=mine"], None)
    assert settings.licence == "CC0-1.0" and settings.about


def test_no_mixed_precision_may_be_written_plainly() -> None:
    settings, _ = read_config(Path("nafnet_mini_adversarial"), "finetune", FinetuneConfig, ["mixed_precision=no"], None)
    assert settings.mixed_precision == "no"


@pytest.mark.parametrize(
    "overrides, out, name",
    [
        (["restorers=[discnet_mini]"], None, "discnet_mini"),
        (["restorers=runs/train/mine.safetensors"], None, "mine"),
        (["restorers={name: ours, network: NAFNet}"], None, "ours"),
        (["restorers=nafnet_mini"], Path("runs/first try"), "first try"),
        (["restorers=nafnet_mini", "name=told"], Path("runs/mine"), "told"),
        (["seed=1"], Path("runs/mine"), "quickstart"),
    ],
)
def test_a_run_of_ones_own_network_is_not_called_as_the_config_that_ships(overrides, out, name) -> None:
    settings, folder = read_run_config(Path("quickstart"), overrides, out)
    assert settings.name == name and folder == (out or Path("runs") / name)

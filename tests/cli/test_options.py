"""What options of the command line become."""

from __future__ import annotations

import inspect
import pkgutil
from functools import partial
from pathlib import Path

import pytest
from clean_folder import run

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
from udc_robust.tasks.certificate_study import Smoothing
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


PAIRS = ["--images", "S/lq", "--gt", "S/gt", "--domain", "tonemapped", "--crop", "32", "--limit", "3"]
BLOCK = {"lq": Path("S/lq"), "gt": Path("S/gt"), "domain": "tonemapped", "crop": 32, "limit": 3}
ALL = ["--seed", "5", "--device", "cuda:1", "--out", "o"]
THEIRS = {"seed": 5, "device": "cuda:1", "out": Path("o")}


@pytest.mark.parametrize(
    "worker, words, given",
    [
        (
            "udc_robust.tasks.level_study:study",
            ["noise-level", "nafnet_mini", "purifier_mini", *PAIRS, "--levels", "5,7", "--norm", "l2", "--eps", "2",
             "--steps", "3", "--objective", "ssim", "--eot", "4", "--samples", "6", "--module", "m", *ALL],
            {"data": {"kind": "pairs", **BLOCK}, "levels": [5, 7], "samples": 6, "module": "m", **THEIRS,
             "attack": {"method": "pgd", "norm": "l2", "eps": ["2"], "steps": 3, "objective": "ssim", "eot": 4}},
        ),
        (
            "udc_robust.tasks.limits_study:study",
            ["limits", "nafnet_mini", *PAIRS, "--eps", "2/255", "--steps", "3", "--search-steps", "4", "--l2", "0.5",
             "--scenes", "S/hdr", *ALL],
            {"data": {"kind": "pairs", **BLOCK}, "eps": "2/255", "steps": 3, "search_steps": 4, "l2": 0.5,
             "scenes": Path("S/hdr"), **THEIRS},
        ),
        (
            "udc_robust.tasks.interpolation_study:study",
            ["interpolate", "nafnet_mini", "nafnet_mini_adversarial", *PAIRS, "--shares", "0.5,1", "--clean-budget",
             "0.3", "--eps", "2/255", "--steps", "3", "--name", "mixed", *ALL],
            {"data": {"kind": "pairs", **BLOCK}, "shares": [0.0, 0.5, 1.0], "clean_budget": 0.3, "name": "mixed",
             "attack": {"method": "pgd", "norm": "linf", "eps": ["2/255"], "steps": 3}, **THEIRS},
        ),
        (
            "udc_robust.tasks.certificate_study:study",
            ["certify", "digits_mini", "--data", "digits:test", "--side", "8", "--limit", "3", "--sigma", "0.25",
             "--noise", "laplace", "--norm", "l1", "--count", "30", "--alpha", "0.01", *ALL],
            {"source": "digits:test", "side": 8, "limit": 3, **THEIRS,
             "smoothings": [Smoothing("laplace", 0.25, "l1", count=30, alpha=0.01)]},
        ),
        (
            "udc_robust.tasks.median_study:study",
            ["certify", "nafnet_mini", *PAIRS, "--sigma", "0.25", "--count", "30", "--alpha", "0.01", *ALL],
            {"data": {"kind": "pairs", **BLOCK}, "sigma": 0.25, "count": 30, "alpha": 0.01, **THEIRS},
        ),
        (
            "udc_robust.restorers.files:restore_files",
            ["restore", "S/lq", "--domain", "linear", "--tile", "64", "--overlap", "8", "--bits", "16", *ALL[2:]],
            {"domain": "linear", "tile": 64, "overlap": 8, "bits": 16, "device": "cuda:1", "out": Path("o")},
        ),
        (
            "udc_robust.defences.purifier.files:purify_files",
            ["purify", "S/lq", "--model", "m", "--sigma", "10/255", "--sampler", "ddim", "--steps", "3", "--samples",
             "4", "--eta", "0.5", "--tile", "64", "--overlap", "8", *ALL],
            {"purifier": "m", **THEIRS,
             "options": {"noise_level": None, "sigma": 10 / 255, "strength": None, "sampler": "ddim", "steps": 3,
                         "samples": 4, "eta": 0.5, "tile": 64, "overlap": 8}},
        ),
    ],
)  # fmt: skip
def test_every_option_reaches_what_does_the_work(worker, words, given, monkeypatch) -> None:
    for folder in ("lq", "gt", "hdr"):
        Path("S", folder).mkdir(parents=True)
    signature, seen = inspect.signature(pkgutil.resolve_name(worker)), {}

    def work(*arguments, **options):
        seen.update(signature.bind(*arguments, **options).arguments)
        raise UserError("enough")

    monkeypatch.setattr(worker.replace(":", "."), work)
    run(*words, code=2)
    assert {name: seen[name] for name in given} == given


def test_every_option_of_an_attack_is_in_its_config(monkeypatch) -> None:
    Path("gt").mkdir()
    words = ["attack", "gt", "--gt", "gt", "--domain", "tonemapped", "--norm", "l2", "--eps", "1", "--eps", "2",
             "--steps", "7", "--objective", "ssim", "--defence", "jpeg", "--eot", "3", "--lpips", "none", "--tile",
             "512", "--overlap", "32", *ALL]  # fmt: skip
    seen = []
    monkeypatch.setattr("udc_robust.cli.pictures._attack", lambda *given: seen.append(given))
    run(*words)
    ((values, out),) = seen
    assert out == Path("o") and values == {
        "name": "attack", "gallery": 1_000_000, "seed": 5, "device": "cuda:1", "tile": 512, "overlap": 32,
        "lpips": None, "defences": ["none", "jpeg"], "restorers": [{"name": "nafnet_mini"}],
        "data": {"name": "images", "domain": "tonemapped", "kind": "pairs", "lq": [Path("gt")], "gt": Path("gt")},
        "attacks": [
            {"method": "pgd", "norm": "l2", "eps": ["1", "2"], "steps": 7, "objective": "ssim", "eot": 3},
        ],
    }  # fmt: skip

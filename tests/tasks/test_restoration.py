"""Restorers as a run's config names them, and the family that each is compared in."""

from __future__ import annotations

import json

import pytest
import torch

from udc_robust.config_file import check_config
from udc_robust.data.images import write_image
from udc_robust.errors import UserError
from udc_robust.tasks.restoration import family, open_images
from udc_robust.tasks.restoration_schema import DataConfig, RestorationConfig
from udc_robust.tasks.restoration_tables import summarise


def test_a_weights_file_and_a_class_are_names_of_restorers() -> None:
    values = {"restorers": ["nafnet_mini", "runs/train/mine/mine.safetensors"], "attacks": ["pgd"]}
    config = check_config(values, RestorationConfig, "test")
    assert [block.name for block in config.restorers] == ["nafnet_mini", "mine"]
    assert config.restorers[1].weights == "runs/train/mine/mine.safetensors"
    alone = check_config({**values, "restorers": "nets.py:Net"}, RestorationConfig, "test").restorers[0]
    assert (alone.name, alone.network) == ("Net", "nets.py:Net")


def test_a_parent_is_known_by_its_name_or_by_its_weights() -> None:
    networks = {
        "as trained": {"sha256": "aa", "parent": None, "parent_sha256": None},
        "hardened": {"sha256": "bb", "parent": "net_g", "parent_sha256": "aa"},
        "by name": {"sha256": "cc", "parent": "as trained"},
        "orphan": {"sha256": "dd", "parent": "net_g", "parent_sha256": "ee"},
        "untrained": {"sha256": None, "parent": None, "parent_sha256": None},
        "hardened again": {"sha256": "ff", "parent": "hardened", "parent_sha256": "bb"},
        "its own parent": {"sha256": "gg", "parent": "its own parent", "parent_sha256": "gg"},
        "nafnet_mini": {"sha256": "jj", "parent": None},
        "of a shipped one": {"sha256": "kk", "parent": "nafnet_mini_hardened", "parent_sha256": "ll"},
        "from one that is not here": {
            "sha256": "mm",
            "parent": "first",
            "parent_sha256": "nn",
            "ancestors": {"oo": "net_g", "aa": "net_g"},
        },
        "from one that ships in the end": {
            "sha256": "pp",
            "parent": "first",
            "parent_sha256": "nn",
            "ancestors": {"qq": "nafnet_mini_hardened"},
        },
        "a": {"sha256": "hh", "parent": "b"},
        "b": {"sha256": "ii", "parent": "a"},
    }
    first = "as trained"
    assert family(networks) == {
        first: first, "hardened": first, "by name": first, "orphan": "orphan", "untrained": "untrained",
        "hardened again": first, "its own parent": "its own parent", "a": "b", "b": "a",
        "nafnet_mini": "nafnet_mini", "of a shipped one": "nafnet_mini",
        "from one that is not here": first, "from one that ships in the end": "nafnet_mini",
    }  # fmt: skip


def test_scenes_are_those_of_the_pattern_or_of_the_set(tmp_path) -> None:
    for name in ("sea_1", "sea_2", "town_1"):
        for part in ("lq", "gt"):
            write_image(tmp_path / part / f"{name}.png", torch.rand(3, 8, 8))

    def scenes(**changes) -> dict[str, str] | None:
        block = {"kind": "pairs", "lq": str(tmp_path / "lq"), "gt": str(tmp_path / "gt"), **changes}
        return open_images(check_config(block, DataConfig, "test")).facts.get("scenes")

    assert scenes() is None and scenes(scene="(.+)") is None
    assert scenes(scene=r"^(.+)_\d$") == {"sea_1": "sea", "sea_2": "sea", "town_1": "town"}
    assert scenes(scene=r"^(.+)_\d$", limit=2) == {"sea_1": "sea", "sea_2": "sea"}
    told = [{"name": "sea_1", "source": "x"}, {"name": "town_1", "source": "x"}]
    (tmp_path / "manifest.json").write_text(json.dumps({"pairs": told, "domain": "srgb"}))
    assert scenes() == {"sea_1": "x", "sea_2": "sea_2", "town_1": "x"}
    for pattern, reason in (("(", "no regular expression"), ("sea", "needs one group"), ("(s)(e)", "needs one group")):
        with pytest.raises(UserError, match=f"scene: .*{reason}"):
            scenes(scene=pattern)
    with pytest.raises(UserError, match="does not fit the image 'town_1'"):
        scenes(scene="^(sea)")


@pytest.mark.parametrize(
    "lq, label", [("sets/validation/lq", "validation"), ("photos/degraded", "photos"), ("photos", "photos")]
)
def test_data_is_called_by_the_users_folder(lq, label, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_config({"kind": "folder", "lq": lq}, DataConfig, "test").label == label


def test_a_folder_of_several_domains_is_told_with_both_files(tmp_path) -> None:
    write_image(tmp_path / "a.png", torch.rand(3, 8, 8))
    write_image(tmp_path / "b.npy", 9 * torch.rand(3, 8, 8))
    images = open_images(check_config({"kind": "folder", "lq": str(tmp_path), "name": "mixed"}, DataConfig, "test"))
    images.load(0)
    with pytest.raises(UserError, match=r"a\.png is srgb but \S*b\.npy is linear: state `domain` of data 'mixed'"):
        images.load(1)


def test_drops_are_from_the_clean_figure_and_the_share_is_of_those_below_the_input() -> None:
    same = {"reference": "gt", "height": 2, "width": 6}
    found = summarise([
        {**same, "psnr": 20.0, "psnr_clean": 30.0, "psnr_noise": 28.0, "psnr_input": 22.0, "broken": True, "l2": 3.0},
        {**same, "psnr": 26.0, "psnr_clean": 31.0, "psnr_noise": 30.0, "psnr_input": 24.0, "broken": False, "l2": 6.0},
    ])  # fmt: skip
    assert (found["drop"], found["noise_drop"], found["worse_than_input"]) == (7.5, 1.5, 0.5)
    assert (found["psnr_worst"], found["broken"], found["rms"]) == (20.0, 0.5, pytest.approx(0.75))
    planes = [{**same, "channels": 4, "psnr": 20.0, "psnr_clean": 30.0, "psnr_input": 22.0, "broken": True, "l2": 3.0}]
    assert summarise(planes)["rms"] == pytest.approx(3 / 48**0.5)  # per value of a RAW capture

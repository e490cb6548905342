"""A run on RAW captures: planes or pictures, results by annotation, and what is refused before any work."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from torch import nn

from udc_robust.config_file import check_config
from udc_robust.data.images import read_image
from udc_robust.errors import UserError
from udc_robust.networks.weights import save_weights
from udc_robust.restorers.zoo import build_network
from udc_robust.tasks import evaluate, write_report
from udc_robust.tasks.restoration_schema import RestorationConfig

FOUR = {"img_channel": 4, "width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}


@pytest.fixture(scope="module")
def sit(tmp_path_factory):
    """A split of four small pairs with annotations, and a restorer of four channels."""
    place = tmp_path_factory.mktemp("sit")
    random = np.random.default_rng(0)
    (place / "GT").mkdir()
    (place / "input").mkdir()
    for i in range(1, 5):
        green = random.random((16, 24)) * 900
        planes = np.stack([green, green * 0.4, green * 0.6, green], -1)
        for part, gain in (("GT", 1.0), ("input", 0.6)):
            np.save(place / part / f"{i}.npy", (planes * gain).astype(np.uint16))
    (place / "what.csv").write_text("Filename,Dataset,Glare\n1,test,1\n2,test,0\n3,test,0\n4,test,0\n")
    torch.manual_seed(0)
    network = build_network("NAFNet", FOUR)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    save_weights(place / "four.safetensors", network, {"network": "NAFNet", "options": FOUR})
    return place


def config(place, data=None, **changes) -> RestorationConfig:
    block = {"kind": "raw", "name": "sit", "lq": str(place), "annotations": str(place / "what.csv"), **(data or {})}
    values = {
        "name": "raw", "lpips": None, "eps": ["4/255"], "data": block, "round_8_bit": False, "gallery": 1,
        "restorers": [{"name": "four", "weights": str(place / "four.safetensors")}],
        "attacks": ["noise", {"method": "pgd", "steps": 2}], **changes,
    }  # fmt: skip
    return check_config(values, RestorationConfig, "test")


def test_four_planes_go_through_a_restorer_of_four_channels(sit, tmp_path) -> None:
    evaluate(config(sit, {"develop": False}), tmp_path)
    page = write_report([tmp_path]).read_text()
    attacked = np.load(next(tmp_path.glob("images/sit/1/four/pgd*.input.npy")))
    planes = np.load(sit / "input" / "1.npy") / 1023
    assert attacked.shape == (16, 24, 4) and 0 < np.abs(attacked - planes).max() <= 4 / 255 + 1e-6
    assert read_image(tmp_path / "images" / "sit" / "1" / "input.png").pixels.shape == (3, 16, 24)
    assert "shares of the sensor&#39;s full scale" in page and "By what the images are" in page
    with open(tmp_path / "report.annotations.csv", newline="") as handle:
        table = {row["annotation"]: row for row in csv.DictReader(handle) if row["metric"] == "psnr"}
    with open(tmp_path / "results.csv", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["attack"] == "pgd"]
    assert list(table) == ["all", "Glare", "no Glare"] and table["no Glare"]["images"] == "3"
    expected = [float(row["psnr"]) for row in rows if row["image"] != "1"]
    assert float(table["no Glare"]["held"]) == pytest.approx(sum(expected) / 3, abs=1e-4)


def test_a_restorer_of_colours_gets_what_is_developed(sit, tmp_path) -> None:
    evaluate(config(sit, {"limit": 1}, restorers=["nafnet_mini"], attacks=["noise"], round_8_bit=True), tmp_path)
    assert read_image(tmp_path / "images" / "sit" / "1" / "input.png").pixels.shape == (3, 16, 24)


@pytest.mark.parametrize(
    "data, changes, message",
    [
        ({"develop": False}, {"round_8_bit": True}, "RAW, which has more than 8-bit levels: set round_8_bit: false"),
        ({"develop": False}, {"restorers": ["nafnet_mini"]}, "declares no four channels"),
        ({}, {"restorers": [{"name": "four", "weights": "four.safetensors", "domain": "raw"}]}, "is for RAW planes"),
        ({"develop": False}, {"defences": ["none", "jpeg"]}, "takes pictures, not RAW planes"),
        (
            {"develop": False},
            {"attacks": [{"method": "channel", "channel": "jammer_mini"}]},
            "learnt channel, which takes pictures, not RAW planes",
        ),
        ({"kind": "folder", "bits": 12}, {}, "`bits` is for RAW captures"),
        ({"domain": "srgb"}, {}, "take no `domain`"),
        ({"pattern": ["GR", "GR", "B", "R"]}, {}, "GR, R, B and GB once each"),
        ({"annotations": None, "names": {"Glare": {1: "glare"}}}, {}, "are of the columns of `annotations`"),
    ],
)
def test_what_does_not_fit_is_told_before_the_work(data, changes, message, sit, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(sit)
    with pytest.raises(UserError, match=message) as caught:
        evaluate(config(sit, data, **changes), tmp_path / "out")
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()

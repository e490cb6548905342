"""What options of the command line become."""

from __future__ import annotations

from pathlib import Path

import pytest

from udc_robust.cli.options import read_config
from udc_robust.files import shipped
from udc_robust.training.config import FinetuneConfig, TrainConfig


def test_a_training_on_other_data_does_not_claim_what_the_shipped_one_may() -> None:
    ours, _ = read_config(Path("nafnet_mini"), "train restorer", TrainConfig, ["lr=0.1"], None)
    assert ours.licence == "CC0-1.0" and "mini NAFNet" in ours.about
    theirs, _ = read_config(Path("nafnet_mini"), "train restorer", TrainConfig, ["train=mine", "steps=30"], None)
    assert theirs.licence == "unknown" and theirs.about == ""
    said, _ = read_config(Path("nafnet_mini"), "train restorer", TrainConfig, ["train=mine", "licence=MIT"], None)
    assert said.licence == "MIT" and said.about == ""


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

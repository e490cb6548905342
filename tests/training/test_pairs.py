"""How a training on pairs begins, and the card it leaves."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from torch import nn

from udc_robust.config_file import check_config
from udc_robust.data.images import write_image
from udc_robust.errors import UserError
from udc_robust.training.card import common_facts, model_card, table
from udc_robust.training.config import TrainConfig
from udc_robust.training.loop import Trained
from udc_robust.training.pairs import start_on_pairs


def _config(folder, **changes) -> TrainConfig:
    values = {
        "name": "tiny", "network": "NAFNet", "train": str(folder / "train"), "validation": str(folder / "validation"),
        "patch_size": 16, "batch_size": 4, "steps": 3, "seed": 5, "licence": "CC0-1.0", "about": " Mine.\n", **changes,
    }  # fmt: skip
    return check_config(values, TrainConfig, "test")


def test_it_opens_the_sets_fixes_the_seed_and_deals_the_batches(sets) -> None:
    pairs = start_on_pairs(_config(sets), sets / "out")
    first = torch.rand(3)
    assert (pairs.told, len(pairs.validation), pairs.domain) == ("8 pairs", 2, "srgb")
    lq, gt, seeds = pairs.batches[0]
    assert lq.shape == gt.shape == (4, 3, 16, 16) and len(seeds) == 4 and len(pairs.batches) == 3
    again = start_on_pairs(_config(sets), sets / "out")
    assert torch.equal(first, torch.rand(3)) and torch.equal(again.batches[0][0], lq)
    other = start_on_pairs(_config(sets, seed=6), sets / "out")
    assert not torch.equal(first, torch.rand(3)) and not torch.equal(other.batches[0][0], lq)


def test_linear_pairs_are_refused(sets) -> None:
    for part in ("lq", "gt"):
        write_image(sets / "linear" / part / "a.npy", torch.rand(3, 16, 16) * 9)
    with pytest.raises(UserError, match=r"a\.npy is linear light: .* tone-mapped or sRGB.*`udc-robust synth`"):
        start_on_pairs(_config(sets, train=str(sets / "linear")), sets / "out")
    for part in ("train", "validation"):  # the last of several pairs is looked at too
        for kind in ("lq", "gt"):
            write_image(sets / part / kind / "z.npy", torch.rand(3, 16, 16) + 0.5)
        with pytest.raises(UserError, match=rf"{part}/lq/z\.npy is linear light"):
            start_on_pairs(_config(sets), sets / "out")
        for kind in ("lq", "gt"):
            (sets / part / kind / "z.npy").unlink()


def test_a_validation_of_another_domain_is_refused(sets) -> None:
    (sets / "validation" / "manifest.json").write_text('{"domain": "tonemapped"}')
    with pytest.raises(UserError, match=r"0\.png is tonemapped, but the training is srgb: give images of one domain"):
        start_on_pairs(_config(sets), sets / "out")


def test_a_card_is_front_matter_facts_figures_and_settings(sets) -> None:
    config, network = _config(sets), nn.Linear(3, 2)
    facts = common_facts(config, Trained(network, 7.6, "float32", [{"psnr": 1.0}, {"psnr": 2.0}]), network)
    assert facts == {
        "name": "tiny", "parameters": 8, "steps": 3, "seconds": 8, "arithmetic": "float32", "validation": {"psnr": 2.0},
        "licence": "CC0-1.0", "seed": 5,
    }  # fmt: skip
    card = model_card(
        config,
        facts,
        command="train restorer",
        tags="a, b",
        what="Mine",
        lines=["network: x"],
        figures=table("ab", ["cd"]),
    )
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front) == {"license": "cc0-1.0", "library_name": "udc_robust", "tags": ["a", "b"]}
    assert body.startswith(
        "# tiny\n\nMine.\n\n- network: x\n- trained for 3 steps, 8 seconds, in float32; the averaged (EMA 0.999)"
    )
    assert "| a | b |\n| --- | --- |\n| c | d |" in body and "Made by `udc-robust train restorer`" in body
    settings = json.loads(body.split("```json")[1].split("```")[0])
    assert settings["seed"] == 5 and not {"out", "about", "train", "validation"} & set(settings)


def test_no_figure_of_a_card_names_a_place_of_a_machine(sets) -> None:
    config = _config(sets)
    facts = common_facts(config, Trained(nn.Linear(3, 2), 7.6, "float32", [{}]), nn.Linear(3, 2))
    figures = "behind purifier `/data/somebody/runs/mine`, Linf 4/255\n\n" + table(["a", "b"], [["1", "2"]])
    card = model_card(config, facts, command="x", tags="a", what="Mine", lines=[], figures=figures)
    assert "behind purifier `runs/mine`, Linf 4/255\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n" in card

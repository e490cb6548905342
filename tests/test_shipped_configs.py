"""Every shipped config names a network that can be built and does what the config is for."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

from udc_robust.attacks import Linf, Streams
from udc_robust.attacks.channels import find_channel
from udc_robust.classifiers.zoo import shipped_classifiers
from udc_robust.config_file import load_config
from udc_robust.data.embedded import EmbeddedPairs
from udc_robust.defences.purifier.pipeline import load_purifier, shipped_purifiers
from udc_robust.files import shipped
from udc_robust.grid.presets import full_name
from udc_robust.metrics import psnr
from udc_robust.restorers.zoo import (
    WITHOUT_WEIGHTS,
    Restorer,
    RestorerSpec,
    build_network,
    described,
    load_restorer,
    published_networks,
    shipped_checkpoints,
)
from udc_robust.tasks.restoration_schema import RestorationConfig
from udc_robust.training.config import TrainConfig
from udc_robust.training.finetune_config import FinetuneConfig

MINIS = sorted((shipped("configs") / "train/restorer").glob("*.yaml"))


@pytest.mark.parametrize("path", MINIS, ids=lambda path: path.stem)
def test_mini_networks_take_a_training_step(path) -> None:
    config = load_config(path, TrainConfig)
    network = build_network(config.network, config.options)
    assert sum(p.numel() for p in network.parameters()) < 2e6  # 8 MB as float32
    restorer = Restorer(
        config.name, network, domain="tonemapped", network_domain=config.domain, trained=False, origin="test"
    ).train()
    x = torch.rand(1, 3, config.patch_size, config.patch_size)
    loss = (restorer(x) - x * 0.9).abs().mean()
    loss.backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert gradients and all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("name", sorted(published_networks()))
def test_published_networks_are_found_by_name(name) -> None:
    with torch.device("meta"):
        restorer = load_restorer(RestorerSpec(name), "srgb", device="meta")
    assert not restorer.trained and restorer.network_domain in ("srgb", "tonemapped", "linear")


EVALUATIONS = [
    "quickstart",
    "classical",
    "published_networks",
    "defences",
    "study",
    "transfer",
    "queries",
    "other_displays",
    "scene",
    "jammer",
    "purifier_verdict",
    "large_study",
    "leaderboard",
]


@pytest.mark.parametrize("name", EVALUATIONS)
def test_evaluations_name_what_ships(name) -> None:
    config = load_config(shipped("configs") / "evaluate" / f"{name}.yaml", RestorationConfig)
    known = {*shipped_checkpoints(), *described(), *WITHOUT_WEIGHTS}
    assert {block.network or block.name for block in [*config.restorers, *config.source_blocks]} <= known
    assert {block.options["purifier"] for block in config.defences if "purifier" in block.options} <= {
        *shipped_purifiers()
    }


def test_the_leaderboard_is_measured_under_the_preset_to_quote_at_its_budgets() -> None:
    config = load_config(shipped("configs") / "evaluate" / "leaderboard.yaml", RestorationConfig)
    assert config.preset == full_name("standard")
    assert config.eps == RestorationConfig.model_fields["eps"].get_default(call_default_factory=True)


def test_trainings_begin_with_what_ships_or_with_what_another_leaves() -> None:
    blocks = {path.stem: yaml.safe_load(path.read_text()) for path in (shipped("configs") / "train").rglob("*.yaml")}
    left = {f"runs/train/{block['name']}/{block['name']}.safetensors": name for name, block in blocks.items()}
    for name, block in blocks.items():
        weights = block.get("weights")
        if weights is None or weights in shipped_classifiers():
            continue
        # Its first lines name the config that makes the file, and users are not shown it: they begin with another.
        text = next((shipped("configs") / "train").rglob(f"{name}.yaml")).read_text()
        assert left[weights] in text.partition("\nname:")[0] and name.endswith(("_middle", "_finish"))
    for path in (shipped("configs") / "finetune").glob("*.yaml"):
        config = load_config(path, FinetuneConfig)
        assert config.parent in shipped_checkpoints()
        assert config.purifier is None or config.purifier.name in shipped_purifiers()


def test_hardened_checkpoints_say_what_they_came_from() -> None:
    for name in ("nafnet_mini_adversarial", "nafnet_mini_both", "nafnet_mini_purified", "nafnet_mini_noise"):
        assert load_restorer(RestorerSpec(name), "tonemapped").parent == "nafnet_mini"
    for name, parent in (
        ("discnet_mini_adversarial", "discnet_mini"),
        ("discnet_mini_hardened", "discnet_mini_adversarial"),
        ("udcunet_mini_hardened", "udcunet_mini"),
        ("nafnet_mini_jammed", "nafnet_mini_hardened"),
    ):
        assert load_restorer(RestorerSpec(name), "tonemapped").parent == parent
    facts = json.loads((shipped_purifiers()["purifier_mini_hardened"] / "facts.json").read_text())
    assert facts["parent"] == "nafnet_mini"
    # What it is to be deployed at is what it trained at.
    assert load_purifier("purifier_mini_hardened").config["noise_level"] == facts["purifier"]["noise_level"][0]


@torch.no_grad()
def test_the_shipped_jammer_costs_more_than_noise_and_the_shipped_answer_to_it_knows_it() -> None:
    pairs = [EmbeddedPairs(count=8, size=64)[i] for i in range(8)]
    lq, gt = (torch.stack([getattr(pair, name) for pair in pairs]) for name in ("lq", "gt"))
    left = {}
    for channel in ("signs", "jammer_mini"):
        seen = find_channel(channel)(lq, Linf(4 / 255), Streams(range(8)))
        for name in ("nafnet_mini_hardened", "nafnet_mini_jammed"):
            restorer = load_restorer(RestorerSpec(name), "tonemapped")
            left[channel, name] = float(psnr(restorer(seen).double(), gt.double()).mean())
    assert left["jammer_mini", "nafnet_mini_hardened"] < left["signs", "nafnet_mini_hardened"] - 0.3
    assert left["jammer_mini", "nafnet_mini_jammed"] > left["jammer_mini", "nafnet_mini_hardened"] + 0.3


@torch.no_grad()
def test_the_shipped_purifier_takes_noise_away() -> None:
    pipeline, x = load_purifier("purifier_mini"), EmbeddedPairs(count=1, size=64)[0].lq[None]
    noisy = (x + 0.04 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    purified = pipeline(noisy, sigma=0.04, output_type="pt", generator=torch.Generator().manual_seed(1)).images
    assert psnr(purified.double(), x.double()) > psnr(noisy.double(), x.double()) + 3

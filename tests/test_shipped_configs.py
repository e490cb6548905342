"""Every shipped config names a network that can be built and does what the config is for."""

from __future__ import annotations

import pytest
import torch

from udc_robust.config_file import load_config
from udc_robust.files import shipped
from udc_robust.restorers.zoo import Restorer, RestorerSpec, build_network, load_restorer, published_networks
from udc_robust.training.config import TrainConfig

MINIS = sorted((shipped("configs") / "train").glob("*.yaml"))


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

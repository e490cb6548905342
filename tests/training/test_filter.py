"""Training a filter: both kinds learn, resume to the same weights, and mistakes are told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from udc_robust.attacks import Linf, Streams
from udc_robust.classifiers.data import load_images
from udc_robust.config_file import check_config
from udc_robust.data.images import write_image
from udc_robust.defences.filters.defence import load_atop, load_lq_vae
from udc_robust.errors import UserError
from udc_robust.networks.weights import read_weights
from udc_robust.training import filter as training
from udc_robust.training.filter_config import FilterConfig
from udc_robust.training.labelled import fixed_classifier

OPTIONS = {"lq_vae": {"latents": 16, "width": 8}, "atop": {"width": 8}}


def _config(kind: str, **changes) -> FilterConfig:
    values = {
        "name": "tiny", "train": "digits:train", "validation": "digits:test", "validation_limit": 100, "kind": kind,
        "options": OPTIONS.get(kind, {}), "classifier": "digits_mini", "patch_size": 8, "pad": 1, "flip": False,
        "batch_size": 32, "steps": 12, "warmup": 2, "lr": 0.01, "ema": 0.5, "validate_every": 12, "save_every": 5,
        "inner_steps": 1, "warm_steps": 4,
    }  # fmt: skip
    return check_config({**values, **changes}, FilterConfig, "test")


@pytest.mark.parametrize("kind, load", [("lq_vae", load_lq_vae), ("atop", load_atop)])
def test_it_learns_and_its_weights_serve(kind, load, tmp_path) -> None:
    facts = training.train_filter(_config(kind, steps=240, sigma=0.05, warm_steps=80), tmp_path)
    images = load_images("digits:test", 8).spread(100)
    setup = training.FilterSetup(_config(kind), training.build_network(kind, OPTIONS[kind]), None)
    untrained = training.figures(setup.defence(), None, images)["psnr"]
    assert facts["validation"]["psnr"] > untrained + 1 and facts["validation"]["top1"] > 0.15
    defence = load(str(tmp_path / "tiny.safetensors"))
    if kind == "atop":
        defence = load_atop(str(tmp_path / "tiny.safetensors"), sigma=0.05)
    assert training.figures(defence, None, images)["psnr"] == pytest.approx(facts["validation"]["psnr"], abs=1e-3)
    assert f"| {facts['validation']['psnr']:.2f} |" in (tmp_path / "tiny.md").read_text()


def test_a_stopped_training_resumes_to_the_same_weights(tmp_path, monkeypatch) -> None:
    config, true_loss, calls = _config("atop"), training.LOSSES["atop"], []
    training.train_filter(config, tmp_path / "whole")

    def stops(*arguments):
        calls.append(1)
        if len(calls) > 8:
            raise KeyboardInterrupt
        return true_loss(*arguments)

    monkeypatch.setitem(training.LOSSES, "atop", stops)
    with pytest.raises(KeyboardInterrupt):
        training.train_filter(config, tmp_path / "stopped")
    monkeypatch.setitem(training.LOSSES, "atop", true_loss)
    training.train_filter(config, tmp_path / "stopped")
    whole, resumed = (read_weights(tmp_path / name / "tiny.safetensors")[0] for name in ("whole", "stopped"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_loss_of_lq_vae_is_that_of_its_public_code() -> None:
    config, x = _config("lq_vae", lipschitz=0.3), load_images("digits:test", 8).batch(range(4))[0]
    torch.manual_seed(0)
    network = training.build_network("lq_vae", OPTIONS["lq_vae"])
    setup = training.FilterSetup(config, network, None)
    found = training.lq_vae(setup, network, x, torch.zeros(4), [1, 2, 3, 4], 0)
    leaf = x.clone().requires_grad_(True)
    mean, log_variance = network.encode(leaf)
    z = mean + 0.05 * (log_variance / 2).exp() * Streams([1, 2, 3, 4]).normal(mean)
    (slope,) = torch.autograd.grad(mean.sum(), leaf, retain_graph=True)
    bits = torch.where(z.abs() < 0.1, 1.0, -1.0)
    expected = 10 * F.mse_loss(2 * network.soft(F.softsign(500 * (0.01 - z**2))), 2 * x)
    expected = expected + 10 * F.mse_loss(2 * network.hard(bits), 2 * x)
    expected = expected + 10 * (slope.flatten(1).norm(dim=1) - 0.3).square().mean()
    divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp())
    assert found.item() == pytest.approx((expected + divergence.mean()).item(), rel=1e-5)


def test_atop_learns_attacks_through_itself_once_it_is_warm(monkeypatch) -> None:
    config, (x, labels) = _config("atop", sigma=0, hidden=0), load_images("digits:test", 8).batch(range(4))
    network = training.build_network("atop", OPTIONS["atop"])
    classifier = fixed_classifier("classifier", "digits_mini", load_images("digits:test", 8))
    setup, told = training.FilterSetup(config, network, classifier), []
    moved = (x + 0.1).clamp(0, 1)
    monkeypatch.setattr(training, "perturb", lambda *about, **more: told.append((about, more)) or moved)
    kept = torch.ones_like(x[:, :1])
    squared = 20 * F.mse_loss(network(x, kept), x)
    assert training.atop(setup, network, x, labels, [1] * 4, 3).item() == pytest.approx(squared.item(), rel=1e-5)
    entropy = F.cross_entropy(classifier(network(moved, kept)), labels)
    warm = training.atop(setup, network, x, labels, [1] * 4, 4)
    assert warm.item() == pytest.approx((squared + entropy).item(), rel=1e-5)
    (((victim, attacked, goal, threat), more),) = told
    assert victim.defence.network is network and victim.network is classifier
    assert attacked is x and goal.name == "cross_entropy" and threat == Linf(config.eps)
    assert more.pop("target") is labels and more.pop("streams").seeds == [1] * 4
    assert more == {"steps": config.inner_steps, "step_size": config.step_size}
    warm.backward()
    assert all(p.grad is None for p in classifier.parameters())


def test_a_card_has_a_column_for_a_classifier_that_there_is() -> None:
    facts = {"validation": {"psnr": 20.0}, "parameters": 9, "images": 5, "data": "x", "validation_images": 2}
    facts |= {"steps": 1, "seconds": 1, "arithmetic": "float32"}
    alone = training._card(_config("lq_vae", classifier=None), facts)
    assert "| validation images | PSNR in dB |\n| --- | --- |\n| filtered | 20.00 |\n" in alone
    facts["validation"] = {"psnr": 20.0, "top1": 0.5}
    assert "| PSNR in dB | digits_mini right |" in training._card(_config("lq_vae"), facts)


class Wrapper(nn.Module):
    """As of several processes: gradients are averaged over them only where a call goes through it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.rows = module, list[int]()

    def forward(self, *seen: torch.Tensor) -> torch.Tensor:
        self.rows.append(len(seen[0]))
        return self.module(*seen)


@pytest.mark.parametrize("kind, rows", [("lq_vae", 4), ("atop", 8)])
def test_what_is_learnt_goes_through_the_wrapper_of_several_processes(kind, rows) -> None:
    config, (x, labels) = _config(kind), load_images("digits:test", 8).batch(range(4))
    network = training.build_network(kind, OPTIONS[kind])
    setup = training.FilterSetup(
        config, network, fixed_classifier("classifier", "digits_mini", load_images("digits:test", 8))
    )
    wrapper = Wrapper(network)
    training.LOSSES[kind](setup, wrapper, x, labels, [1, 2, 3, 4], 4).backward()
    assert wrapper.rows == [rows]  # once, and no attack


@pytest.mark.parametrize(
    "kind, changes, message",
    [
        ("lq_vae", {"patch_size": 10}, "patch_size 10 does not divide into latents of 4 pixels: give a multiple of 4"),
        ("atop", {"classifier": None}, "kind 'atop' needs the `classifier`"),
        ("lq_vea", {}, "did you mean 'lq_vae'"),
        ("atop", {"pad": 8}, "pad 8 must be below patch_size 8"),
    ],
)
def test_bad_settings(kind, changes, message) -> None:
    with pytest.raises(UserError, match=message):
        _config(kind, **changes)


def test_a_classifier_of_other_classes_is_refused(tmp_path) -> None:
    for name in ("cat", "dog"):
        write_image(tmp_path / "set" / name / "0.png", torch.zeros(3, 8, 8))
    with pytest.raises(UserError, match="different classes: 0, 1, 2"):
        training.train_filter(_config("lq_vae", validation=tmp_path / "set"), tmp_path)
    with pytest.raises(UserError, match="resnet8"):
        training.train_filter(_config("atop", classifier="resnet8"), tmp_path)
    assert replace(training.FilterSetup(_config("lq_vae"), torch.nn.Identity(), None)).classifier is None

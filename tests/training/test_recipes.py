"""Recipes: what each one trains on, that it learns, and that a row's luck is its own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from udc_robust.attacks import L2, Linf, Streams, frozen, objective, perturb
from udc_robust.config_file import check_config
from udc_robust.defences.purifier.pipeline import load_purifier
from udc_robust.metrics import mse
from udc_robust.restorers.zoo import Restorer, build_network
from udc_robust.training import recipes, vgg
from udc_robust.training.config import FinetuneConfig

TINY = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}


def _restorer() -> Restorer:
    torch.manual_seed(0)
    network = build_network("NAFNet", TINY)
    for name, parameter in network.named_parameters():
        if name.endswith(("beta", "gamma")):  # NAFNet's blocks begin switched off
            nn.init.normal_(parameter)
    restorer = Restorer("tiny", network, domain="srgb", network_domain=None, trained=True, origin="test").train()
    restorer.network.eval()
    return restorer


def _batch(rows: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    gt = nn.functional.interpolate(torch.rand(rows, 3, 5, 5, generator=generator), (16, 16), mode="bilinear")
    return (gt * 0.7).round(decimals=2), gt


def _setup(tiny_purifier, recipe: str, **changes) -> recipes.FinetuneSetup:
    values = {
        "name": "x", "parent": "x", "train": "x", "validation": "x", "recipe": recipe, "eps": "8/255", **changes,
    }  # fmt: skip
    purifiers = []
    if recipe in ("purified", "both", "purifier"):
        low, high = (6, 6) if recipe == "purifier" else (5, 7)
        values["purifier"] = {"name": str(tiny_purifier), "noise_level": [low, high]}
        pipeline = load_purifier(tiny_purifier)
        plans = [pipeline.plan(noise_level=level) for level in range(low, high + 1)]
        purifiers = [pipeline.purifier(plan).requires_grad_(False) for plan in plans]
    config = check_config(values, FinetuneConfig, "test")
    return recipes.FinetuneSetup(config, _restorer(), purifiers, None)


def _learner(setup: recipes.FinetuneSetup) -> nn.Module:
    return setup.purifiers[0] if setup.config.recipe == "purifier" else setup.restorer


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_each_recipe_learns_its_batch_and_leaves_no_trace_on_the_flags(tiny_purifier, name) -> None:
    setup = _setup(tiny_purifier, name)
    restorer, learner = setup.restorer, _learner(setup)
    for module in (restorer, *setup.purifiers):
        module.requires_grad_(module is learner)
    optimizer = torch.optim.Adam(learner.parameters(), lr=5e-3)
    (lq, gt), losses = _batch(), []
    for _ in range(35):
        loss = recipes.RECIPES[name](setup, learner, lq, gt, Streams([1, 2, 3, 4]), 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert restorer.training and not restorer.network.training
    for module in (restorer, *setup.purifiers):
        assert all(parameter.requires_grad is (module is learner) for parameter in module.parameters())


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_a_row_does_not_depend_on_its_neighbours(tiny_purifier, name, monkeypatch) -> None:
    setup, seen = _setup(tiny_purifier, name, plain_share=0.4), []
    lq, gt = _batch(6)

    def watch(x: torch.Tensor, *noise: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach())
        return _learner(setup)(x, *noise)

    for rows in (range(6), range(0, 6, 2), range(1, 6, 2)):
        picked = list(rows)
        recipes.RECIPES[name](setup, watch, lq[picked], gt[picked], Streams(picked), 9)
    whole, even, odd = (x.chunk(2)[-1] if name == "trades" else x for x in seen)
    assert torch.allclose(whole[::2], even, atol=2e-6) and torch.allclose(whole[1::2], odd, atol=2e-6)


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_a_batch_may_hold_plain_rows_only(tiny_purifier, name) -> None:
    setup = _setup(tiny_purifier, name, plain_share=0.999999)
    loss = recipes.RECIPES[name](setup, _learner(setup), *_batch(2), Streams([0, 1]), 0)
    if name in ("adversarial", "noise", "purified"):
        lq, gt = _batch(2)
        assert loss.item() == pytest.approx(setup.loss(setup.restorer(lq), gt).item())
    assert loss.isfinite()


def test_plain_rows_stay_and_the_others_change(tiny_purifier) -> None:
    lq, gt = _batch(6)
    for share, low, high in ((0.0, 6, 6), (0.5, 1, 5)):
        setup = _setup(tiny_purifier, "adversarial", plain_share=share)
        x = recipes.attacked(setup, setup.restorer, lq, gt, Streams(range(6)), 0)
        changed = (x != lq).flatten(1).any(1).sum().item()
        assert low <= changed <= high and not x.requires_grad


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1, 3]), st.floats(0.001, 0.2), st.booleans())
def test_the_inner_attack_stays_in_its_budget(seed, steps, eps, euclidean) -> None:
    threat = L2(eps * 10) if euclidean else Linf(eps)
    x, gt = _batch(2)
    x_adv = perturb(lambda x: x**2, x, objective("mse"), threat, target=gt, streams=Streams([seed, 1]), steps=steps)
    rounding = 2**-23  # of x + eps: an image near 1 has no finer steps, however small the budget is
    assert (threat.distance(x, x_adv) <= threat.eps * (1 + 1e-5) + rounding).all()
    assert x_adv.min() >= 0 and x_adv.max() <= 1


def test_the_inner_attack_hurts_more_than_noise_and_asks_for_no_weight_gradient() -> None:
    restorer, (lq, gt), threat = _restorer(), _batch(), Linf(8 / 255)
    with frozen(restorer.network):
        x_adv = perturb(restorer, lq, objective("mse"), threat, target=gt, streams=Streams([0, 1, 2, 3]), steps=5)
    with torch.no_grad():
        noise = threat.noise(lq, Streams([0, 1, 2, 3]))
        damage = [mse(restorer(x), gt).mean().item() for x in (lq, noise, x_adv)]
    assert damage[2] > 1.2 * damage[1] and damage[2] > 1.2 * damage[0]
    assert all(parameter.grad is None for parameter in restorer.parameters())


def test_steps_draw_their_budget_and_level_from_the_ranges(tiny_purifier) -> None:
    setup = _setup(tiny_purifier, "both", eps=["2/255", "6/255"])
    budgets = [setup.threat(step).eps * 255 for step in range(40)]
    assert 2 <= min(budgets) < 3 and 5 < max(budgets) <= 6 and setup.threat(7).eps == setup.threat(7).eps
    assert {setup.purifier(step).plan.noise_level for step in range(40)} == {5, 6, 7}


def test_colour_jitter_is_the_same_for_capture_and_truth() -> None:
    lq, gt = _batch()
    x, y = recipes.jittered(lq, gt, Streams([0, 1, 2, 3]), 0.1)
    inner = (lq > 0.05) & (gt < 0.8)
    assert torch.allclose((x / lq)[inner], (y / gt)[inner], atol=1e-4)
    assert not torch.equal(x, lq) and y.max() <= 1
    assert recipes.jittered(lq, gt, Streams([0]), 0.0)[0] is lq


def test_the_perceptual_distance_is_zero_for_equal_images_and_sends_gradients_to_the_output_only() -> None:
    layers = [nn.Conv2d(3, 3, 3, padding=1) if i % 2 == 0 else nn.ReLU(inplace=True) for i in range(23)]
    layers[22] = nn.ReLU(inplace=True)
    distance = vgg.VggDistance(nn.Sequential(*layers))
    lq, gt = _batch()
    lq.requires_grad_(True)
    assert distance(gt, gt).item() == 0
    distance(lq, gt).backward()
    assert lq.grad is not None and lq.grad.abs().sum() > 0
    assert all(not parameter.requires_grad for parameter in distance.parameters())


def test_vgg_is_never_downloaded(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert vgg.load_vgg() is None and vgg.weights_file().parent == tmp_path / "checkpoints"

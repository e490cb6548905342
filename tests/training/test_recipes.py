"""Recipes: what each one trains on, that it learns, and that a row's luck is its own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from udc_robust.attacks import L2, Linf, Streams, frozen, objective, perturb
from udc_robust.attacks.channels import CHANNELS, Jammer
from udc_robust.config_file import check_config
from udc_robust.defences.purifier.pipeline import load_purifier
from udc_robust.errors import UserError
from udc_robust.metrics import LpipsUnavailable, mse, ssim
from udc_robust.restorers.zoo import Restorer, build_network
from udc_robust.training import features, recipes
from udc_robust.training.finetune_config import FinetuneConfig

TINY = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}
SOME_PLAIN = sorted(recipes.RECIPES.keys() - {"gradient_norm", "optics"})
"""The recipes that know `plain_share`."""


def _restorer(seed: int = 0) -> Restorer:
    torch.manual_seed(seed)
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
    if recipe == "optics":
        values["train"] = {"sources": "x", "tolerances": {"turn": 2}}
    if recipe == "jammer":
        values["channel"] = "signs"
    if recipe in ("purified", "both", "purifier"):
        low, high = (6, 6) if recipe == "purifier" else (5, 7)
        values["purifier"] = {"name": str(tiny_purifier), "noise_level": [low, high]}
        pipeline = load_purifier(tiny_purifier)
        plans = [pipeline.plan(noise_level=level) for level in range(low, high + 1)]
        purifiers = [pipeline.purifier(plan).requires_grad_(False) for plan in plans]
    values |= {"teacher": "x"} if recipe == "distilled" else {}
    config = check_config(values, FinetuneConfig, "test")
    teacher = _restorer(1).eval().requires_grad_(False) if recipe == "distilled" else None
    return recipes.FinetuneSetup(config, _restorer(), purifiers, None, teacher)


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
    setup, seen = _setup(tiny_purifier, name, **({"plain_share": 0.4} if name in SOME_PLAIN else {})), []
    lq, gt = _batch(6)

    def watch(x: torch.Tensor, *noise: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach())
        return _learner(setup)(x, *noise)

    for rows in (range(6), range(0, 6, 2), range(1, 6, 2)):
        picked = list(rows)
        recipes.RECIPES[name](setup, watch, lq[picked], gt[picked], Streams(picked), 9)
    whole, even, odd = (x.chunk(2)[-1] if name in ("trades", "gradient_norm") else x for x in seen)
    assert torch.allclose(whole[::2], even, atol=2e-6) and torch.allclose(whole[1::2], odd, atol=2e-6)


@pytest.mark.parametrize("name", SOME_PLAIN)
def test_a_batch_may_hold_plain_rows_only(tiny_purifier, name) -> None:
    setup = _setup(tiny_purifier, name, plain_share=0.999999)
    loss = recipes.RECIPES[name](setup, _learner(setup), *_batch(2), Streams([0, 1]), 0)
    if name in ("adversarial", "noise", "purified"):
        lq, gt = _batch(2)
        assert loss.item() == pytest.approx(setup.loss(setup.restorer(lq), gt).item())
    assert loss.isfinite()


def test_a_student_learns_the_truth_and_what_its_teacher_answers_to_the_clean_images(tiny_purifier) -> None:
    lq, gt = _batch(2)
    for loss in ("l1", "psnr"):
        setup = _setup(tiny_purifier, "distilled", beta=0.3, loss=loss)
        x = recipes.attacked(setup, setup.restorer, lq, gt, Streams([0, 1]), 0)
        found = recipes.distilled(setup, setup.restorer, lq, gt, Streams([0, 1]), 0)
        restored, taught = setup.restorer(x), setup.teacher(lq)
        expected = setup.loss(restored, gt) + 0.3 * setup.loss(restored, taught)
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)
        assert not torch.allclose(taught, setup.restorer(lq))


def test_plain_rows_stay_and_the_others_change(tiny_purifier) -> None:
    lq, gt = _batch(6)
    for share, low, high in ((0.0, 6, 6), (0.5, 1, 5)):
        setup = _setup(tiny_purifier, "adversarial", plain_share=share)
        x = recipes.attacked(setup, setup.restorer, lq, gt, Streams(range(6)), 0)
        changed = (x != lq).flatten(1).any(1).sum().item()
        assert low <= changed <= high and not x.requires_grad


@pytest.mark.parametrize("norm, threat", [("linf", Linf(8 / 255)), ("l2", L2(0.5))])
def test_the_inner_attack_of_a_recipe_is_pgd_with_the_settings_of_the_config(tiny_purifier, norm, threat) -> None:
    changes = {"norm": norm, "eps": threat.eps, "inner_steps": 2, "step_size": 0.01, "plain_share": 0.5}
    setup, (lq, gt) = _setup(tiny_purifier, "adversarial", **changes), _batch(6)
    made = recipes.attacked(setup, setup.restorer, lq, gt, Streams(range(6)), 0)
    expected, streams = lq.clone(), Streams(range(6))
    rows = (streams.uniform(lq[:, 0, 0, 0]) >= 0.5).nonzero()[:, 0]
    expected[rows] = perturb(
        setup.restorer, lq[rows], objective("mse"), threat, target=gt[rows], streams=streams.of(rows), steps=2,
        step_size=0.01,
    )  # fmt: skip
    assert torch.equal(made, expected)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1, 3]), st.floats(0.001, 0.2), st.booleans())
def test_the_inner_attack_stays_in_its_budget(seed, steps, eps, euclidean) -> None:
    threat = L2(eps * 10) if euclidean else Linf(eps)
    x, gt = _batch(2)
    x_adv = perturb(lambda x: x**2, x, objective("mse"), threat, target=gt, streams=Streams([seed, 1]), steps=steps)
    rounding = 2**-23  # of x + eps: an image near 1 has no finer steps, however small the budget is
    assert (threat.distance(x, x_adv) <= threat.eps * (1 + 1e-5) + rounding).all()
    assert x_adv.min() >= 0 and x_adv.max() <= 1


@pytest.mark.parametrize("step_size, expected", [(None, 2.5 * 0.04 / 5), (0.003, 0.003)])
def test_the_inner_attack_begins_at_random_and_takes_equal_steps(step_size, expected) -> None:
    (x, gt), threat, seen = _batch(), Linf(0.04), []

    def victim(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach().clone())
        return x**2

    streams = Streams([0, 1, 2, 3])
    x_adv = perturb(victim, x, objective("mse"), threat, target=gt, streams=streams, steps=5, step_size=step_size)
    assert len(seen) == 5 and torch.equal(seen[0], threat.start(x, Streams([0, 1, 2, 3])))
    for before, after in zip(seen, [*seen[1:], x_adv], strict=True):
        gradient = (2 * before * (before**2 - gt)).sign()
        assert torch.allclose(after, threat.project(x, before + expected * gradient), atol=1e-6)


def _learnt(setup: recipes.FinetuneSetup, monkeypatch) -> tuple[torch.Tensor, tuple, list]:
    """A recipe's loss on an attack that is fixed, its batch, and what the attack was told: victim, images, target."""
    (lq, gt), told = _batch(), []
    monkeypatch.setattr(recipes, "attacked", lambda setup, *about: told.append(about[:3]) or lq * 0.9 + 0.03)
    recipe = recipes.RECIPES[setup.config.recipe]
    loss = recipe(setup, _learner(setup), lq, gt, Streams([1, 2, 3, 4]), 0)
    return loss, (lq, gt, lq * 0.9 + 0.03), told


def _same_slopes(loss: torch.Tensor, expected: torch.Tensor, learner: nn.Module) -> None:
    weights = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    ours, theirs = (torch.autograd.grad(each, weights, allow_unused=True) for each in (loss, expected))
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None and b is None) or torch.allclose(a, b, rtol=1e-3, atol=1e-7)


def test_adversarial_training_learns_the_attacked_capture(tiny_purifier, monkeypatch) -> None:
    setup = _setup(tiny_purifier, "adversarial", loss="l2")
    loss, (lq, gt, x_adv), ((victim, x, target),) = _learnt(setup, monkeypatch)
    _same_slopes(loss, (setup.restorer(x_adv) - gt).square().mean(), setup.restorer)
    assert victim is setup.restorer and x is lq and target is gt


def test_focal_looks_at_the_images_that_an_attack_broke_most(tiny_purifier) -> None:
    """Of two answers the worse counts for more, whatever the recipe; the clean part of TRADES keeps its plain mean."""
    truth = torch.zeros(2, 3, 8, 8)
    answers = torch.tensor([0.1, 0.5]).view(2, 1, 1, 1).expand_as(truth)
    for recipe in ("adversarial", "trades"):
        setup = _setup(tiny_purifier, recipe, loss="l1", focal=2.0)
        weights = (1 - torch.exp(-torch.tensor([0.1, 0.5]))) ** 2
        expected = float((weights * torch.tensor([0.1, 0.5])).sum() / weights.sum())
        assert float(setup.loss(answers, truth)) == pytest.approx(expected, rel=1e-5)
        assert float(setup.loss(answers, truth, attacked=False)) == pytest.approx(0.3, rel=1e-5)
    for changes in ({"loss": "psnr"}, {"recipe": "noise"}):
        with pytest.raises(UserError, match="focal weights attacked images"):
            _setup(tiny_purifier, **{"recipe": "adversarial", "focal": 2.0, **changes})


def test_what_a_recipe_cannot_do_is_told(tiny_purifier) -> None:
    with pytest.raises(UserError, match="recipe 'noise' makes no attack: leave out `objectives`"):
        _setup(tiny_purifier, "noise", objectives="ssim")
    with pytest.raises(UserError, match="takes `mixed_precision: no`"):
        _setup(tiny_purifier, "gradient_norm", mixed_precision="bf16")
    for values in ({"perceptual": 0.1}, {"loss": "l1"}):
        with pytest.raises(UserError, match="has a loss of its own, in dB: leave out `perceptual` and `loss`"):
            _setup(tiny_purifier, "gradient_norm", **values)
    _setup(tiny_purifier, "gradient_norm", loss="psnr")  # what it is, and what configs to override say
    for recipe in ("gradient_norm", "optics"):
        with pytest.raises(UserError, match=f"recipe '{recipe}' treats every row alike: leave out `plain_share`"):
            _setup(tiny_purifier, recipe, plain_share=0.1)


def test_trades_attacks_the_clean_answer_and_both_answers_are_live(tiny_purifier, monkeypatch) -> None:
    setup = _setup(tiny_purifier, "trades", loss="l2", beta=3.0)
    loss, (lq, gt, x_adv), ((victim, x, target),) = _learnt(setup, monkeypatch)
    clean, moved = setup.restorer(lq), setup.restorer(x_adv)
    _same_slopes(loss, (clean - gt).square().mean() + 3.0 * (moved - clean).square().mean(), setup.restorer)
    assert victim is setup.restorer and x is lq and torch.allclose(target, clean, atol=1e-6)
    assert not target.requires_grad


@pytest.mark.parametrize("name", ["both", "purifier"])
def test_attacks_are_made_through_the_purifier_and_learnt_behind_it(tiny_purifier, name, monkeypatch) -> None:
    setup = _setup(tiny_purifier, name, loss="l2")
    learner = _learner(setup)
    for module in (setup.restorer, *setup.purifiers):
        module.requires_grad_(module is learner)
    loss, (lq, gt, x_adv), ((victim, x, target),) = _learnt(setup, monkeypatch)
    purifier = setup.purifier(0)
    purified = purifier(x_adv, purifier.draw(x_adv, Streams([1, 2, 3, 4])))
    _same_slopes(loss, (setup.restorer(purified) - gt).square().mean(), learner)
    assert victim.defence is purifier and victim.network is setup.restorer and x is lq and target is gt


def test_the_purified_recipe_learns_what_the_purifier_makes_of_the_capture(tiny_purifier, monkeypatch) -> None:
    setup = _setup(tiny_purifier, "purified", loss="l2", plain_share=0.0)
    loss, (lq, gt, _), told = _learnt(setup, monkeypatch)
    purifier, streams = setup.purifier(0), Streams([1, 2, 3, 4])
    streams.uniform(lq[:, 0, 0, 0])  # who stays plain is drawn first
    purified = purifier(lq, purifier.draw(lq, streams)).detach()
    _same_slopes(loss, (setup.restorer(purified) - gt).square().mean(), setup.restorer)
    assert not told and not torch.allclose(purified, lq, atol=0.01)


def test_the_noise_recipe_learns_noise_of_the_whole_budget(tiny_purifier, monkeypatch) -> None:
    setup = _setup(tiny_purifier, "noise", loss="l2", plain_share=0.0)
    loss, (lq, gt, _), told = _learnt(setup, monkeypatch)
    streams = Streams([1, 2, 3, 4])
    streams.uniform(lq[:, 0, 0, 0])
    noisy = Linf(8 / 255).noise(lq, streams)
    _same_slopes(loss, (setup.restorer(noisy) - gt).square().mean(), setup.restorer)
    assert not told


def test_the_jammer_recipe_learns_captures_behind_the_channel_in_8_bits(tiny_purifier, monkeypatch) -> None:
    setup = _setup(tiny_purifier, "jammer", loss="l2")
    loss, (lq, gt, _), told = _learnt(setup, monkeypatch)
    streams = Streams([1, 2, 3, 4])
    streams.uniform(lq[:, 0, 0, 0])
    threat = Linf(8 / 255)
    jammed = recipes.round_to_8_bits(threat, lq, CHANNELS["signs"](lq, threat, streams))
    _same_slopes(loss, (setup.restorer(jammed) - gt).square().mean(), setup.restorer)
    assert not told and torch.allclose(jammed * 255, (jammed * 255).round(), atol=1e-4)


def test_a_learnt_channel_climbs_what_the_restorer_descends() -> None:
    torch.manual_seed(0)
    restorer, channel, (lq, gt) = _restorer(), Jammer(4), _batch()
    jammed, noise = recipes.Jammed(restorer, channel), Jammer.noise(lq, Streams(range(len(lq))))
    mse(jammed(lq, 8 / 255, noise), gt).mean().backward()
    ours = {name: part.grad.clone() for name, part in jammed.named_parameters()}
    jammed.zero_grad()
    mse(restorer(channel.through(lq, Linf(8 / 255), noise)), gt).mean().backward()
    for name, part in jammed.named_parameters():
        sign = -1 if name.startswith("channel") else 1
        # In 8 bits the restorer sees something else, by half a level at most.
        likeness = torch.nn.functional.cosine_similarity(ours[name].flatten(), sign * part.grad.flatten(), dim=0)
        assert likeness > 0.9 or part.grad.norm() < 1e-4, name
    before, optimizer = channel.through(lq, Linf(8 / 255), noise).detach(), torch.optim.Adam(channel.parameters(), 3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        mse(jammed(lq, 8 / 255, noise), gt).mean().backward()
        optimizer.step()
    with torch.no_grad():
        after = channel.through(lq, Linf(8 / 255), noise)
        assert mse(restorer(after), gt).mean() > mse(restorer(before), gt).mean() + 1e-4


def test_plain_rows_are_as_many_as_told() -> None:
    lq, streams = torch.zeros(400, 3, 1, 1), Streams(range(400))
    changed = recipes.mixed(lq, streams, 0.2, lambda rows: torch.ones(len(rows), 3, 1, 1))
    assert 0.15 < float((changed[:, 0] == 0).float().mean()) < 0.25


def test_the_perceptual_loss_is_added_with_its_weight(tiny_purifier) -> None:
    setup = _setup(tiny_purifier, "adversarial", loss="l1", perceptual=0.25)
    with_features = recipes.FinetuneSetup(setup.config, setup.restorer, [], nn.MSELoss())
    output, target = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    plain = (output - target).abs().mean()
    assert setup.loss(output, target).item() == pytest.approx(plain.item())
    expected = plain + 0.25 * (output - target).square().mean()
    assert with_features.loss(output, target).item() == pytest.approx(expected.item())


def test_each_step_attacks_one_of_the_objectives(tiny_purifier, monkeypatch) -> None:
    setup, climbed = _setup(tiny_purifier, "adversarial", objectives=["mse", "ssim", "edge"]), []
    monkeypatch.setattr(recipes, "objective", lambda name: climbed.append(name) or objective(name))
    for step in range(12):
        recipes.adversarial(setup, setup.restorer, *_batch(2), Streams([0, 1]), step)
    assert set(climbed) == {"mse", "ssim", "edge"} and climbed[5] == setup.one_of(
        setup.config.objectives, 5, "objective"
    )


def test_an_attack_on_another_objective_is_another_attack(tiny_purifier) -> None:
    lq, gt = _batch()
    changed = []
    for name in ("mse", "ssim"):
        setup = _setup(tiny_purifier, "adversarial", objectives=name)
        changed.append(recipes.attacked(setup, setup.restorer, lq, gt, Streams([0, 1, 2, 3]), 0))
    similar = [ssim(setup.restorer(x), gt).mean() for x in changed]
    assert similar[1] < similar[0] - 1e-3


def test_lpips_as_a_loss_is_its_mean_and_absent_weights_are_refused(monkeypatch) -> None:
    class Half(nn.Module):
        def forward(self, a, b):
            return (a - b).square().mean()

    monkeypatch.setattr(features, "load_lpips", lambda backbone: Half())
    monkeypatch.setattr(features, "lpips_distance", lambda network, a, b: (a - b).abs().mean((1, 2, 3)))
    lq, gt = _batch()
    assert features.LpipsDistance("alex")(lq, gt).item() == pytest.approx((lq - gt).abs().mean().item())

    def absent(backbone):
        raise LpipsUnavailable("not there")

    monkeypatch.setattr(features, "load_lpips", absent)
    with pytest.raises(UserError, match="not there: `udc-robust doctor --fix-lpips squeeze`"):
        features.LpipsDistance("squeeze")


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
    assert len(set(budgets)) == 40


def test_colour_jitter_is_the_same_for_capture_and_truth() -> None:
    lq, gt = _batch()
    x, y = recipes.jittered(lq, gt, Streams([0, 1, 2, 3]), 0.1)
    inner = (lq > 0.05) & (gt < 0.8)
    assert torch.allclose((x / lq)[inner], (y / gt)[inner], atol=1e-4)
    assert not torch.equal(x, lq) and y.max() <= 1
    gains = torch.where(inner, x / lq, torch.nan).nanmean((2, 3))  # one a row and channel
    assert len(set(gains.flatten().tolist())) == 12 and (gains - 1).abs().max() <= 0.1
    assert torch.allclose((x / lq)[inner], gains[:, :, None, None].expand_as(lq)[inner], atol=1e-4)
    assert recipes.jittered(lq, gt, Streams([0]), 0.0)[0] is lq


def test_the_perceptual_distance_is_zero_for_equal_images_and_sends_gradients_to_the_output_only() -> None:
    layers = [nn.Conv2d(3, 3, 3, padding=1) if i % 2 == 0 else nn.ReLU(inplace=True) for i in range(23)]
    layers[22] = nn.ReLU(inplace=True)
    distance = features.VggDistance(nn.Sequential(*layers))
    lq, gt = _batch()
    lq.requires_grad_(True)
    assert distance(gt, gt).item() == 0
    distance(lq, gt).backward()
    assert lq.grad is not None and lq.grad.abs().sum() > 0
    assert all(not parameter.requires_grad for parameter in distance.parameters())


def test_vgg_is_never_downloaded(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert features.load_vgg() is None and features.weights_file().parent == tmp_path / "checkpoints"


def test_the_gradient_norm_is_the_first_order_damage_of_the_budget(tiny_purifier, monkeypatch) -> None:
    setup = _setup(tiny_purifier, "gradient_norm", eps="1/255", beta=3.0)
    lq, gt = _batch()
    x = lq.clone().requires_grad_(True)
    errors = mse(setup.restorer(x), gt)
    (slope,) = torch.autograd.grad(errors.sum(), x)
    expected = 10 * torch.log10(errors + 3 / 255 * slope.abs().flatten(1).sum(1)).mean()
    loss = recipes.gradient_norm(setup, setup.restorer, lq, gt, Streams([0, 1, 2, 3]), 0)
    assert loss.item() == pytest.approx(expected.item(), rel=0.01)
    # It is the gradient's, more closely the nearer it is measured; what it teaches is what double backward would.
    monkeypatch.setattr(recipes, "SLOPE_STEP", 1 / 64)
    nearer = recipes.gradient_norm(setup, setup.restorer, lq, gt, Streams([0, 1, 2, 3]), 0)
    assert abs(nearer.item() - expected.item()) < 0.5 * abs(loss.item() - expected.item())
    x = lq.clone().requires_grad_(True)
    errors = mse(setup.restorer(x), gt)
    (live,) = torch.autograd.grad(errors.sum(), x, create_graph=True)
    exact = 10 * torch.log10(errors + 3 / 255 * live.abs().flatten(1).sum(1)).mean()
    weights = list(setup.restorer.parameters())
    pairs = zip(torch.autograd.grad(nearer, weights), torch.autograd.grad(exact, weights), strict=True)
    flat = [torch.cat([g.flatten() for g in grads]) for grads in zip(*pairs, strict=True)]
    assert torch.nn.functional.cosine_similarity(flat[0], flat[1], dim=0) > 0.98
    # A tiny step of the sign attack does what it says, so that making it small makes attacks small.
    worse = mse(setup.restorer(lq + 1e-5 * slope.sign()), gt) - errors
    assert torch.allclose(worse.detach(), 1e-5 * slope.abs().flatten(1).sum(1), rtol=0.05)

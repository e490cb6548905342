"""The core of purification: it is the published samplers, and its gradient is the true one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from tiny_purifier import TinyRestorer, images, linear_schedule, noise_for, plan_of, purifier, tiny_unet

from udc_robust.attacks import Linf, Streams, attack, objective
from udc_robust.defences.defence import Defended, Exact, StraightThrough
from udc_robust.defences.purifier.core import NoisePredictor, Purifier, draw_noise
from udc_robust.defences.purifier.gradients import Checkpointed, Surrogate
from udc_robust.defences.purifier.guidance import agdm, gdmp, low_frequency_consistency
from udc_robust.defences.purifier.plan import Plan
from udc_robust.defences.purifier.samplers import (
    ancestral,
    average,
    clean_estimate,
    ddim,
    diffuse,
    one_step,
    reverse_step,
)
from udc_robust.errors import UserError

SCHEDULE = linear_schedule()


def _robust_view(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and scores of a fixed smooth network."""
    weights = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(3)).to(x)
    features = torch.tanh(torch.nn.functional.conv2d(x, weights))
    return features, 3 * features.mean((2, 3))


PLANS = {
    "one_step": plan_of(20),
    "average": plan_of(20, samples=3),
    "ddim": plan_of(40, sampler="ddim", steps=3),
    "ddim_eta": plan_of(40, sampler="ddim", steps=3, eta=0.5),
    "ancestral": plan_of(2, sampler="ancestral", samples=2),
    "long_steps": plan_of(60, sampler="ancestral", steps=3),  # enough variance for guidance to matter
}
GUIDED = {
    "low_frequency": {"correct": low_frequency_consistency(1.0)},
    "gdmp_mse": {"shift": gdmp(8 / 255, "mse", scale=600)},
    "gdmp_ssim": {"shift": gdmp(8 / 255, "ssim", scale=10)},
    "agdm": {"shift": agdm(_robust_view, scale=30, classes=2)},
}
CASES = [(name, {}) for name in PLANS] + [("long_steps", guide) for guide in GUIDED.values()]
IDS = [*PLANS, *GUIDED]


def _draws(plan: Plan, x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return draw_noise(x, plan, Streams(range(seed, seed + len(x))))


@torch.no_grad()
def test_one_step_is_the_closed_form() -> None:
    u, plan, alpha = images() * 2 - 1, PLANS["one_step"], SCHEDULE.alpha(20)
    noise = _draws(plan, u)[:, 0]
    # A model that answers with the true noise gives the image back; one that answers 0 gives x_t / sqrt(abar).
    assert torch.allclose(one_step(lambda x_t, t: noise[:, 0], u, noise, SCHEDULE, 20), u, atol=1e-6)
    blind = one_step(lambda x_t, t: torch.zeros_like(x_t), u, noise, SCHEDULE, 20)
    assert torch.allclose(blind, u + ((1 - alpha) / alpha) ** 0.5 * noise[:, 0], atol=1e-6)
    model = NoisePredictor(tiny_unet())
    x_t = diffuse(u, noise[:, 0], alpha)
    expected = clean_estimate(x_t, model(x_t, 20), alpha)
    assert torch.equal(one_step(model, u, noise, SCHEDULE, 20), expected)
    assert torch.equal(ddim(model, u, noise, SCHEDULE, 20, 1), expected)
    whole = purifier(plan)(images(), noise[:, None])
    assert torch.allclose(whole, (expected + 1) / 2, atol=1e-6)


@torch.no_grad()
def test_ddim_steps_like_diffusers() -> None:
    from diffusers import DDIMScheduler

    unet, u = tiny_unet(), images() * 2 - 1
    scheduler = DDIMScheduler(timestep_spacing="trailing", clip_sample=False)
    scheduler.set_timesteps(50)
    noise = _draws(plan_of(99, sampler="ddim", steps=5), u)[:, 0]
    timesteps = scheduler.timesteps[-5:]
    theirs = scheduler.add_noise(u, noise[:, 0], timesteps[:1])
    for t in timesteps:
        theirs = scheduler.step(unet(theirs, t).sample, t, theirs, eta=0.0).prev_sample
    ours = ddim(NoisePredictor(unet), u, noise, SCHEDULE, 99, 5)
    assert (ours - theirs).abs().max() < 1e-5
    assert (ours - u).abs().max() > 1e-2  # the untrained model does something


@torch.no_grad()
@pytest.mark.parametrize("level, steps", [(12, 13), (19, 4)])
def test_ancestral_steps_like_diffusers(level, steps, monkeypatch) -> None:
    from diffusers import DDPMScheduler
    from diffusers.schedulers import scheduling_ddpm

    unet, u = tiny_unet().double(), images(dtype=torch.float64) * 2 - 1
    plan = plan_of(level, sampler="ancestral", steps=steps)
    noise = _draws(plan, u)[:, 0]
    fresh = iter(noise.unbind(1)[1:])
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *args, **kwargs: next(fresh, torch.zeros_like(u)))
    scheduler = DDPMScheduler(clip_sample=False)
    # In single precision their 1 - abar has lost its last digits at the smallest levels.
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.set_timesteps(timesteps=list(SCHEDULE.timesteps(level, steps)))
    theirs = scheduler.add_noise(u, noise[:, 0], torch.tensor([level]))
    for t in scheduler.timesteps:
        theirs = scheduler.step(unet(theirs, t).sample, t, theirs).prev_sample
    model = NoisePredictor(unet)
    if steps == level + 1:
        ours = ancestral(model, u, noise, SCHEDULE, level)
    else:
        ours = ddim(model, u, noise, SCHEDULE, level, steps, eta=1.0)
    assert (ours - theirs).abs().max() < 1e-5
    assert next(fresh, None) is None  # every fresh draw was used


@torch.no_grad()
@pytest.mark.parametrize("correct", [None, lambda x_0, u: 0.7 * x_0 + 0.3 * u])
@pytest.mark.parametrize("pull", [0.0, 2.5])
def test_a_guided_step_is_the_posterior_of_the_corrected_estimate(correct, pull) -> None:
    """Ho et al. 2020, eq. 6 and 7, with the mean moved by the variance times the shift (Dhariwal & Nichol 2021)."""
    u, first, fresh, x_t, seen = *torch.randn(4, 2, 3, 6, 6, dtype=torch.float64), []
    alpha, alpha_next = 0.6, 0.8

    def shift(
        x_t: torch.Tensor, u_t: torch.Tensor, alpha: float, x_0: torch.Tensor, its_u: torch.Tensor
    ) -> torch.Tensor:
        seen.append((x_t, u_t, alpha))
        assert torch.equal(its_u, u) and x_0.shape == u.shape
        return pull * (u_t - x_t)

    eps = torch.randn(x_t.shape, dtype=x_t.dtype)
    stepped = reverse_step(
        x_t, u, first, fresh, denoiser=lambda x, t: eps, t=7, alpha=alpha, alpha_next=alpha_next, eta=1.0,
        correct=correct, shift=shift,
    )  # fmt: skip
    x_0 = (x_t - (1 - alpha) ** 0.5 * eps) / alpha**0.5
    x_0 = x_0 if correct is None else correct(x_0, u)
    beta = 1 - alpha / alpha_next
    variance = (1 - alpha_next) / (1 - alpha) * beta
    mean = (alpha_next**0.5 * beta * x_0 + (alpha / alpha_next) ** 0.5 * (1 - alpha_next) * x_t) / (1 - alpha)
    noisy_input = alpha**0.5 * u + (1 - alpha) ** 0.5 * first
    assert torch.allclose(stepped, mean + variance * pull * (noisy_input - x_t) + variance**0.5 * fresh)
    ((at, beside, level),) = seen
    assert torch.equal(at, x_t) and torch.allclose(beside, noisy_input) and level == alpha


@torch.no_grad()
def test_the_average_is_the_mean_of_its_samples() -> None:
    u, model = images() * 2 - 1, NoisePredictor(tiny_unet())
    noise = _draws(PLANS["average"], u)
    singles = [one_step(model, u, noise[:, k], SCHEDULE, 20) for k in range(3)]
    mean = average(lambda u, draw: one_step(model, u, draw, SCHEDULE, 20), u, noise)
    assert torch.allclose(mean, sum(singles) / 3, atol=1e-6)
    assert (singles[0] - singles[1]).abs().max() > 1e-2


@pytest.mark.parametrize("name, guide", CASES, ids=IDS)
def test_the_gradient_is_that_of_finite_differences(name, guide) -> None:
    x = images(1, dtype=torch.float64)
    made, restorer = purifier(PLANS[name], torch.float64, **guide), TinyRestorer().double()
    noise = noise_for(made, x)
    target = images(1, dtype=torch.float64).flip(-1)

    def damage(image: torch.Tensor) -> torch.Tensor:
        return (restorer(made(image, noise)) - target).square().sum()

    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(damage(x), x)
    slope = (gradient * direction).sum().item()
    h = 1e-4
    with torch.no_grad():  # fourth order, so that only rounding is left
        values = [damage(x + k * h * direction).item() for k in (-2, -1, 1, 2)]
    finite = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
    assert abs(slope) > 1e-2
    assert finite == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("name, guide", CASES, ids=IDS)
def test_checkpointed_equals_plain_bit_for_bit(name, guide) -> None:
    made, x = purifier(PLANS[name], **guide), images()
    noise, answers = noise_for(made, x), []
    for path in (Exact(), Checkpointed(), Checkpointed()):
        leaf = x.clone().requires_grad_(True)
        y = path(made, leaf, noise)
        (gradient,) = torch.autograd.grad(y.square().sum(), leaf)
        answers.append((y.detach(), gradient))
    assert answers[0][1].abs().max() > 0
    for y, gradient in answers[1:]:
        assert torch.equal(y, answers[0][0]) and torch.equal(gradient, answers[0][1])
    assert torch.equal(made(x, noise), answers[0][0])


def test_the_exact_gradient_is_checkpointed_where_there_are_steps_or_tiles() -> None:
    made = [
        purifier(plan_of(7, sampler="ancestral")),
        purifier(plan_of(7), tile=24, overlap=4),
        purifier(plan_of(7, samples=3)),
    ]
    assert [type(each.gradients["adaptive"]) for each in made] == [Checkpointed, Checkpointed, Exact]


def test_checkpoints_keep_less() -> None:
    made, x = purifier(plan_of(7, sampler="ancestral")), images(1, 32, 32)
    noise, kept = noise_for(made, x), []
    for path in (Exact(), Checkpointed()):
        total = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            path(made, x.clone().requires_grad_(True), noise)
        kept.append(total)
    assert kept[1] < kept[0] / 5


@pytest.mark.parametrize("name, steps", [*((name, 1) for name in PLANS), ("ddim", 2), ("ancestral", 3)])
def test_the_surrogate_goes_back_through_the_short_chain(name, steps) -> None:
    made, x = purifier(PLANS[name]), images()
    noise, leaf = noise_for(made, x), images().requires_grad_(True)
    weights = torch.randn(x.shape)
    y = Surrogate(steps=steps)(made, leaf, noise)
    (gradient,) = torch.autograd.grad((y * weights).sum(), leaf)
    assert torch.equal(y.detach(), made(x, noise))
    u = leaf * 2 - 1
    level = PLANS[name].noise_level
    short = average(lambda u, draw: ddim(made.model, u, draw, SCHEDULE, level, steps), u, noise)
    (expected,) = torch.autograd.grad(((short + 1) / 2 * weights).sum(), leaf)
    assert torch.allclose(gradient, expected, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(Surrogate(steps=steps)(made, x, noise), y)


def test_straight_through_goes_back_as_the_identity() -> None:
    made, x = purifier(PLANS["ddim"]), images()
    noise, leaf, weights = noise_for(made, x), images().requires_grad_(True), torch.randn(x.shape)
    y = StraightThrough()(made, leaf, noise)
    (gradient,) = torch.autograd.grad((y * weights).sum(), leaf)
    assert torch.equal(gradient, weights) and torch.equal(y.detach(), made(x, noise))
    assert (y.detach() - x).abs().max() > 1e-2


def test_a_gradient_calls_itself_exact_only_where_its_gradient_is() -> None:
    made, x = purifier(PLANS["ddim"]), images()
    noise, weights, exact = noise_for(made, x), torch.randn(x.shape), None
    for path in (Exact(), Checkpointed(), Surrogate(), StraightThrough()):
        leaf = x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad((path(made, leaf, noise) * weights).sum(), leaf)
        exact = gradient if exact is None else exact
        assert torch.allclose(gradient, exact, atol=1e-5) is (path.exactness == "exact")
        assert path.exactness.startswith(("exact", "approximate: ")) and path.memory


@torch.no_grad()
@pytest.mark.parametrize("name, guide", CASES, ids=IDS)
def test_replayed_noise_and_batches_give_the_same_image(name, guide) -> None:
    made, x = purifier(PLANS[name], **guide), images(3)
    noise = noise_for(made, x)
    whole = made(x, noise)
    assert torch.equal(noise, noise_for(made, x)) and torch.equal(whole, made(x, noise))
    for i in range(3):
        alone = x[i : i + 1]
        its_noise = made.draw(alone, Streams([100 + i]))
        assert torch.equal(its_noise[0], noise[i])
        assert torch.allclose(made(alone, its_noise)[0], whole[i], atol=1e-5)
    assert (whole - made(x, noise_for(made, x, seed=500))).abs().max() > 1e-3


@torch.no_grad()
@settings(max_examples=12, deadline=None)
@given(st.integers(1, 21), st.integers(1, 21))
def test_any_size(height, width) -> None:
    made, x = purifier(PLANS["one_step"]), images(1, height, width)
    noise = noise_for(made, x)
    assert noise.shape[-2] % 2 == noise.shape[-1] % 2 == 0
    y = made(x, noise)
    assert y.shape == x.shape and y.isfinite().all()


@torch.no_grad()
def test_nothing_is_clamped_and_the_model_sees_minus_one_to_one() -> None:
    seen = []

    def model(x_t: torch.Tensor, t: int) -> torch.Tensor:
        seen.append(x_t)
        return torch.zeros_like(x_t)

    made = Purifier(model, SCHEDULE, plan_of(300))
    x = torch.ones(1, 3, 8, 8)
    y = made(x, noise_for(made, x))
    assert y.max() > 1.3
    made(x, torch.zeros(1, 1, 1, 3, 8, 8))
    assert torch.allclose(seen[-1], torch.full_like(x, SCHEDULE.alpha(300) ** 0.5))


@pytest.mark.parametrize("name", PLANS)
def test_model_calls_are_counted(name) -> None:
    made, x, calls = purifier(PLANS[name]), images(), []
    noise = noise_for(made, x)
    made.model.register_forward_hook(lambda module, args, output: calls.extend([args[1]] * (len(output) // len(x))))  # type: ignore[union-attr]
    made(x, noise)
    assert len(calls) == PLANS[name].nfe and max(calls) == PLANS[name].noise_level


@torch.no_grad()
def test_tiles_share_one_noise_field() -> None:
    x = images(1, 30, 41)

    # A model of one pixel sees no border: tiles that share the noise must give the very image.
    def model(x_t: torch.Tensor, t: int) -> torch.Tensor:
        return x_t * 0.3

    whole = Purifier(model, SCHEDULE, PLANS["one_step"], multiple=2)
    tiles = Purifier(model, SCHEDULE, PLANS["one_step"], multiple=2, tile=20, overlap=4)
    noise = noise_for(whole, x)
    assert noise_for(tiles, x).equal(noise)
    assert torch.allclose(tiles(x, noise), whole(x, noise), atol=1e-6)
    assert torch.equal(purifier(PLANS["one_step"], tile=64)(x, noise), purifier(PLANS["one_step"])(x, noise))


@torch.no_grad()
@pytest.mark.parametrize("height, width, calls", [(20, 40, 3), (40, 20, 3), (20, 20, 1), (12, 18, 1)])
def test_no_tile_is_larger_than_told(height, width, calls) -> None:
    seen = []

    def model(x_t: torch.Tensor, t: int) -> torch.Tensor:
        seen.append(x_t.shape[-2:])
        return x_t * 0.3

    made, x = Purifier(model, SCHEDULE, PLANS["one_step"], multiple=2, tile=20, overlap=4), images(1, height, width)
    made(x, noise_for(made, x))
    assert len(seen) == calls and all(max(size) <= 20 for size in seen)


def test_tiles_let_the_gradient_through() -> None:
    made, x = purifier(PLANS["one_step"], torch.float64, tile=12, overlap=2), images(1, 15, 18, torch.float64)
    noise, direction = noise_for(made, x), torch.randn(x.shape, dtype=torch.float64)
    leaf = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(made(leaf, noise).square().sum(), leaf)
    h = 1e-5
    with torch.no_grad():
        ends = [made(x + k * h * direction, noise).square().sum().item() for k in (-1, 1)]
    assert (ends[1] - ends[0]) / (2 * h) == pytest.approx((gradient * direction).sum().item(), rel=1e-6)


def test_low_frequencies_are_anchored() -> None:
    u = images(1, 32, 32) * 2 - 1
    correct = low_frequency_consistency(2.0)
    wrong = u * 0.5 + 0.3  # a wrong mean and contrast
    assert (correct(wrong, u).mean() - u.mean()).abs() < 0.1 * (wrong.mean() - u.mean()).abs()
    assert torch.equal(correct(u, u), u)
    difference = [gaussian_filter(plane, 2.0, mode="nearest", truncate=3.0) for plane in (u - wrong)[0].numpy()]
    assert np.allclose(correct(wrong, u)[0], wrong[0].numpy() + np.stack(difference), atol=1e-5)


@pytest.mark.parametrize("eps, scale, alpha", [(4 / 255, 60_000.0, 0.9), (0.1, 500.0, 0.3)])
def test_gdmp_is_as_strong_as_published(eps, scale, alpha) -> None:
    x_t, u_t = torch.randn(2, 2, 3, 12, 12)
    strength = (1 - alpha) ** 0.5 / alpha**0.5 * scale / (2 / 3 * eps)
    slope = 2 * (x_t - u_t) / x_t[0].numel()
    assert torch.allclose(gdmp(eps, "mse", scale)(x_t, u_t, alpha), -strength * slope, rtol=1e-4)


def test_agdm_pulls_features_and_classes_of_the_clean_estimate_toward_the_input() -> None:
    """Its pull is the gradient of the written-out agreement at the clean estimate, over the root of abar."""
    generator = torch.Generator().manual_seed(0)
    x_t, u, x_0 = (torch.rand(2, 3, 8, 8, generator=generator) * 2 - 1 for _ in range(3))
    with torch.no_grad():
        pulled = agdm(_robust_view, 30.0, 2.0)(x_t, u, 0.81, x_0, u)
        alone = agdm(_robust_view, 30.0, 2.0)(x_t[:1], u[:1], 0.81, x_0[:1], u[:1])
        assert torch.allclose(pulled[:1], alone, rtol=1e-4)
    leaf = x_0.clone().requires_grad_(True)
    (ours, scores), (theirs, wanted) = _robust_view((leaf + 1) / 2), _robust_view((u + 1) / 2)
    agreement = -30 * (ours - theirs).square().mean((1, 2, 3))
    agreement = agreement + 2 * (wanted.softmax(1) * scores.log_softmax(1)).sum(1)
    (slope,) = torch.autograd.grad(agreement.sum(), leaf)
    assert torch.allclose(pulled, slope / 0.9, rtol=1e-4) and not pulled.requires_grad
    # Features alone: the pull does not know classes, and is nothing where both agree.
    unlabelled = agdm(lambda x: (_robust_view(x)[0], None), 30.0, 2.0)(x_t, u, 0.81, x_0, u)
    assert torch.equal(unlabelled.detach(), agdm(_robust_view, 30.0)(x_t, u, 0.81, x_0, u).detach())
    assert torch.equal(agdm(_robust_view, 30.0)(x_t, u, 0.81, u, u).detach(), torch.zeros_like(u))


def test_gdmp_pulls_toward_the_input_and_per_image() -> None:
    u_t = torch.rand(2, 3, 16, 16)
    x_t = u_t + torch.tensor([0.1, -0.2]).view(2, 1, 1, 1)
    for distance in ("mse", "ssim"):
        shift = gdmp(8 / 255, distance)
        with torch.no_grad():
            pulled = shift(x_t, u_t, 0.9)
            assert torch.allclose(pulled[:1], shift(x_t[:1], u_t[:1], 0.9), rtol=1e-4)
        assert not pulled.requires_grad
        assert (pulled * (u_t - x_t)).sum() > 0
    assert gdmp(4 / 255)(x_t, u_t, 0.9).abs().sum() > gdmp(8 / 255)(x_t, u_t, 0.9).abs().sum()
    with pytest.raises(ValueError, match="mse or ssim"):
        gdmp(0.1, "lpips")


@torch.no_grad()
def test_guidance_brings_the_purified_image_nearer() -> None:
    x = images(1, 16, 16)
    plain = purifier(PLANS["long_steps"])
    noise = noise_for(plain, x)
    far = (plain(x, noise) - x).square().mean()
    for guide in GUIDED.values():
        assert (purifier(PLANS["long_steps"], **guide)(x, noise) - x).square().mean() < far


def test_the_attack_core_climbs_through_a_purifier() -> None:
    x = torch.round((0.3 + 0.4 * images(2, 12, 12)) * 255) / 255
    made = purifier(plan_of(20, sampler="ddim", steps=2))
    restorer, judge = TinyRestorer(), [3, 4]
    damages = {}
    for path in (Checkpointed(), Surrogate(1), StraightThrough()):
        victim = Defended(made, restorer, path)
        result = attack(
            victim, x, objective("mse"), Linf(8 / 255), "pgd", target=x, seeds=[1, 2], judge_seeds=judge,
            known_seed=True, steps=4, random_start=False,
        )  # fmt: skip
        assert (result.adv_values > result.clean_values).all() and (result.bad_gradients == 0).all()
        assert torch.allclose(result.clean_output, restorer(made(x, made.draw(x, Streams(judge)))))
        damages[type(path).__name__] = result.adv_values.mean().item()
    assert damages["Checkpointed"] > damages["StraightThrough"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sampler": "ddmi"}, "unknown sampler 'ddmi': did you mean 'ddim'"),
        ({"steps": 2}, "one_step takes one step"),
        ({"sampler": "ddim", "steps": 22}, r"steps must be in 1\.\.21"),
        ({"sampler": "ddim", "steps": 0}, "steps: Input should be greater than or equal to 1"),
        ({"samples": 0}, "samples: Input should be greater than or equal to 1"),
        ({"sampler": "ddim", "eta": 1.5}, "eta: Input should be less than or equal to 1"),
        ({"eta": 0.5}, "eta belongs to ddim"),
    ],
)
def test_impossible_plans(options, message) -> None:
    with pytest.raises(UserError, match=message):
        plan_of(20, **options)


def test_noise_of_another_shape_and_impossible_tiles() -> None:
    made, x = purifier(PLANS["average"]), images()
    with pytest.raises(ValueError, match="noise must be of shape"):
        made(x, torch.zeros(2, 1, 1, 3, 16, 16))
    for tile in (13, 8):
        with pytest.raises(UserError, match=f"tile {tile}.* must be (a multiple of 2|more than twice|0 or more)"):
            purifier(PLANS["average"], tile=tile, overlap=4)

"""The final ``attack()``: budget, seeds, batch independence, honest counts, untouched weights, bad input."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from udc_robust.attacks import L2, METHODS, Linf, Streams, attack, image_seed, objective
from udc_robust.attacks.gradient import perturb
from udc_robust.attacks.methods import method

FAST = {
    "noise": {},
    "fgsm": {},
    "ifgsm": {"steps": 4},
    "pgd": {"steps": 4, "restarts": 2},
    "apgd": {"steps": 12},
    "mifgsm": {"steps": 4},
    "cospgd": {"steps": 4},
    "segpgd": {"steps": 4},
    "smooth_field": {"blur": 2.0},
    "colour_shift": {"steps": 4},
    "fmixup": {"steps": 12},
    "elastic_net": {"steps": 40},
    "band_pgd": {"steps": 6, "low": 0.5, "high": 1.0},
    "region_pgd": {"steps": 4, "region": (2, 3, 8, 9)},
    "patch": {"steps": 12, "region": (2, 3, 4, 5)},
    "cw": {"steps": 12, "search_steps": 4, "lr": 0.02},
    "ddn": {"steps": 12},
    "brightness": {},
    "simba": {"steps": 12, "step_size": 0.1},
    "square": {"steps": 12},
    "nes": {"queries": 63, "samples": 20},
}


class Sharpener(nn.Module):
    """A small linear 'restorer' that amplifies high frequencies: every attack can hurt it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)
        kernel = torch.tensor([[-0.2, -0.4, -0.2], [-0.4, 3.4, -0.4], [-0.2, -0.4, -0.2]])
        self.conv.weight = nn.Parameter(kernel.expand(3, 1, 3, 3).clone())
        self.dropout = nn.Dropout(0.5)  # random unless the attack evaluates in eval mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.conv(x))


class Creased(Sharpener):
    """Its damage rises and falls with every step: what is best for one image is not for its neighbour."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (20 * super().forward(x) % 2 - 1).abs()


def _batch(n: int = 3, height: int = 12, width: int = 16) -> torch.Tensor:
    x = torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(3))
    return torch.round((0.3 + 0.4 * x) * 255) / 255


def _gt(x: torch.Tensor) -> torch.Tensor:
    return (x + 0.02).clamp(0, 1)


def _cases() -> list[tuple[str, object]]:
    budgets = {"linf": Linf(8 / 255), "l2": L2(1.5)}
    return [(name, budgets[norm]) for name in FAST for norm in METHODS[name].norms if norm in budgets]


@pytest.mark.parametrize("name, threat", _cases())
def test_every_method_is_inside_its_budget_and_does_its_work(name, threat) -> None:
    x = _batch()
    result = attack(Sharpener(), x, objective("mse"), threat, name, target=_gt(x), seeds=[1, 2, 3], **FAST[name])
    assert (threat.distance(x, result.x_adv) <= threat.eps + 1e-5).all()
    assert torch.allclose(result.x_adv * 255, torch.round(result.x_adv * 255), atol=1e-4)
    assert result.x_adv.min() >= 0 and result.x_adv.max() <= 1
    # The detail of a photograph is less than what a picture of noise has already.
    assert (result.adv_values > result.clean_values).all() or name == "fmixup"
    recomputed = objective("mse").values(Sharpener().eval()(result.x_adv), _gt(x))
    assert torch.allclose(result.adv_values, recomputed)


@pytest.mark.parametrize("against", ["gt", "clean"])
@pytest.mark.parametrize("name, threat", _cases())
@pytest.mark.parametrize("victim", [Sharpener(), Creased()], ids=["sharpener", "creased"])
def test_an_image_does_not_feel_its_neighbours(name, threat, victim, against) -> None:
    x, mse = _batch(), objective("mse")
    target = _gt(x) if against == "gt" else None
    together = attack(victim, x, mse, threat, name, target=target, seeds=[1, 2, 3], **FAST[name])
    order = [2, 0]
    target = None if target is None else target[order]
    shuffled = attack(victim, x[order], mse, threat, name, target=target, seeds=[3, 1], **FAST[name])
    assert torch.allclose(shuffled.x_adv, together.x_adv[order], atol=1e-6)
    assert torch.equal(shuffled.meter.queries, together.meter.queries[order])


@pytest.mark.parametrize("name, times", [("ifgsm", 6), ("pgd", 4.5), ("apgd", 6), ("square", 3), ("simba", 3)])
def test_attacks_do_several_times_the_damage_of_noise_of_the_same_norm(name, times) -> None:
    x, threat = _batch(), Linf(8 / 255)
    options = {**FAST[name], **({"steps": 300} if METHODS[name].access == "query" else {})}
    noise = attack(Sharpener(), x, objective("mse"), threat, "noise", target=_gt(x), seeds=[1, 2, 3])
    hit = attack(Sharpener(), x, objective("mse"), threat, name, target=_gt(x), seeds=[1, 2, 3], **options)
    assert (hit.adv_values - hit.clean_values > times * (noise.adv_values - noise.clean_values)).all()


def test_counts_are_honest() -> None:
    calls = 0

    def victim(x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += len(x)
        return 2 * x

    x = _batch(2)
    for name in ("fgsm", "pgd", "simba", "square"):
        calls = 0
        meter = attack(victim, x, objective("mse"), Linf(0.05), name, target=x, seeds=[1, 2], **FAST[name]).meter
        scoring = 2 * len(x)  # before and after, not part of the method's bill
        assert int(meter.forwards.sum()) == calls - scoring
        assert torch.equal(meter.forwards, meter.backwards + meter.queries)


def test_pgd_is_bit_equal_to_the_textbook_loop() -> None:
    x, victim, eps, alpha = _batch(), Sharpener().eval(), 8 / 255, 2 / 255
    x_adv = x.clone()
    for _ in range(5):
        x_adv = x_adv.detach().requires_grad_(True)
        loss = nn.functional.mse_loss(victim(x_adv), _gt(x))
        (gradient,) = torch.autograd.grad(loss, x_adv)
        delta = (x_adv.detach() + alpha * gradient.sign() - x).clamp(-eps, eps)
        x_adv = (x + delta).clamp(0, 1)
    options = {"steps": 5, "step_size": alpha, "round_8_bit": False}
    ours = attack(victim, x, objective("mse"), Linf(eps), "ifgsm", target=_gt(x), seeds=[1, 2, 3], **options)
    assert torch.equal(ours.x_adv, x_adv)


def test_cw_finds_a_smaller_change_than_pgd_needs() -> None:
    x = _batch()
    options = {"steps": 60, "search_steps": 7, "lr": 0.02, "round_8_bit": False}
    cw = attack(Sharpener(), x, objective("mse"), L2(float("inf")), "cw", target=_gt(x), seeds=[1, 2, 3], **options)
    assert cw.success.all()
    shorter = L2(float(cw.l2.min()) * 0.7)
    pgd = attack(Sharpener(), x, objective("mse"), shorter, "pgd", target=_gt(x), seeds=[1, 2, 3], steps=40)
    assert not pgd.success.any()


def test_cw_stays_within_a_budget_where_it_has_one() -> None:
    x, threat = _batch(), L2(0.3)
    options = {"steps": 60, "search_steps": 4, "lr": 0.02, "round_8_bit": False}
    result = attack(Sharpener(), x, objective("mse"), threat, "cw", target=_gt(x), seeds=[1, 2, 3], **options)
    assert (result.l2 <= 0.3 + 1e-6).all() and (result.l2 > 0.29).all()


def test_cw_that_never_succeeds_returns_a_real_image() -> None:
    x = _batch()
    blind = lambda images: images.mean((1, 2, 3), keepdim=True).expand_as(images)  # noqa: E731
    hard = objective("mse", drop_db=60)
    result = attack(blind, x, hard, L2(float("inf")), "cw", target=x, seeds=[1, 2, 3], steps=5, search_steps=2)
    assert not result.success.any()
    assert (result.x_adv - x).abs().mean() < 0.2 and result.x_adv.isfinite().all()


def test_margin_objective_serves_classifiers() -> None:
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 16, 5))
    x = _batch()
    labels = classifier(x).argmax(1)
    for name in ("margin", "cross_entropy"):
        result = attack(classifier, x, objective(name), Linf(8 / 255), "pgd", target=labels, seeds=[1, 2, 3])
        assert result.success.all()
        assert (classifier(result.x_adv).argmax(1) != labels).all()


def _gradient_cases() -> list[tuple[str, object]]:
    return [(name, threat) for name, threat in _cases() if METHODS[name].access == "gradient"]


def test_every_gradient_method_is_tried() -> None:
    # Those of perceptual budgets have a file of their own.
    met = {name for name, method in METHODS.items() if method.access == "gradient" and "l2" in method.norms}
    assert {name for name, _ in _gradient_cases()} == met


def _strong_cases() -> list[tuple[str, object]]:
    """A sharpener does nothing to a shift of colour."""
    return [(name, threat) for name, threat in _gradient_cases() if name != "colour_shift"]


@pytest.mark.parametrize("name, threat", _strong_cases())
def test_against_the_clean_restoration_every_gradient_method_beats_noise(name, threat) -> None:
    x, mse = _batch(), objective("mse")
    result = attack(Sharpener(), x, mse, threat, name, seeds=[1, 2, 3], **FAST[name])
    for row in range(len(x)):
        whole = threat.norm == "linf" and METHODS[name].check is None  # not in a region or band
        same_norm = Linf(threat.eps) if whole else L2(float(result.l2[row]))
        noise = attack(Sharpener(), x[[row]], mse, same_norm, "noise", seeds=[row], round_8_bit=False)
        assert result.adv_values[row] > 1.05 * noise.adv_values[0] > 0
    assert (result.bad_gradients == 0).all()


@pytest.mark.parametrize("name, threat", _gradient_cases())
def test_only_the_images_attacked_against_their_clean_restoration_start_elsewhere(name, threat) -> None:
    x, mse, victim = _batch(), objective("mse"), Sharpener()
    target = _gt(x)
    target[1] = victim.eval()(x)[1].detach()
    mixed = attack(victim, x, mse, threat, name, target=target, seeds=[1, 2, 3], **FAST[name])
    bare = attack(victim, x, mse, threat, name, target=_gt(x), seeds=[1, 2, 3], **FAST[name])
    assert torch.equal(mixed.x_adv[[0, 2]], bare.x_adv[[0, 2]])
    own = attack(victim, x[[1]], mse, threat, name, seeds=[2], **FAST[name])
    assert torch.allclose(mixed.x_adv[1], own.x_adv[0], atol=1e-6) and (own.adv_values > 1e-4).all()


def _of_scores() -> list[tuple[str, object]]:
    return [(n, t) for n, t in _strong_cases() if not (METHODS[n].unbounded or METHODS[n].images_only)]


@pytest.mark.parametrize("name, threat", _of_scores())
def test_a_divergence_moves_from_the_clean_scores(name, threat) -> None:
    classifier, x = nn.Sequential(nn.Flatten(), nn.Linear(576, 5)), _batch()
    result = attack(classifier, x, objective("divergence"), threat, name, seeds=[1, 2, 3], **FAST[name])
    noise = attack(classifier, x, objective("divergence"), threat, "noise", seeds=[1, 2, 3])
    assert (result.adv_values > 2 * noise.adv_values).all() and (result.bad_gradients == 0).all()


@pytest.mark.parametrize("steps, size", [(1, 2.5), (3, 2.5 / 3), (10, 0.25), (40, 0.25)])
def test_the_step_size_lets_an_attack_reach_every_point_of_its_ball(steps, size) -> None:
    x, options = _batch(), {"steps": steps, "round_8_bit": False}
    runs = [
        attack(Sharpener(), x, objective("mse"), Linf(0.04), "pgd", target=_gt(x), seeds=[1, 2, 3], **options, **more)
        for more in ({}, {"step_size": 0.04 * size})
    ]
    assert torch.equal(runs[0].x_adv, runs[1].x_adv)


@pytest.mark.parametrize("threat", [Linf(8 / 255), L2(1.5)])
def test_the_inner_attack_of_trainings_is_pgd_without_its_scores(threat) -> None:
    """Also where the victim is random and a gradient is not finite."""

    class Patchy(nn.Module):
        random = True

        def forward(self, x, streams):
            y = 4 * (x + 0.01 * streams.normal(x)).square()
            y[:, :, :1] = (x - x.detach())[:, :, :1].sqrt()  # a slope that is infinite
            return y

    x, mse, seeds = _batch(), objective("mse"), [1, 2, 3]
    whole = attack(
        Patchy(), x, mse, threat, "pgd", target=_gt(x), seeds=seeds, steps=1, step_size=0.01, round_8_bit=False
    )
    streams = Streams(seeds)
    light = perturb(Patchy(), x, mse, threat, target=_gt(x), streams=streams, steps=1, step_size=0.01)
    best_is_start = (whole.x_adv == threat.start(x, Streams(seeds))).flatten(1).all(1)
    assert (whole.bad_gradients == 1).all() and not best_is_start.all()
    assert torch.equal(light[~best_is_start], threat.project(x, whole.x_adv)[~best_is_start])
    fresh = Streams(seeds)
    threat.start(x, fresh)
    assert torch.equal(streams.normal(x), fresh.normal(x))  # the victim drew from streams of its own


def test_nothing_of_the_victim_is_changed() -> None:
    victim = Sharpener()
    victim.train()
    victim.conv.eval()
    x = _batch()
    for wanted in (True, False):
        victim.conv.weight.requires_grad_(wanted)
        attack(victim, x, objective("mse"), Linf(0.02), "pgd", seeds=[1, 2, 3], steps=2)
        assert victim.training and victim.dropout.training and not victim.conv.training
        assert victim.conv.weight.requires_grad is wanted and victim.conv.weight.grad is None
    assert torch.equal(x, _batch()) and not x.requires_grad


def test_a_method_is_never_trusted() -> None:
    @method("gradient", keeps_best=False)
    def _escape(oracle, x, threat):
        return x + 3

    assert "_escape" not in METHODS  # only the methods of the suite are named without a path
    x, options = _batch(), {"target": _batch(), "seeds": [1, 2, 3]}
    for threat in (Linf(4 / 255), L2(0.5)):
        for rounded in (False, True):  # rounding alone would keep an Linf budget
            result = attack(Sharpener(), x, objective("mse"), threat, _escape.method, round_8_bit=rounded, **options)
            assert (threat.distance(x, result.x_adv) <= threat.eps + 1e-6).all()


@pytest.mark.parametrize("bad", [float("nan"), 1.1, 1.001, -0.001])
def test_images_outside_the_box_are_refused(bad) -> None:
    x = torch.full((1, 3, 8, 8), 0.5)
    x[0, 1, 2, 3] = bad
    with pytest.raises(ValueError, match=r"finite and in \[0"):
        attack(Sharpener(), x, objective("mse"), Linf(0.1), "pgd", seeds=[1])


def test_some_ulps_beside_the_box_are_taken_for_its_border() -> None:
    x = torch.tensor([-1e-7, 0.5, 1 + 2e-7]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    for name in ("noise", "pgd", "square", "cw"):
        threat = L2(1.0) if name == "cw" else Linf(0.1)
        x_adv = attack(Sharpener(), x, objective("mse"), threat, name, seeds=[1], **{**FAST[name]}).x_adv
        assert x_adv.min() >= 0 and x_adv.max() <= 1


def test_wrong_calls_are_refused() -> None:
    x = _batch()
    with pytest.raises(ValueError, match="3 seeds, not 1"):
        attack(Sharpener(), x, objective("mse"), Linf(0.1), "pgd", seeds=[1])
    with pytest.raises(ValueError, match="defined for l2, not for linf"):
        attack(Sharpener(), x, objective("mse"), Linf(0.1), "cw", seeds=[1, 2, 3])
    with pytest.raises(ValueError, match="eps must be 0 or more"):
        attack(Sharpener(), x, objective("mse"), Linf(-0.1), "pgd", seeds=[1, 2, 3])


def test_image_seed_is_stable_and_spread() -> None:
    assert image_seed(0, "a", "pgd") == image_seed(0, "a", "pgd")
    assert len({image_seed(s, k, c) for s in (0, 1) for k in "ab" for c in ("x", "y")}) == 8

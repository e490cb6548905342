"""Attacks within an LPIPS budget: the distance, the budget kept, and stronger than noise that looks as bad."""

from __future__ import annotations

import lpips
import pytest
import torch

from udc_robust import metrics
from udc_robust.attacks import METHODS, Streams, attack, objective
from udc_robust.attacks import perceptual as ours
from udc_robust.metrics.perceptual import lpips_features

METHOD_NAMES = ("ppgd", "lpa", "fast_lpa")


@pytest.fixture(autouse=True)
def backbone(monkeypatch):
    """SqueezeNet with random features and weights: any network will do for the algebra."""
    torch.manual_seed(0)
    network = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False).eval().requires_grad_(False)
    monkeypatch.setattr(ours, "load_lpips", lambda name, device="cpu": network)
    return network


def _images(n: int = 2) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 32), indexing="ij")
    return torch.stack([torch.stack([(x + i) % 1, y, x * y]) for i in torch.linspace(0, 0.5, n)]) * 0.8 + 0.1


def _victim(x: torch.Tensor) -> torch.Tensor:
    """A sharpener: it makes fine differences larger."""
    return x + 1.5 * (x - torch.nn.functional.avg_pool2d(x, 5, 1, 2))


def test_the_squared_length_of_feature_differences_is_lpips(backbone) -> None:
    a, b = torch.rand(2, 2, 3, 48, 40)
    features = lpips_features(backbone, a) - lpips_features(backbone, b)
    assert torch.allclose(features.square().sum(1), metrics.lpips_distance(backbone, a, b), rtol=1e-5)


def test_points_of_the_budget_stay_and_others_are_brought_to_its_border() -> None:
    x, threat = _images(), ours.LpipsSqueeze(1e-3)
    inside = x + 1e-4 * torch.randn(x.shape)
    assert torch.equal(threat.project(x, inside), inside.clamp(0, 1)) and float(threat.distance(x, inside).max()) < 1e-3
    far = threat.distance(x, threat.project(x, x + 0.3 * torch.randn(x.shape)))
    assert ((far <= 1e-3) & (far > 0.95e-3)).all()
    moved = threat.distance(inside, threat.step(inside, torch.randn(x.shape), 1e-3 / 10))
    assert torch.allclose(moved.sqrt(), torch.full((2,), 0.1 * 1e-3**0.5), rtol=0.2)  # a tenth of the radius


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_attacks_keep_the_budget_and_beat_noise_that_looks_as_bad(name) -> None:
    x, threat, target = _images(), ours.LpipsSqueeze(1e-3), _victim(_images())

    def run(method, images=x, seeds=(3, 5)):
        return attack(_victim, images, objective("mse"), threat, method, target=_victim(images), seeds=list(seeds))

    found, control = run(name), run("noise")
    assert (threat.distance(x, found.x_adv) <= 1e-3 * (1 + 1e-5)).all()
    assert torch.equal(found.x_adv, (found.x_adv * 255).round() / 255)
    assert (found.adv_values > 1.5 * control.adv_values).all()
    alone = run(name, x[1:], (5,))
    # A batch of another size adds up in another order, which rounding to levels makes visible here and there.
    assert (alone.x_adv[0] - found.x_adv[1]).abs().mean() < 0.25 / 255 and target.shape == x.shape
    other = run(name, x[1:], (6,))
    assert (other.x_adv[0] - found.x_adv[1]).abs().mean() > 1 / 255


def test_the_natural_gradient_solves_its_equation() -> None:
    x, gradient = _images(1), torch.randn(1, 3, 32, 32)
    threat = ours.LpipsSqueeze(1e-3)
    gradient = ours._gram(threat, x)(gradient)  # in the range of the matrix
    rest = [
        float((ours._gram(threat, x)(ours._natural(threat, x, gradient, steps)) - gradient).norm()) for steps in (1, 8)
    ]
    assert rest[1] < 0.5 * rest[0] < 0.5 * float(gradient.norm())


def test_what_it_is_not_defined_for_is_refused() -> None:
    with pytest.raises(ValueError, match="linear light"):
        ours.LpipsAlex(0.1, 0.0, 500.0)
    with pytest.raises(ValueError, match="32 px or more"):
        attack(_victim, _images()[..., :24], objective("mse"), ours.LpipsSqueeze(0.1), "lpa", seeds=[0, 1])
    with pytest.raises(ValueError, match="defined for lpips_alex, lpips_squeeze"):
        attack(_victim, _images(), objective("mse"), METHODS and ours.THREATS["linf"](0.1), "ppgd", seeds=[0, 1])
    assert float(ours.LpipsSqueeze(0.01).noise(_images(), Streams([0, 1])).min()) >= 0

"""Each detector learns from clean images, scores an image by itself, and can be followed by who knows it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu

from udc_robust.defences.transforms import blurred
from udc_robust.detectors.boundary import led_to_the_border
from udc_robust.detectors.detector import features
from udc_robust.detectors.explanation import Explanation
from udc_robust.detectors.one_class import OneClass
from udc_robust.detectors.registry import DETECTORS, build_detector, check_detector
from udc_robust.errors import UserError
from udc_robust.metrics.detection import auroc

OPTIONS = {
    "explanation": {"steps": 3, "grid": 2}, "boundary": {"steps": 3}, "autoencoder": {"steps": 120, "width": 12},
    "residual": {"defence": {"kind": "blur", "sigma": 1.0}},
}  # fmt: skip


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(192, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(gelu(self.first(4 * x.flatten(1) - 2)))


@pytest.fixture
def network():
    torch.manual_seed(3)
    return Network().eval().requires_grad_(False)


def smooth(count: int, seed: int) -> torch.Tensor:
    """Images of two colours that run into each other."""
    made = torch.Generator().manual_seed(seed)
    ends = torch.rand(count, 3, 2, 2, generator=made)
    return nn.functional.interpolate(ends, size=8, mode="bilinear", align_corners=True)


@pytest.mark.parametrize("kind", DETECTORS)
def test_it_sees_what_is_unlike_and_has_a_gradient(kind, network) -> None:
    detector = build_detector(kind, OPTIONS[kind], "classifier", network, smooth(60, 0), 0)
    clean = smooth(40, 1)
    noise = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    strange = led_to_the_border(network, clean, 5) if kind == "boundary" else noise
    assert auroc(detector(strange).tolist(), detector(clean).tolist()) > 0.75
    alone = torch.cat([detector(image[None]) for image in strange])
    assert torch.allclose(alone, detector(strange), rtol=1e-3, atol=1e-5)  # an image's score is its own
    x = strange.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(detector(x).sum(), x)
    moved = (strange - 1e-3 * slope.sign()).clamp(0, 1)
    assert (detector(moved) < detector(strange)).float().mean() > 0.8


@pytest.mark.parametrize("kind", DETECTORS)
def test_the_same_seed_learns_the_same(kind, network) -> None:
    first, second = (build_detector(kind, OPTIONS[kind], "classifier", network, smooth(40, 0), 7) for _ in range(2))
    assert torch.equal(first(smooth(5, 1)), second(smooth(5, 1)))


def test_attributions_add_up_to_the_score(network) -> None:
    explained, x = Explanation(steps=64), smooth(4, 0)
    explained.network = network
    answer, scores = network(x).argmax(1), network(x) - network(torch.zeros(1, 3, 8, 8))
    total = explained.attributions(x).sum((1, 2, 3))
    assert torch.allclose(total, scores.gather(1, answer[:, None])[:, 0], atol=0.02)  # completeness


def test_border_samples_lie_on_the_border(network) -> None:
    x = smooth(20, 0)
    top = network(led_to_the_border(network, x, 8)).topk(2, 1).values
    before = network(x).topk(2, 1).values
    assert ((top[:, 0] - top[:, 1]) < 0.2 * (before[:, 0] - before[:, 1])).float().mean() > 0.7


def test_one_class_distance_is_one_on_average_and_feels_correlation() -> None:
    made = torch.Generator().manual_seed(0)
    one = torch.randn(500, 1, generator=made)
    vectors = torch.cat([one, one + 0.1 * torch.randn(500, 1, generator=made), torch.randn(500, 1, generator=made)], 1)
    model = OneClass()
    model.fit(vectors)
    assert float(model(vectors).mean()) == pytest.approx(1, abs=0.3)  # shrunk covariances are wider
    along, across = torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[1.0, -1.0, 0.0]])
    assert float(model(across)) > 10 * float(model(along))


def test_a_residual_of_answers_is_a_distance_of_predictions_or_of_restorations(network) -> None:
    x, restorer = smooth(4, 0), nn.Conv2d(3, 3, 1)
    options, after = {"defence": {"kind": "blur", "sigma": 1.0}, "of": "answer"}, blurred(x, 1.0)
    of_classes = build_detector("residual", options, "classifier", network, x, 0)
    assert torch.allclose(of_classes(x), (network(x).softmax(1) - network(after).softmax(1)).abs().sum(1), atol=1e-6)
    of_images = build_detector("residual", options, "restorer", restorer, x, 0)
    assert torch.allclose(of_images(x), (restorer(x) - restorer(after)).square().mean((1, 2, 3)).sqrt(), atol=1e-5)


def test_a_random_defence_gives_an_image_one_score_wherever_it_stands(network) -> None:
    x = smooth(3, 0)
    made = build_detector("residual", {"defence": {"kind": "noise", "sigma": 0.1}}, "classifier", network, x, 0)
    assert torch.equal(made(x), made(x)) and torch.allclose(made(x.flip(0)).flip(0), made(x))


def test_features_are_what_the_last_layer_is_given(network) -> None:
    x = smooth(3, 0)
    assert torch.allclose(network.last(features(network, x)), network(x))
    assert features(nn.Conv2d(3, 2, 1), x).shape == (3, 2 * 64)


@pytest.mark.parametrize(
    ("kind", "options", "beside", "told"),
    [
        ("explanaton", {}, "classifier", "did you mean 'explanation'"),
        ("explanation", {"step": 3}, "classifier", "'step'"),
        ("explanation", {"steps": 0}, "classifier", "steps must be in 1..256"),
        ("boundary", {}, "restorer", "cannot watch a restorer: take autoencoder, residual"),
        ("residual", {"defence": {"kind": "blurr"}}, "restorer", "did you mean 'blur'"),
        ("residual", {"defence": 3}, "restorer", "must be a block"),
        ("residual", {"defence": "blur", "of": "both"}, "restorer", "of"),
        ("autoencoder", {"rate": 2.0}, "restorer", "rate must be between 0 and 1"),
    ],
)
def test_mistakes_are_told(kind, options, beside, told) -> None:
    with pytest.raises(UserError, match=told):
        check_detector(kind, options, beside)

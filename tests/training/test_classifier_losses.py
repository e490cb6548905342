"""Each mode's loss and its gradient against the formula written out, on a fixed attacked batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from udc_robust.attacks import Linf, Streams, attack, objective
from udc_robust.config_file import check_config
from udc_robust.defences.defence import Defended, Exact, StraightThrough
from udc_robust.defences.registry import build_defence
from udc_robust.metrics import ssim
from udc_robust.training.classifier_config import ClassifierConfig
from udc_robust.training.classifier_losses import MODES, ClassifierSetup
from udc_robust.training.focal import focal_mean
from udc_robust.training.imperceptible import largest_hidden
from udc_robust.training.masks import MaskedClassifier
from udc_robust.training.simplex import RIDGE, simplex_divergence
from udc_robust.training.sinkhorn import sinkhorn_divergence

LABELS, SEEDS = torch.tensor([0, 2, 1, 2]), [5, 6, 7, 8]
X = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
X_ADV = (X + 0.2 * torch.randn(X.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)


def _setup(mode: str, classifier: nn.Module, representations=(None,), **changes) -> ClassifierSetup:
    values = {
        "name": "x", "train": "digits:train", "validation": "digits:test", "patch_size": 8, "network": "resnet8",
        "mode": mode, "beta": 3.0, "mask_share": 0.3, "mask_penalty": 0.9, "pad": 0, **changes,
    }  # fmt: skip
    if mode in ("transformed", "hybrid", "hybrid_adversarial") and "transforms" not in changes:
        values["transforms"] = [{"kind": "noise", "sigma": 0.1}]
    return ClassifierSetup(check_config(values, ClassifierConfig, "test"), classifier, list(representations))


def _classifier() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.Tanh(), nn.Linear(6, 3))


def _entropy(scores: Tensor) -> Tensor:
    return -scores.log_softmax(1)[torch.arange(4), LABELS].mean()


def _divergence(of: Tensor, moved: Tensor) -> Tensor:
    """Mean over the images of ``sum p (log p - log q)``, p the answer it is measured from."""
    p = of.softmax(1)
    return (p * (of.log_softmax(1) - moved.log_softmax(1))).sum(1).mean()


def _madry(f: nn.Module) -> Tensor:
    return _entropy(f(X_ADV))


def _trades(f: nn.Module) -> Tensor:
    return _entropy(f(X)) + 3.0 * _divergence(f(X), f(X_ADV))


def _sat(f: nn.Module) -> Tensor:
    return _entropy(f(X_ADV)) + sinkhorn_divergence(f(X), f(X_ADV))


def _same(loss: Tensor, expected: Tensor, network: nn.Module) -> None:
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    weights = list(network.parameters())
    for ours, theirs in zip(torch.autograd.grad(loss, weights), torch.autograd.grad(expected, weights), strict=True):
        assert theirs.abs().max() > 1e-4 and torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "mode, formula, labels", [("madry", _madry, LABELS), ("trades", _trades, None), ("sat", _sat, LABELS)]
)
def test_adversarial_losses(mode, formula, labels, monkeypatch) -> None:
    """Both answers of TRADES are live: the clean one is pulled to the attacked one too."""
    classifier, told = _classifier(), []
    monkeypatch.setattr(ClassifierSetup, "attacked", lambda self, *about: told.append(about) or X_ADV)
    loss = MODES[mode](_setup(mode, classifier), classifier, X, LABELS, SEEDS)
    _same(loss, formula(classifier), classifier)
    ((victim, x, its_labels, seeds),) = told
    assert victim is classifier and x is X and its_labels is labels and seeds == SEEDS


@pytest.mark.parametrize("mode", ["xat", "xvat"])
def test_losses_of_masked_images(mode) -> None:
    classifier = _classifier()
    network = MaskedClassifier(classifier)
    loss = MODES[mode](_setup(mode, classifier), network, X, LABELS, SEEDS)
    clean, masked, kept = network(X, Streams(SEEDS).uniform(X[:, :1]))
    assert not torch.allclose(clean, masked)
    if mode == "xat":
        expected = 0.7 * _entropy(clean) + 0.3 * _entropy(masked) + 0.9 * kept
    else:
        expected = _entropy(clean) + 0.3 * _divergence(clean.detach(), masked) + 0.9 * kept
    _same(loss, expected, network)


@pytest.mark.parametrize("mode", ["clean", "transformed", "hybrid"])
def test_losses_of_representations(mode) -> None:
    classifier, noise = _classifier(), build_defence("noise", {"sigma": 0.1})
    representations = {"clean": [None], "transformed": [noise], "hybrid": [None, noise]}[mode]
    loss = MODES[mode](_setup(mode, classifier, representations), classifier, X, LABELS, SEEDS)
    noisy = X + 0.1 * Streams(SEEDS).normal(X)
    expected = {"clean": X, "transformed": noisy, "hybrid": torch.stack([X[0], noisy[1], X[2], noisy[3]])}[mode]
    _same(loss, _entropy(classifier(expected)), classifier)


def test_represented_rows_are_attacked_through_their_representation(monkeypatch) -> None:
    classifier, noise, told = _classifier(), build_defence("noise", {"sigma": 0.1}), []
    monkeypatch.setattr(ClassifierSetup, "attacked", lambda self, *about: told.append(about) or about[1] + 0.1)
    lesson = _setup("hybrid_adversarial", classifier, [None, noise])
    loss = MODES["hybrid_adversarial"](lesson, classifier, X, LABELS, SEEDS)
    (plain, *about_plain), (defended, *about_defended) = told
    assert plain is classifier and isinstance(defended, Defended) and isinstance(defended.gradient, StraightThrough)
    assert defended.defence is noise and defended.network is classifier
    for (x, labels, seeds), rows in ((about_plain, slice(0, None, 2)), (about_defended, slice(1, None, 2))):
        assert torch.equal(x, X[rows]) and torch.equal(labels, LABELS[rows]) and seeds == SEEDS[rows]
    _same(loss, _entropy(classifier(lesson.represent(X + 0.1, SEEDS))), classifier)


def test_gccs_is_the_divergence_of_gaussians_from_the_corners() -> None:
    """Against torch's own closed form, and 0 (but for the ridge) for scores that are those Gaussians."""
    scores = 3 * torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 2  # class 2 has no image
    expected = []
    for label in (0, 1):
        rows = scores[labels == label].double()
        covariance = torch.cov(rows.T)
        corner = torch.distributions.MultivariateNormal(5.0 * torch.eye(3)[label].double(), 4 * torch.eye(3).double())
        seen = torch.distributions.MultivariateNormal(rows.mean(0), covariance + 4 * RIDGE * torch.eye(3))
        # The ridge keeps the volume finite; it adds nothing to the variance that is paid for.
        expected.append(torch.distributions.kl_divergence(seen, corner) - 1.5 * RIDGE)
    assert simplex_divergence(scores, labels, 5.0, 2.0) == pytest.approx(float(sum(expected) / 2), rel=1e-5)
    drawn = torch.randn(4000, 3, generator=torch.Generator().manual_seed(1))
    at_corners = drawn + 5 * torch.eye(3)[torch.arange(4000) % 3]
    assert abs(float(simplex_divergence(at_corners, torch.arange(4000) % 3, 5.0, 1.0))) < 0.1
    with pytest.raises(ValueError, match="no class has two images"):
        simplex_divergence(scores[:3], torch.arange(3), 5.0, 2.0)


def test_focal_weights_look_at_what_is_broken() -> None:
    losses = torch.tensor([0.1, 3.0], requires_grad=True)
    assert focal_mean(losses, 0.0) == losses.mean()
    weights = (1 - torch.exp(-losses.detach())) ** 2
    found = focal_mean(losses, 2.0)
    assert found.item() == pytest.approx(float((weights * losses).sum() / weights.sum()))
    (slope,) = torch.autograd.grad(found, losses)
    assert slope[1] > 50 * slope[0] and slope.sum().item() == pytest.approx(1.0)
    assert focal_mean(torch.zeros(3), 2.0) == 0


@pytest.mark.parametrize("mode", ["madry", "trades", "sat"])
def test_focal_is_an_option_of_adversarial_modes(mode, monkeypatch) -> None:
    monkeypatch.setattr(ClassifierSetup, "attacked", lambda self, *about: X_ADV)
    classifier = _classifier()
    plain, weighted = (
        MODES[mode](_setup(mode, classifier, focal=focal), classifier, X, LABELS, SEEDS) for focal in (0, 3)
    )
    assert weighted > plain


def test_losses_of_those_who_are_taught() -> None:
    teacher, classifier = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), _classifier()
    setup = replace(_setup("distilled", classifier, teacher="digits_mini", sigma=0.2), teacher=teacher)
    noisy = X + 0.2 * Streams(SEEDS).normal(X)
    expected = (classifier(noisy) - teacher(X).detach()).abs().sum() / 4
    _same(MODES["distilled"](setup, classifier, X, LABELS, SEEDS), expected, classifier)

    def noisy_scores(x: Tensor, streams: Streams) -> Tensor:
        return classifier(x + 0.1 * streams.normal(x))

    setup = replace(
        _setup("student", classifier, teacher="digits_mini", options={"noise": 0.1}, temperature=2.0), teacher=teacher
    )
    scores = noisy_scores(X, Streams(SEEDS))
    expected = _entropy(scores) + 4 * _divergence(teacher(X).detach() / 2, scores / 2)
    _same(MODES["student"](setup, noisy_scores, X, LABELS, SEEDS), expected, classifier)


def test_attacks_on_a_manifold_climb_through_its_model_and_its_answer_is_learnt(monkeypatch) -> None:
    classifier, model, told = _classifier(), build_defence("blur", {"sigma": 1.0}), []
    monkeypatch.setattr(ClassifierSetup, "attacked", lambda self, *about: told.append(about) or X_ADV)
    setup = _setup("on_manifold", classifier, [model], transforms=[{"kind": "blur"}], label_smoothing=0.3)
    loss = MODES["on_manifold"](setup, classifier, X, LABELS, SEEDS)
    scores = classifier(model(X_ADV, None))
    smoothed = 0.7 * _entropy(scores) - 0.3 * scores.log_softmax(1).mean()
    _same(loss, _entropy(classifier(X)) + smoothed, classifier)
    assert told[0][0].defence is model and isinstance(told[0][0].gradient, Exact)


def test_smooth_images_hide_less_than_busy_ones() -> None:
    """The budget is where the SSIM of random signs is what was asked for."""
    generator = torch.Generator().manual_seed(0)
    busy = torch.rand(2, 3, 16, 16, generator=generator)
    smooth = nn.functional.interpolate(torch.rand(2, 3, 2, 2, generator=generator), (16, 16), mode="bilinear")
    found = [largest_hidden(images, 0.9) for images in (smooth, busy)]
    assert 0.001 < found[0] < found[1] < 0.3 and largest_hidden(busy, 0.7) > found[1]
    signs = torch.randint(2, busy.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    assert ssim((busy + found[1] * signs).clamp(0, 1), busy).mean().item() == pytest.approx(0.9, abs=0.005)


def test_the_budget_of_the_data_replaces_that_of_the_config() -> None:
    classifier = _classifier()
    made = replace(_setup("madry", classifier, eps="24/255"), eps=3 / 255).attacked(classifier, X, LABELS, SEEDS)
    assert (made - X).abs().max().item() == pytest.approx(3 / 255, abs=1e-6)


@pytest.mark.parametrize("labels, goal", [(LABELS, "cross_entropy"), (None, "divergence")])
def test_the_inner_attack_is_pgd_with_the_settings_of_the_config(labels, goal) -> None:
    classifier = _classifier()
    lesson = _setup("madry", classifier, eps="24/255", inner_steps=3, step_size="5/255")
    made = lesson.attacked(classifier, X, labels, SEEDS)
    expected = attack(
        classifier, X, objective(goal), Linf(24 / 255), "pgd", target=labels, seeds=SEEDS, steps=3, step_size=5 / 255,
        round_8_bit=False,
    ).x_adv  # fmt: skip
    assert torch.equal(made, expected) and not torch.equal(made, torch.round(made * 255) / 255)

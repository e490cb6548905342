"""Each mode's loss and its gradient against the formula written out, on a fixed attacked batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from udc_robust.attacks import Linf, Streams, attack, objective
from udc_robust.config_file import check_config
from udc_robust.defences.defence import Defended, StraightThrough
from udc_robust.defences.registry import build_defence
from udc_robust.training.classifier_config import ClassifierConfig
from udc_robust.training.classifier_losses import MODES, ClassifierSetup
from udc_robust.training.masks import MaskedClassifier
from udc_robust.training.sinkhorn import sinkhorn_divergence

LABELS, SEEDS = torch.tensor([0, 2, 1, 2]), [5, 6, 7, 8]
X = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
X_ADV = (X + 0.2 * torch.randn(X.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)


def _setup(mode: str, classifier: nn.Module, representations=(None,), **changes) -> ClassifierSetup:
    values = {
        "name": "x", "train": "digits:train", "validation": "digits:test", "patch_size": 8, "network": "resnet8",
        "mode": mode, "beta": 3.0, "mask_share": 0.3, "mask_penalty": 0.9, "pad": 0, **changes,
    }  # fmt: skip
    if mode in ("transformed", "hybrid", "hybrid_adversarial"):
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

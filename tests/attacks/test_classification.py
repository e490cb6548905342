"""Objectives of classifiers: formulas, success by the answer alone, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from udc_robust.attacks import L2, Linf, attack, objective
from udc_robust.attacks.classification import CLASSIFICATION, dlr, margin, targeted_dlr
from udc_robust.attacks.methods import method

SCORES = torch.tensor([[4.0, 1.0, 3.0, -2.0, 0.0]])


def test_the_ratios_are_those_of_the_paper() -> None:
    assert float(dlr(SCORES, torch.tensor([0]))) == pytest.approx((3 - 4) / (4 - 1))
    assert float(dlr(SCORES, torch.tensor([3]))) == pytest.approx((4 + 2) / (4 - 1))
    assert float(targeted_dlr(SCORES, torch.tensor([1]))) == pytest.approx((1 - 4) / (4 - (1 + 0) / 2))


@settings(deadline=None)
@given(
    st.lists(st.integers(-50, 50), min_size=5, max_size=5, unique=True),
    st.integers(0, 4),
    st.floats(0.1, 10),
    st.floats(-5, 5),
)
def test_a_loss_that_tells_success_has_the_sign_of_the_margin(scores, label, scale, shift) -> None:
    output, target = torch.tensor([scores]).double(), torch.tensor([label])
    wrong = bool(output.argmax(1) != target)
    for name in ("margin", "dlr"):
        assert bool(objective(name).values(output, target) > 0) is wrong
        assert bool(objective("targeted_" + name).values(output, target) >= 0) is not wrong
    for ratio in (dlr, targeted_dlr):
        moved = ratio(output * scale + shift, target)
        assert float(moved) == pytest.approx(float(ratio(output, target)), abs=1e-6)


@pytest.mark.parametrize("name", [name for name in CLASSIFICATION if name != "divergence"])
def test_every_objective_breaks_a_linear_classifier(name) -> None:
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    x = 0.3 + 0.4 * torch.rand(6, 3, 4, 4)
    labels = classifier(x).argmax(1)
    target = (labels + 1) % 5 if name.startswith("targeted") else labels
    result = attack(classifier, x, objective(name), Linf(0.25), "pgd", target=target, seeds=range(6), steps=10)
    answers = classifier(result.x_adv).argmax(1)
    assert result.success.all()
    assert ((answers == target) if name.startswith("targeted") else (answers != labels)).all()


def test_a_broken_image_beats_one_of_higher_cross_entropy() -> None:
    """The true class at 0.4 with a wrong answer is broken; at 0.35 with a right one it is not."""
    rows = {0.0: [0.9, 0.05, 0.05], 0.2: [0.4, 0.6, 0.0001], 0.4: [0.35, 0.33, 0.32]}

    def victim(x: torch.Tensor) -> torch.Tensor:
        levels = x.mean((1, 2, 3))
        chosen = [min(rows, key=lambda level: abs(level - float(mean))) for mean in levels]
        return torch.log(torch.tensor([rows[level] for level in chosen])) + 0 * levels[:, None]

    @method("query")
    def walk(oracle, x, threat):
        for level in (0.2, 0.4):
            oracle.values(torch.full_like(x, level))
        return x

    x, labels = torch.zeros(2, 3, 4, 4), torch.zeros(2).long()
    result = attack(victim, x, objective("cross_entropy"), Linf(0.5), walk.method, target=labels, seeds=[1, 2])
    assert result.success.all() and torch.allclose(result.x_adv, torch.full_like(x, 0.2), atol=1 / 255)


def test_a_random_classifier_is_judged_by_the_majority_of_its_draws() -> None:
    class Coin(nn.Module):
        random = True

        def forward(self, x, streams):
            wrong = streams.uniform(x[:, :1, :1, :1]).flatten() < 0.8
            return torch.stack([~wrong, wrong], 1).float() * 5 - 1 + 0 * x.mean((1, 2, 3))[:, None]

    x = torch.rand(3, 3, 4, 4)
    labels = torch.zeros(3, dtype=torch.long)
    result = attack(Coin(), x, objective("margin"), Linf(0.01), "noise", target=labels, seeds=[1, 2, 3], draws=15)
    assert result.success.all() and result.adv_outputs.shape == (15, 3, 2)


def test_without_labels_the_own_answers_are_attacked() -> None:
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    x = torch.rand(4, 3, 4, 4)
    result = attack(classifier, x, objective("margin"), Linf(0.3), "pgd", seeds=range(4))
    assert (classifier(result.x_adv).argmax(1) != classifier(x).argmax(1)).all()
    trades = attack(classifier, x, objective("divergence"), Linf(0.05), "pgd", seeds=range(4))
    assert (trades.clean_values.abs() < 1e-6).all() and (trades.adv_values > 1e-4).all()


@pytest.mark.parametrize(
    "name, classes, labels, message",
    [
        ("dlr", 2, [0, 1], "dlr needs at least 3 classes, not 2"),
        ("targeted_dlr", 3, [0, 1], "targeted_dlr needs at least 4 classes, not 3"),
        ("margin", 3, [0, 3], "labels run from 0 to 3, but the 3 classes are numbered 0 to 2"),
        ("cross_entropy", 3, [-1, 2], "labels run from -1 to 2"),
        ("margin", 3, [0.0, 1.0], "whole-number label"),
        ("targeted_margin", 3, None, "needs targets"),
    ],
)
def test_bad_labels_and_too_few_classes(name, classes, labels, message) -> None:
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(48, classes))
    target = None if labels is None else torch.tensor(labels)
    with pytest.raises(ValueError, match=message):
        attack(classifier, torch.rand(2, 3, 4, 4), objective(name), Linf(0.1), "fgsm", target=target, seeds=[1, 2])


def test_probabilities_and_images_are_refused() -> None:
    soft = nn.Sequential(nn.Flatten(), nn.Linear(48, 4), nn.Softmax(1))
    x, labels = torch.rand(2, 3, 4, 4), torch.tensor([0, 1])
    for name in ("margin", "cross_entropy", "dlr"):
        with pytest.raises(ValueError, match="needs raw scores"):
            attack(soft, x, objective(name), Linf(0.1), "fgsm", target=labels, seeds=[1, 2])
    with pytest.raises(ValueError, match=r"needs scores \(B, classes\)"):
        attack(nn.Identity(), x, objective("margin"), Linf(0.1), "fgsm", target=labels, seeds=[1, 2])
    with pytest.raises(ValueError, match="mse compares images"):
        attack(soft, x, objective("mse"), Linf(0.1), "fgsm", target=x, seeds=[1, 2])
    raw = soft[:2]
    with pytest.raises(ValueError, match="tells success"):
        attack(raw, x, objective("cross_entropy"), L2(float("inf")), "cw", target=labels, seeds=[1, 2])


def test_half_of_the_answers_suffice() -> None:
    right, wrong, label = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([0])
    nothing = torch.zeros(1)
    for name, target in (("margin", label), ("targeted_margin", label + 1), ("divergence", right)):
        for answers, broken in (([right, wrong], True), ([right, right, wrong], False), ([wrong, right, wrong], True)):
            assert bool(objective(name).broken(torch.stack(answers), target, nothing, nothing)) is broken


def test_divergence_is_measured_from_the_clean_scores() -> None:
    clean, moved = torch.randn(3, 5), torch.randn(3, 5)
    p, q = clean.softmax(1), moved.softmax(1)
    expected = (p * (p / q).log()).sum(1)
    assert torch.allclose(objective("divergence").values(moved, clean), expected, atol=1e-6)


def test_scores_above_zero_are_no_probabilities() -> None:
    scores, labels = torch.tensor([[0.5, 0.7, 0.1], [2.0, 0.0, 0.0]]), torch.tensor([0, 1])
    objective("margin").check(scores, labels)
    with pytest.raises(ValueError, match="take the softmax off"):
        objective("margin").check(scores / scores.sum(1, keepdim=True), labels)


def test_margin_with_a_single_row_of_ties_counts_as_broken() -> None:
    tie = torch.zeros(1, 3)
    assert float(margin(tie, torch.tensor([1]))) == 0
    assert objective("margin").broken(tie[None], torch.tensor([1]), torch.zeros(1), torch.zeros(1)).all()

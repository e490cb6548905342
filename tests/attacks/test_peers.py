"""The attack core against foolbox and ART: step for step where both mean the same, by what is reached where not.

Every difference that is meant is told in ``configs/ATTACKS.md``. (torchattacks: ``test_torchattacks.py``.)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from witness import Witness

from udc_robust.attacks import L2, Linf, attack, objective

EPS, STEP, STEPS = 8 / 255, 3 / 255, 7


@pytest.fixture
def foolbox():
    return pytest.importorskip("foolbox", reason="needs foolbox: pip install -e '.[parity]'")


@pytest.fixture
def art():
    pytest.importorskip("art", reason="needs ART: pip install -e '.[parity]'")
    from art import estimators

    return estimators


def _classifier() -> Witness:
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, 8, 3, stride=2), nn.GELU(), nn.Flatten()]
    return Witness(nn.Sequential(*layers, nn.Linear(8 * 7 * 7, 5))).eval()


@pytest.fixture
def victim() -> Witness:
    return _classifier()


@pytest.fixture
def labelled(victim) -> tuple[Tensor, Tensor]:
    """Images well inside the box and the victim's own answers."""
    x = 0.1 + 0.8 * torch.rand(6, 3, 16, 16)
    labels = victim(x).argmax(1)
    victim.asked()
    return x, labels


def _ours(victim, labelled, threat, name: str = "ifgsm", **options) -> list[Tensor]:
    """What a method of ours asks, without the scoring before and after."""
    x, labels = labelled
    attack(
        victim, x, objective("cross_entropy"), threat, name, target=labels, seeds=range(len(x)), round_8_bit=False,
        **options,
    )  # fmt: skip
    return victim.asked()[1:-1]


def _same(ours: list[Tensor], theirs: list[Tensor], tolerance: float = 0.0) -> None:
    assert len(ours) == len(theirs)
    assert all(float((a - b).abs().max()) <= tolerance for a, b in zip(ours, theirs, strict=True))
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(ours))


def _foolbox_asks(foolbox, victim, labelled, algorithm, eps: float) -> list[Tensor]:
    """Every point that an algorithm of foolbox asks about, and the one it ends at."""
    x, labels = labelled
    model = foolbox.PyTorchModel(victim, bounds=(0, 1), device="cpu")
    last = algorithm.run(model, x, foolbox.criteria.Misclassification(labels), epsilon=eps)
    return [*victim.asked(), last]


def test_pgd_takes_the_very_steps_of_foolbox(foolbox, victim, labelled) -> None:
    theirs = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=False)
    expected = _foolbox_asks(foolbox, victim, labelled, theirs, EPS)
    _same(_ours(victim, labelled, Linf(EPS), steps=STEPS, step_size=STEP), expected)


def test_bim_and_fgsm_are_those_of_foolbox(foolbox, victim, labelled) -> None:
    bim = foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=STEP, steps=STEPS)
    _same(
        _ours(victim, labelled, Linf(EPS), steps=STEPS, step_size=STEP),
        _foolbox_asks(foolbox, victim, labelled, bim, EPS),
    )
    for threat, one in ((Linf(EPS), foolbox.attacks.FGSM()), (L2(0.5), foolbox.attacks.FGM())):
        expected = _foolbox_asks(foolbox, victim, labelled, one, threat.eps)
        _same(_ours(victim, labelled, threat, "fgsm"), expected, 0.0 if threat.norm == "linf" else 2e-7)


def test_l2_pgd_takes_the_steps_of_foolbox(foolbox, victim, labelled) -> None:
    theirs = foolbox.attacks.L2PGD(abs_stepsize=0.2, steps=STEPS, random_start=False)
    expected = _foolbox_asks(foolbox, victim, labelled, theirs, 0.5)
    _same(_ours(victim, labelled, L2(0.5), steps=STEPS, step_size=0.2), expected, 5e-7)


def _art_classifier(art, victim: nn.Module):
    return art.classification.PyTorchClassifier(
        model=victim, loss=nn.CrossEntropyLoss(), input_shape=(3, 16, 16), nb_classes=5, clip_values=(0, 1),
        device_type="cpu",
    )  # fmt: skip


def test_pgd_takes_the_very_steps_of_art(art, victim, labelled) -> None:
    """Inside the box: at its border theirs clips before it projects, ours after."""
    from art.attacks.evasion import ProjectedGradientDescentPyTorch

    x, labels = labelled
    theirs = ProjectedGradientDescentPyTorch(
        _art_classifier(art, victim), eps=EPS, eps_step=STEP, max_iter=STEPS, verbose=False
    )
    last = torch.from_numpy(theirs.generate(x.numpy(), labels.numpy()))
    asked = [*victim.asked()[:STEPS], last]
    _same(_ours(victim, labelled, Linf(EPS), steps=STEPS, step_size=STEP), asked, 6e-8)


def test_cw_finds_changes_as_small_as_foolbox(foolbox, victim, labelled) -> None:
    """Theirs brings back black for an image that it never breaks; here all are broken by both."""
    x, labels = labelled
    model = foolbox.PyTorchModel(victim, bounds=(0, 1), device="cpu")
    options = {"binary_search_steps": 4, "steps": 40, "stepsize": 0.01, "initial_const": 1.0, "abort_early": False}
    theirs = foolbox.attacks.L2CarliniWagnerAttack(**options).run(model, x, foolbox.criteria.Misclassification(labels))
    ours = attack(
        victim, x, objective("margin"), L2(float("inf")), "cw", target=labels, seeds=range(6), steps=40, search_steps=4,
        round_8_bit=False,
    )  # fmt: skip
    lengths = torch.linalg.vector_norm((theirs - x).flatten(1), dim=1)
    assert (victim(theirs).argmax(1) != labels).all() and ours.success.all()
    assert (ours.l2 <= 1.05 * lengths).all()


def _wrong(victim: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float((victim(images).argmax(1) != labels).float().mean())


def _many(victim: Witness) -> tuple[Tensor, Tensor]:
    """Images, and margins that take some queries to overcome."""
    x = 0.1 + 0.8 * torch.rand(24, 3, 16, 16)
    labels = victim(x).argmax(1)
    victim.asked()
    return x, labels


@pytest.mark.parametrize("name, ours", [("square", {"p_init": 0.3}), ("simba", {"step_size": 0.2})])
def test_query_attacks_break_as_many_as_those_of_art_with_as_many_queries(art, victim, name, ours) -> None:
    from art.attacks.evasion import SimBA, SquareAttack

    x, labels = _many(victim)
    eps, queries = (6 / 255, 60) if name == "square" else (1.0, 60)
    np.random.seed(0)
    if name == "square":
        theirs = SquareAttack(_art_classifier(art, victim), eps=eps, max_iter=queries, p_init=0.3, verbose=False)
    else:
        softmax = _art_classifier(art, nn.Sequential(victim, nn.Softmax(1)))
        theirs = SimBA(softmax, attack="px", epsilon=0.2, max_iter=queries // 2, verbose=False)
    broken = _wrong(victim, torch.from_numpy(theirs.generate(x.numpy(), np.eye(5)[labels.numpy()])), labels)
    victim.asked()
    steps = queries if name == "square" else queries // 2
    made = attack(
        victim, x, objective("margin"), Linf(eps), name, target=labels, seeds=range(24), steps=steps, round_8_bit=False,
        **ours,
    )  # fmt: skip
    assert (made.meter.queries <= queries + 1).all()
    assert 0 < broken < 1 and float(made.success.float().mean()) >= broken


class Restorer(nn.Module):
    """Image to image, and curved."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.GELU(), nn.Conv2d(12, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(4 * x - 2)


def _flat_error(output: Tensor, truth: Tensor) -> Tensor:
    """ART makes one long row of a batch of answers, and not of the truths."""
    return (output.flatten() - truth.flatten()).square().mean()


def _made_by_peers(foolbox, art, restorer: nn.Module, x: Tensor, truth: Tensor) -> Iterator[tuple[str, Tensor]]:
    """PGD of the peers on a restorer: foolbox with its loss overridden, ART by way of its regressor, which knows no
    random start."""
    from art.attacks.evasion import ProjectedGradientDescentNumpy

    class OfImages(foolbox.attacks.LinfPGD):
        def get_loss_fn(self, model, labels):
            return lambda inputs: (model(inputs) - labels).square().sum()

    model = foolbox.PyTorchModel(restorer, bounds=(0, 1), device="cpu")
    theirs = OfImages(abs_stepsize=EPS / 4, steps=20, random_start=True)
    yield "foolbox", theirs.run(model, x, foolbox.criteria.Misclassification(truth), epsilon=EPS)
    regressor = art.regression.PyTorchRegressor(
        model=restorer, loss=_flat_error, input_shape=(3, 16, 16), clip_values=(0, 1), device_type="cpu"
    )
    numpy = ProjectedGradientDescentNumpy(regressor, eps=EPS, eps_step=EPS / 4, max_iter=20, verbose=False)
    yield "ART", torch.from_numpy(numpy.generate(x.numpy(), truth.numpy()))


def test_on_a_restorer_ours_does_at_least_the_damage_of_the_peers(foolbox, art) -> None:
    restorer, x = Restorer().eval(), 0.1 + 0.8 * torch.rand(6, 3, 16, 16)
    truth, mse = (x + 0.02 * torch.randn_like(x)).clamp(0, 1), objective("mse")
    options = {"target": truth, "seeds": range(6), "round_8_bit": False}
    ours = attack(restorer, x, mse, Linf(EPS), "pgd", steps=20, **options)
    for name, made in _made_by_peers(foolbox, art, restorer, x, truth):
        assert float((made - x).abs().max()) <= EPS + 1e-6
        theirs = mse.values(restorer(made), truth).mean()
        assert ours.adv_values.mean() >= 0.995 * theirs > 1.5 * ours.clean_values.mean(), name

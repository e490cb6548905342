"""The shared attack core against torchattacks, on a classifier."""

from __future__ import annotations

import itertools

import pytest
import torch
import torchattacks
from torch import Tensor, nn
from witness import Witness

from udc_robust.attacks import L2, Linf, Method, attack, objective
from udc_robust.attacks.apgd import climb
from udc_robust.attacks.classification import margin
from udc_robust.classifiers.resnet_cifar import ResNetCifar
from udc_robust.classifiers.zoo import Classifier


@pytest.fixture
def victim() -> Witness:
    network = Classifier("tiny", ResNetCifar(8, width=8), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    with torch.no_grad():
        network.train()(torch.rand(64, 3, 16, 16))  # statistics for the batch normalisation
    return Witness(network).eval()  # torchattacks puts the mode of the outermost module back, in all of it


@pytest.fixture
def labelled(victim) -> tuple[Tensor, Tensor]:
    """Images and the victim's own answers; it begins to keep what it is asked after them."""
    x = torch.rand(8, 3, 16, 16)
    labels = victim(x).argmax(1)
    victim.seen.clear()
    return x, labels


def test_pgd_takes_the_very_steps_of_torchattacks(victim, labelled) -> None:
    """Every iterate is equal to the bit. Theirs returns the last of them, ours the most damaging."""
    x, labels = labelled
    last = torchattacks.PGD(victim, eps=8 / 255, alpha=5 / 255, steps=6, random_start=False)(x, labels)
    theirs = [*victim.seen[-6:], last]
    victim.seen.clear()
    result = attack(
        victim, x, objective("cross_entropy"), Linf(8 / 255), "ifgsm", target=labels, seeds=range(8), steps=6,
        step_size=5 / 255, round_8_bit=False,
    )  # fmt: skip
    ours = victim.seen[1:-1]  # without the scoring before and after
    assert len(ours) == len(theirs) == 7
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    scores = torch.stack([victim(image) for image in theirs])
    losses = torch.stack([nn.functional.cross_entropy(each, labels, reduction="none") for each in scores])
    wrong = torch.stack([margin(each, labels) >= 0 for each in scores])
    assert wrong.any() and not wrong.all()
    # A wrong answer is worth more than any loss; of several the greatest loss counts.
    best = losses.where(wrong | ~wrong.any(0), -torch.inf).argmax(0)
    assert (best < 6).any()
    assert torch.equal(result.x_adv, torch.stack(theirs)[best, torch.arange(8)])
    assert torch.equal(result.adv_values, losses.gather(0, best[None])[0])
    assert torch.equal(result.success, wrong.any(0))


def test_l2_pgd_takes_the_steps_of_torchattacks(victim, labelled) -> None:
    x, labels = labelled
    last = torchattacks.PGDL2(victim, eps=1.0, alpha=0.3, steps=6, random_start=False)(x, labels)
    theirs = [*victim.seen[-6:], last]
    victim.seen.clear()
    attack(
        victim, x, objective("cross_entropy"), L2(1.0), "ifgsm", target=labels, seeds=range(8), steps=6, step_size=0.3,
        round_8_bit=False,
    )  # fmt: skip
    ours = victim.seen[1:-1]
    assert len(ours) == len(theirs) == 7
    assert all(torch.allclose(a, b, atol=2e-7) for a, b in zip(ours, theirs, strict=True))
    lengths = [torch.linalg.vector_norm((image - x).flatten(1), dim=1) for image in ours]
    assert (lengths[3] < 0.95).all() and (lengths[-1] > 0.97).all()  # the last steps are projected back


@pytest.mark.parametrize(
    "norm, threat, steps, loss, climbed, tolerance",
    [
        ("Linf", Linf(4 / 255), 40, "ce", "cross_entropy", 1e-7),
        ("Linf", Linf(4 / 255), 40, "dlr", "dlr", 1e-7),
        ("L2", L2(0.3), 30, "ce", "cross_entropy", 1e-6),
    ],
)
def test_apgd_takes_the_steps_of_torchattacks(victim, labelled, norm, threat, steps, loss, climbed, tolerance) -> None:
    """From their start. Their first step is compared with 0, ours with the start: that may tip a look at a DLR below 0.

    In L2 ulps decide between two points of one loss, and the ways part: thirty steps are short enough in float64.
    """
    x, labels = labelled
    if norm == "L2":
        victim, x = victim.double(), x.double()
    torchattacks.APGD(victim, norm=norm, eps=threat.eps, steps=steps, loss=loss)(x, labels)
    theirs = victim.seen[1:]  # they begin with the answers to the images themselves
    victim.seen.clear()

    def from_their_start(oracle, x, threat):
        return climb(oracle, x, threat, theirs[0], steps=steps)

    attack(
        victim, x, objective(climbed), threat, Method.of(from_their_start), target=labels, seeds=range(8),
        round_8_bit=False,
    )  # fmt: skip
    ours = victim.seen[1:-1]
    assert len(ours) == len(theirs) == steps + 1
    assert all(torch.allclose(a, b, atol=tolerance) for a, b in zip(ours, theirs, strict=True))
    assert all(float((a - b).abs().max()) > 1e-4 for a, b in itertools.pairwise(ours))

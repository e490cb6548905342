"""The shared attack core against torchattacks, on a classifier."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from udc_robust.attacks import L2, Linf, attack, objective
from udc_robust.classifiers.resnet_cifar import ResNetCifar
from udc_robust.classifiers.zoo import Classifier


class Witness(nn.Module):
    """Keeps every batch that it is asked about."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.seen = network, []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return self.network(x)


@pytest.fixture
def victim() -> Witness:
    network = Classifier("tiny", ResNetCifar(8, width=8), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    with torch.no_grad():
        network.train()(torch.rand(64, 3, 16, 16))  # statistics for the batch normalisation
    return Witness(network.eval())


def test_pgd_takes_the_very_steps_of_torchattacks(victim) -> None:
    """Every iterate is equal to the bit. Ours returns the most damaging of them, theirs the last."""
    torchattacks = pytest.importorskip("torchattacks")
    x = torch.rand(8, 3, 16, 16)
    labels = victim(x).argmax(1)
    victim.seen.clear()
    last = torchattacks.PGD(victim, eps=8 / 255, alpha=2 / 255, steps=6, random_start=False)(x, labels)
    theirs = [*victim.seen[-6:], last]
    victim.seen.clear()
    result = attack(
        victim, x, objective("cross_entropy"), Linf(8 / 255), "ifgsm", target=labels, seeds=range(8), steps=6,
        step_size=2 / 255, round_8_bit=False,
    )  # fmt: skip
    ours = victim.seen[1:-1]  # without the scoring before and after
    assert len(ours) == len(theirs) == 7
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    best = torch.stack([nn.functional.cross_entropy(victim(image), labels, reduction="none") for image in theirs])
    assert torch.equal(result.adv_values, best.amax(0)) or result.success.any()


def test_l2_pgd_takes_the_steps_of_torchattacks(victim) -> None:
    torchattacks = pytest.importorskip("torchattacks")
    x = torch.rand(8, 3, 16, 16)
    labels = victim(x).argmax(1)
    last = torchattacks.PGDL2(victim, eps=1.0, alpha=0.2, steps=6, random_start=False)(x, labels)
    victim.seen.clear()
    attack(
        victim, x, objective("cross_entropy"), L2(1.0), "ifgsm", target=labels, seeds=range(8), steps=6, step_size=0.2,
        round_8_bit=False,
    )  # fmt: skip
    assert torch.allclose(victim.seen[-2], last, atol=2e-7)

"""Momentum and input diversity: the published steps, and what the victim is shown."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from witness import Witness, wavy

from udc_robust.attacks import L2, Linf, Streams, attack, objective
from udc_robust.attacks.objectives import Mean


def _images(batch: int = 3) -> Tensor:
    return 0.3 + 0.4 * torch.rand(batch, 3, 24, 20, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("threat", [Linf(0.1), L2(1.0)])
def test_steps_go_along_the_decaying_sum_of_gradients(threat) -> None:
    x, victim = _images(), Witness(wavy)
    attack(
        victim, x, objective("mse"), threat, "mifgsm", target=0.9 * x, seeds=[1, 2, 3], steps=5, momentum=0.8,
        round_8_bit=False,
    )  # fmt: skip
    asked, total = victim.seen[1:-1], torch.zeros_like(x)
    assert len(asked) == 6 and torch.equal(asked[0], x)
    for i in range(5):
        at = asked[i].clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad((wavy(at) - 0.9 * x).square().flatten(1).mean(1).sum(), at)
        total = 0.8 * total + gradient / gradient.abs().mean((1, 2, 3), keepdim=True)
        assert torch.allclose(asked[i + 1], threat.project(x, threat.step(asked[i], total, threat.eps / 5)), atol=1e-6)


def test_a_classifier_is_shown_images_shrunk_on_black() -> None:
    x, victim = _images(40), Witness(nn.Sequential(nn.Flatten(), nn.Linear(1440, 5)))
    options = {"steps": 4, "diversity": 0.5, "target": torch.arange(40) % 5, "seeds": range(40), "round_8_bit": False}
    result = attack(victim, x, objective("cross_entropy"), Linf(0.1), "mifgsm", **options)
    shown = torch.stack(victim.seen[1:-2])
    black = (shown.amax(2) == 0).flatten(2).any(2)
    assert black.any() and not black.all() and (black != black[0]).any()  # anew for each image and each gradient
    assert (shown.amax(2) > 0)[black].flatten(1).float().mean(1).min() > 0.75  # at least .9 of each side
    assert torch.equal(victim.seen[-2], result.x_adv)  # the last iterate, as it is
    assert {18, 19} <= {int((image.amax((0, 1)) > 0).sum()) for image in shown.flatten(0, 1)}  # columns of 20
    as_they_are = (victim.seen[1] == x).flatten(1).all(1)
    assert 0.3 < as_they_are.float().mean() < 0.7
    assert result.meter.backwards.tolist() == [4] * 40 and result.meter.queries.tolist() == [1] * 40


def test_a_restorer_is_shown_images_mirrored_and_moved_and_its_answer_is_put_back() -> None:
    """For a pointwise victim nothing changes, but for what it is shown."""
    x, victim = _images(6), Witness(wavy)
    options = {"steps": 3, "target": 0.9 * x, "seeds": range(6), "round_8_bit": False}
    plain = attack(victim, x, objective("mse"), Linf(0.1), "mifgsm", **options)
    last = victim.seen[-2]
    victim.seen.clear()
    diverse = attack(victim, x, objective("mse"), Linf(0.1), "mifgsm", diversity=1.0, **options)
    assert torch.allclose(diverse.x_adv, last, atol=1e-6) and not torch.equal(plain.x_adv, x)
    first = victim.seen[1]
    moved = (first != x).flatten(1).any(1)
    assert moved.all() and torch.equal(first.flatten(2).sort().values, x.flatten(2).sort().values)


def test_an_image_that_was_shown_is_no_candidate() -> None:
    """What is mirrored lies outside the ball: of what the victim says to it nothing may be kept."""

    def at_the_left(x: Tensor) -> Tensor:
        return x * torch.linspace(3, 0, x.shape[-1])

    x = _images(2)
    result = attack(
        at_the_left, x, objective("mse"), Linf(0.01), "mifgsm", target=torch.zeros_like(x), seeds=[1, 2], steps=3,
        diversity=1.0, round_8_bit=False,
    )  # fmt: skip
    assert (result.adv_values > result.clean_values).all() and (result.linf <= 0.01 + 1e-6).all()


def test_every_draw_of_a_random_victim_is_varied_by_the_streams_of_its_image() -> None:
    class Jittered(nn.Module):
        random = True

        def forward(self, x: Tensor, streams: Streams) -> Tensor:
            return wavy(x) + 0.01 * streams.normal(x)

    x = _images(2)
    options = {"steps": 2, "diversity": 0.5, "eot": 3, "round_8_bit": False}
    both = attack(Jittered(), x, objective("mse"), Linf(0.1), "mifgsm", target=0.9 * x, seeds=[1, 2], **options)
    alone = attack(Jittered(), x[1:], objective("mse"), Linf(0.1), "mifgsm", target=0.9 * x[1:], seeds=[2], **options)
    assert torch.allclose(both.x_adv[1:], alone.x_adv, atol=1e-6)


@pytest.mark.parametrize("climbed", ["mse", "cross_entropy"])
def test_several_networks_are_shown_the_same(climbed) -> None:
    """Answers of several networks are moved back alike; classifiers that are attacked together see black borders."""
    x = _images(4)
    heads = [nn.Sequential(nn.Flatten(), nn.Linear(1440, 5)) for _ in range(2)]
    seen: list[Tensor] = []

    def together(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return torch.stack([wavy(x), wavy(x)] if climbed == "mse" else [head(x) for head in heads], 1)

    target = torch.stack([0.9 * x] * 2, 1) if climbed == "mse" else torch.zeros(4, 2, dtype=torch.long)
    options = {"target": target, "seeds": range(4), "steps": 2, "diversity": 1.0, "round_8_bit": False}
    result = attack(together, x, Mean(objective(climbed)), Linf(0.1), "mifgsm", **options)
    assert bool((seen[1] == 0).any()) == (climbed == "cross_entropy")
    assert (result.adv_values > result.clean_values).all()

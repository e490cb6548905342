"""CosPGD and SegPGD: what weighs, and that it weighs the pixels of its own image."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from witness import Witness

from udc_robust.attacks import Linf, Streams, attack, objective
from udc_robust.attacks.weighted import cosine


def _images() -> Tensor:
    return 0.3 + 0.4 * torch.rand(3, 3, 6, 7, generator=torch.Generator().manual_seed(2))


def mixed(x: Tensor) -> Tensor:
    """Each value of the answer feels its neighbours in the image, so that weights of pixels matter to the sign."""
    return x + (x - x.roll(1, -1)) - 0.5 * (x - x.roll(1, -2)) + (20 * x).sin() / 5


def _asked(method: str, steps: int) -> list[Tensor]:
    x, victim = _images(), Witness(mixed)
    attack(
        victim, x, objective("mse"), Linf(0.1), method, target=0.9 * x, seeds=[1, 2, 3], steps=steps, step_size=0.03,
        round_8_bit=False,
    )  # fmt: skip
    return victim.seen[1:-1]


def _follows(before: Tensor, after: Tensor, weights: Tensor) -> None:
    x, threat = _images(), Linf(0.1)
    at = before.clone().requires_grad_(True)
    loss = (weights * (mixed(at) - 0.9 * x).square()).sum()
    (gradient,) = torch.autograd.grad(loss, at)
    assert torch.allclose(after, threat.project(x, threat.step(before, gradient, 0.03)), atol=1e-6)


def test_cospgd_weighs_each_pixel_by_the_cosine_to_the_truth() -> None:
    asked, truth = _asked("cospgd", 4), 0.9 * _images()
    for before, after in itertools.pairwise(asked):
        one_by_one = [
            nn.functional.cosine_similarity(mixed(before[[i]]).softmax(1), truth[[i]].softmax(1), dim=1)
            for i in range(3)
        ]
        _follows(before, after, torch.stack(one_by_one))


def test_segpgd_moves_right_pixels_first_and_all_of_them_alike_at_the_end() -> None:
    asked, x = _asked("segpgd", 6)[1:], _images()  # after one look at the unattacked image
    truth = 0.9 * x
    limit = (mixed(x) - truth).square().flatten(1).mean(1).clamp_min(1e-4) * 10**0.6
    for i, (before, after) in enumerate(itertools.pairwise(asked)):
        wrong = (mixed(before) - truth).square().mean(1, keepdim=True) >= limit.view(-1, 1, 1, 1)
        assert wrong.any() and not wrong.all()
        _follows(before, after, torch.where(wrong, (i + 1) / 12, 1 - (i + 1) / 12))


def test_the_weight_of_rgb_is_nearly_constant() -> None:
    x = torch.rand(2, 3, 16, 16)
    assert float(cosine(x, x + 0.05 * torch.randn_like(x)).amin()) > 0.98


@pytest.mark.parametrize("method", ["cospgd", "segpgd", "smooth_field"])
def test_scores_have_no_pixels(method) -> None:
    classifier, x = nn.Sequential(nn.Flatten(), nn.Linear(126, 5)), _images()
    with pytest.raises(ValueError, match=f"{method} looks at the pixels of an answer"):
        attack(classifier, x, objective("margin"), Linf(0.1), method, seeds=[1, 2, 3])


def test_every_draw_of_a_random_victim_is_held_to_the_limit_of_its_own_image() -> None:
    class Jittered(nn.Module):
        random = True

        def forward(self, x: Tensor, streams: Streams) -> Tensor:
            return mixed(x) + 0.05 * streams.normal(x)

    x = _images()
    truth = x * torch.tensor([0.9, 0.2, 0.6]).view(3, 1, 1, 1)
    options = {"steps": 4, "step_size": 0.03, "eot": 2, "round_8_bit": False}
    together = attack(Jittered(), x, objective("mse"), Linf(0.1), "segpgd", target=truth, seeds=[1, 2, 3], **options)
    alone = attack(Jittered(), x[2:], objective("mse"), Linf(0.1), "segpgd", target=truth[2:], seeds=[3], **options)
    assert torch.allclose(together.x_adv[2:], alone.x_adv, atol=1e-6)

"""Universal perturbations: one for a set, learnt, stored, and put before a victim; and what a file may get wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from udc_robust.attacks import L2, Linf, attack, objective, universal
from udc_robust.attacks.objectives import uncorrelated
from udc_robust.attacks.universal import perturbed


class Restorer(nn.Module):
    """Amplifies one pattern: the chequered one."""

    def __init__(self) -> None:
        super().__init__()
        rows, columns = torch.arange(8).view(-1, 1), torch.arange(9)
        self.pattern = nn.Parameter((-1.0) ** (rows + columns).expand(3, 8, 9))

    def forward(self, x: Tensor) -> Tensor:
        amount = (x * self.pattern).mean((1, 2, 3), keepdim=True)
        return x + 100 * amount.square() * self.pattern


def _set(seed: int, batches: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    images = [0.3 + 0.4 * torch.rand(4, 3, 8, 9, generator=generator) for _ in range(batches)]
    return [(x, x.clone()) for x in images]


def _values(parts: Tensor, threat, seed: int = 5) -> float:
    mse = objective("mse")
    with torch.no_grad():
        found = [mse.values(Restorer()(perturbed(x, parts, threat)), t).mean() for x, t in _set(seed)]
    return float(torch.stack(found).mean())


@pytest.mark.parametrize("threat", [Linf(0.03), L2(0.4)])
def test_one_perturbation_harms_images_that_it_never_saw(threat) -> None:
    parts = universal(Restorer(), _set(2), objective("mse"), threat, epochs=8)
    assert parts.shape == (2, 3, 8, 9) and not parts[1].any()
    assert float(threat.distance(torch.zeros_like(parts[:1]), parts[:1])) <= threat.eps * (1 + 1e-5)
    noise = torch.zeros_like(parts)
    noise[0] = type(threat)(threat.eps, -9, 9).noise(torch.zeros(1, 3, 8, 9), _streams())[0]
    assert _values(parts, threat) > 3 * _values(noise, threat)


def _streams():
    from udc_robust.attacks import Streams

    return Streams([0])


def test_the_multiplicative_part_is_learnt_too_and_does_more_in_the_same_budget() -> None:
    threat, correlation = Linf(0.03), objective("correlation")
    both = universal(Restorer(), _set(2), correlation, threat, epochs=8, multiplicative=True)
    alone = universal(Restorer(), _set(2), correlation, threat, epochs=8)
    assert both[1].any() and both[0].any() and torch.equal(alone[1], torch.zeros_like(alone[1]))
    x = _set(5)[0][0]
    assert float((perturbed(x, both, threat) - x).abs().max()) <= 0.03 + 1e-6
    found = [uncorrelated(Restorer()(perturbed(x, parts, threat)), Restorer()(x)).mean() for parts in (both, alone)]
    nothing = uncorrelated(Restorer()(x), Restorer()(x)).mean()
    assert found[0] > 0.98 * found[1] > 10 * nothing


def test_correlation_is_pearsons() -> None:
    a, b = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    expected = [1 - np.corrcoef(a[i].flatten(), b[i].flatten())[0, 1] for i in range(2)]
    assert torch.allclose(uncorrelated(a, b), torch.tensor(expected).float(), atol=1e-5)
    assert torch.allclose(uncorrelated(a, 0.3 * a + 0.2), torch.zeros(2), atol=1e-5)


def test_both_parts_follow_the_mean_slope_of_the_set() -> None:
    """One step for a linear victim: the slope to ``w`` is that to the image, times the image."""
    (x, _), *_ = _set(2)
    weight = torch.randn(4, 3, 8, 9)
    begun, parts = (
        universal(
            lambda x: x, [(x, weight)], objective("mse"), L2(0.5), epochs=epochs, step_size=0.01, multiplicative=True
        )
        for epochs in (0, 1)
    )
    slope = x + begun[0] - weight
    for part, expected in zip(parts - begun, (slope.sum(0), (slope * x).sum(0)), strict=True):
        assert torch.allclose(part, 0.01 * expected / torch.linalg.vector_norm(expected), atol=1e-6)


@pytest.mark.parametrize("threat", [Linf(0.03), L2(0.4)])
def test_it_leaves_the_clean_answers_where_the_objective_has_no_slope(threat) -> None:
    answered = [(x, Restorer()(x).detach()) for x, _ in _set(2)]
    begun, again, other, made = (
        universal(Restorer(), answered, objective("mse"), threat, epochs=epochs, seed=seed)
        for epochs, seed in ((0, 0), (0, 0), (0, 1), (8, 0))
    )
    sizes = [float(threat.distance(torch.zeros_like(parts[:1]), parts[:1])) for parts in (begun, made)]
    assert sizes == pytest.approx([threat.eps / 100, threat.eps], rel=1e-3) and not begun[1].any()
    assert torch.equal(begun, again) and not torch.equal(begun, other)


def test_a_random_victim_is_never_met_with_one_draw_twice() -> None:
    drawn: list[float] = []

    class Spied(nn.Module):
        random = True

        def forward(self, x, streams):
            noise = streams.normal(x)
            drawn.extend(noise[:, 0, 0, 0].tolist())
            return x + noise

    universal(Spied(), _set(2, 2), objective("mse"), Linf(0.03), epochs=3)
    assert len(drawn) == len(set(drawn)) == 24


def test_a_random_victim_is_met_with_the_same_draws_again() -> None:
    class Jittered(Restorer):
        random = True

        def forward(self, x, streams):
            return super().forward(x + 0.2 * streams.normal(x))

    made = [universal(Jittered(), _set(2, 1), objective("mse"), Linf(0.03), epochs=2, seed=s) for s in (0, 0, 1)]
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


@pytest.mark.parametrize("shape", [(3, 8, 9), (2, 3, 8, 9)])
def test_a_stored_one_is_put_on_every_image_and_asks_nothing(tmp_path, shape) -> None:
    parts = torch.randn(shape).numpy() * 0.02
    np.save(tmp_path / "uap.npy", parts)
    x = _set(5)[0][0]
    result = attack(
        Restorer(), x, objective("mse"), Linf(0.03), "fixed", target=x, seeds=range(4), file=str(tmp_path / "uap.npy"),
        round_8_bit=False,
    )  # fmt: skip
    delta = parts if len(shape) == 3 else parts[0] + parts[1] * x.numpy()
    assert np.allclose((result.x_adv - x).numpy(), np.clip(delta, -0.03, 0.03), atol=1e-6)
    assert not result.meter.forwards.any()


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "no file"),
        (b"junk", "no .npy array of numbers"),
        (np.zeros((3, 4, 4)), "is for images of 4x4 px, not 8x9"),
        (np.zeros(5), "must hold finite"),
        (np.zeros((4, 8, 9)), "has 4 channels, and the images have 3"),
        (np.full((3, 8, 9), np.nan), "must hold finite"),
        (np.array(["a"]), "no .npy array of numbers"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, content, message) -> None:
    path = tmp_path / "uap.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    x = _set(5)[0][0]
    with pytest.raises(ValueError, match=message):
        attack(Restorer(), x, objective("mse"), Linf(0.03), "fixed", seeds=range(4), file=str(path))

"""SimBA's basis and order, Square's windows."""

from __future__ import annotations

import pytest
import torch
from scipy.fft import idctn

from udc_robust.attacks import L2, Linf, attack, objective
from udc_robust.attacks.query import _dct_vectors, _two_bumps, _window_side
from udc_robust.attacks.streams import Streams


def test_dct_vectors_are_scipys_orthonormal_basis() -> None:
    x = torch.zeros(1, 3, 7, 9, dtype=torch.float64)
    for index in (0, 5, 17, 40):
        vector = _dct_vectors(torch.tensor([index]), (4, 4), x)[0]
        coefficients = torch.zeros(3, 7, 9, dtype=torch.float64)
        coefficients[index // 16, index // 4 % 4, index % 4] = 1
        expected = torch.from_numpy(idctn(coefficients.numpy(), axes=(1, 2), norm="ortho"))
        assert torch.allclose(vector, expected, atol=1e-12)


@pytest.mark.parametrize("basis", ["pixel", "dct"])
def test_simba_moves_only_by_its_steps_and_counts_each_question(basis) -> None:
    x = torch.full((2, 3, 8, 8), 0.5)
    steps, size = 10, 0.1
    result = attack(
        lambda images: images, x, objective("mse"), Linf(1.0), "simba",
        target=x, seeds=[1, 2], steps=steps, step_size=size, basis=basis, low_frequencies=8, round_8_bit=False,
    )  # fmt: skip
    # On this victim every step away from the target is kept at once: one question a step, and one at the start.
    assert (result.meter.queries == steps + 1).all()
    assert torch.allclose(result.l2, torch.tensor(size * steps**0.5), atol=1e-5)


def test_simba_asks_twice_where_the_first_direction_fails() -> None:
    x = torch.full((1, 3, 8, 8), 0.5)
    bright = lambda images: images.clamp_min(0.5)  # noqa: E731  only brighter pixels change anything
    result = attack(bright, x, objective("mse"), Linf(1.0), "simba", target=x, seeds=[1], steps=10, round_8_bit=False)
    assert int(result.meter.queries) == 21


@pytest.mark.parametrize("size", [(32, 48), (48, 32), (33, 20)])
@pytest.mark.parametrize("threat", [Linf(8 / 255), L2(2.0)])
def test_square_takes_non_square_images_and_spends_its_budget(size, threat) -> None:
    x = torch.full((2, 3, *size), 0.5)
    result = attack(
        lambda images: images * 2 - 0.5, x, objective("mse"), threat, "square",
        target=x, seeds=[1, 2], steps=20, round_8_bit=False,
    )  # fmt: skip
    assert torch.allclose(threat.distance(x, result.x_adv), torch.tensor(threat.eps), rtol=1e-3)
    assert (result.meter.queries == 20).all()


def test_square_goes_on_from_the_best_image_so_far() -> None:
    x = torch.round((0.3 + 0.4 * torch.rand(1, 3, 14, 18)) * 255) / 255
    seen: list[torch.Tensor] = []
    target, steps, mse = (x + 0.02).clamp(0, 1), 80, objective("mse")

    def sharpen(images: torch.Tensor) -> torch.Tensor:
        return 2 * images - torch.nn.functional.avg_pool2d(images, 3, 1, 1)

    def victim(images: torch.Tensor) -> torch.Tensor:
        seen.append(images.clone())
        return sharpen(images)

    attack(victim, x, mse, Linf(8 / 255), "square", target=target, seeds=[1], steps=steps, round_8_bit=False)
    asked = seen[1:-1]
    values = [float(mse.values(sharpen(image), target)) for image in asked]
    worse = 0
    for step in range(1, steps):
        best = asked[max(range(step), key=values.__getitem__)]
        rows, columns = (best != asked[step]).any(1)[0].nonzero().T
        side = _window_side(0.05, step, steps, x)
        assert rows.max() - rows.min() < side and columns.max() - columns.min() < side
        worse += values[step] <= max(values[:step])
    assert worse > 10  # many proposals were not kept


def test_window_side_follows_the_published_schedule() -> None:
    x = torch.zeros(1, 3, 100, 100)
    sides = [_window_side(0.05, step, 10_000, x) for step in (1, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)]
    assert sides == [round((0.05 / 2**k * 10_000) ** 0.5) for k in range(10)]


@pytest.mark.parametrize("side", [1, 3, 5, 8])
def test_bumps_have_unit_norm_and_both_signs(side) -> None:
    class OnlyStreams:
        streams = Streams([0])

    eta = _two_bumps(OnlyStreams(), 0, side)
    assert eta.shape == (side, side) and torch.linalg.vector_norm(eta).item() == pytest.approx(1)
    assert side == 1 or (eta.min() < 0 < eta.max())

"""SimBA's basis and order, Square's windows."""

from __future__ import annotations

import pytest
import torch
from scipy.fft import dctn, idctn

from udc_robust.attacks import L2, Linf, attack, objective
from udc_robust.attacks.query import (
    _bump,
    _dct_vectors,
    _l2_windows,
    _place,
    _stripes,
    _tiles,
    _two_bumps,
    _window_side,
)
from udc_robust.attacks.streams import Streams


class OnlyStreams:
    """All of an oracle that Square's proposals use."""

    def __init__(self, *seeds: int) -> None:
        self.streams = Streams(seeds)


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


def test_simba_goes_through_its_order_again_and_again() -> None:
    x = torch.full((2, 1, 3, 4), 0.5)
    result = attack(
        lambda images: images, x, objective("mse"), Linf(1.0), "simba",
        target=x, seeds=[1, 2], steps=2 * 12, step_size=0.1, round_8_bit=False,
    )  # fmt: skip
    assert torch.allclose((result.x_adv - x).abs(), torch.tensor(0.2), atol=1e-6)


def test_simba_on_low_frequencies_leaves_the_high_ones_alone() -> None:
    x = torch.full((1, 3, 9, 8), 0.5)
    result = attack(
        lambda images: images, x, objective("mse"), Linf(1.0), "simba", target=x, seeds=[1], steps=18,
        step_size=0.1, basis="dct", low_frequencies=2, round_8_bit=False,
    )  # fmt: skip
    coefficients = torch.from_numpy(dctn((result.x_adv - x)[0].double().numpy(), axes=(1, 2), norm="ortho")).abs()
    assert coefficients[:, :2, :2].min() > 0.09  # all of them, each once or twice
    coefficients[:, :2, :2] = 0
    assert coefficients.max() < 1e-5


def test_another_basis_is_refused() -> None:
    x = torch.full((1, 3, 8, 8), 0.5)
    with pytest.raises(ValueError, match="basis 'pixels' must be pixel or dct"):
        attack(lambda images: images, x, objective("mse"), Linf(1.0), "simba", target=x, seeds=[1], basis="pixels")


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
    # Each halving comes after its point, whatever the number of steps.
    assert [_window_side(0.05, step, 10_000, x) for step in (10, 50, 200, 8000)] == [sides[k] for k in (0, 1, 2, 8)]
    for step in range(1, 1000, 37):
        assert _window_side(0.05, step, 1000, x) == _window_side(0.05, 10 * step, 10_000, x)
    oblong = torch.zeros(1, 3, 40, 100)
    assert _window_side(1.0, 1, 10_000, oblong) == 39 and _window_side(1e-9, 1, 10_000, oblong) == 1


def test_windows_lie_everywhere_the_last_row_and_column_included() -> None:
    oracle, image = OnlyStreams(3), torch.zeros(3, 5, 7)
    places = [_place(oracle, 0, image, 3) for _ in range(300)]
    assert {rows.start for rows, _ in places} == {0, 1, 2} and {columns.start for _, columns in places} == set(range(5))
    assert all(part.stop - part.start == 3 for place in places for part in place)


def test_square_begins_with_stripes_and_goes_on_in_windows_of_one_sign_a_channel() -> None:
    x = torch.full((2, 3, 12, 16), 0.5)
    signs = (_stripes(OnlyStreams(1, 2), x, 0.1) - x) / 0.1
    assert torch.allclose(signs.abs(), torch.ones_like(x)) and torch.equal(signs, signs[:, :, :1].expand_as(x))
    assert not torch.equal(signs[:, 0], signs[:, 1]) and not torch.equal(signs[0], signs[1])
    seen: list[torch.Tensor] = []
    attack(
        lambda images: seen.append(images.clone()) or 0 * images, x[:1], objective("mse"), Linf(0.1), "square",
        target=x[:1], seeds=[1], steps=60, round_8_bit=False,
    )  # fmt: skip
    patterns = set()
    for asked in seen[2:-1]:
        change = ((asked - seen[1]) / 0.1).round()[0]
        rows, columns = change.abs().amax(0).nonzero().T
        window = ((asked[0] - x[0]) / 0.1).round()[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert torch.equal(window, window[:, :1, :1].expand_as(window)) and (window.abs() == 1).all()
        patterns.add(tuple(window[:, 0, 0].tolist()))
    assert len(patterns) > 4  # a channel's sign is its own


def test_a_square_bump_is_the_published_pyramid() -> None:
    bump = _bump(5, 5)
    rings = torch.tensor([1 / 9, 1 / 9 + 1 / 4, 1 / 9 + 1 / 4 + 1])
    rows = torch.tensor([0, 1, 2, 1, 0])
    assert torch.allclose(bump, rings[torch.minimum(rows[:, None], rows)])


@pytest.mark.parametrize("size", [(25, 25), (12, 17), (17, 12)])
def test_square_l2_begins_with_five_tiles_along_the_shorter_side(size) -> None:
    x = torch.full((2, 3, *size), 0.5)
    delta = _tiles(OnlyStreams(1, 2), x, 2.0) - x
    side = min(size) // 5
    tiles = delta.unfold(2, side, side).unfold(3, side, side)  # (B,C,rows,columns,side,side)
    energy = tiles.square().sum((-1, -2))
    assert min(energy.shape[2:]) >= 5
    assert torch.allclose(energy, torch.tensor(4.0 / energy[0].numel()), rtol=1e-3)
    assert torch.allclose(delta.flatten(1).norm(dim=1), torch.tensor(2.0))
    assert (tiles[0, 0] * tiles[0, 1]).sum((-1, -2)).sign().unique().numel() == 2  # a channel's sign is its own


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spent", [0.5, 1.0])
def test_square_l2_moves_the_budget_of_one_window_to_another(seed, spent) -> None:
    """Algorithm 3: nothing else changes, and the whole budget is spent."""
    x, eps, side = torch.full((3, 15, 18), 0.5), 2.0, 5
    old = torch.randn(3, 15, 18, generator=torch.Generator().manual_seed(seed))
    old = spent * eps * old / old.norm()
    new = _l2_windows(OnlyStreams(seed), 0, x, x + old, L2(eps), side) - x
    again = OnlyStreams(seed)
    first, second = (_place(again, 0, x, side) for _ in range(2))
    in_first, in_second = (torch.zeros(15, 18, dtype=torch.bool) for _ in range(2))
    in_first[first], in_second[second] = True, True
    union = in_first | in_second
    assert torch.allclose(new[:, ~union], old[:, ~union], atol=1e-5)
    assert (new[:, in_second & ~in_first] == 0).all()
    expected = (old * union).square().sum((1, 2)) + (eps**2 - (spent * eps) ** 2) / 3
    assert torch.allclose((new * in_first).square().sum((1, 2)), expected, rtol=1e-4)
    assert float(new.norm()) == pytest.approx(eps, rel=1e-5)


@pytest.mark.parametrize("side", [1, 3, 5, 8])
def test_bumps_have_unit_norm_and_both_signs(side) -> None:
    eta = _two_bumps(OnlyStreams(0), 0, side)
    assert eta.shape == (side, side) and torch.linalg.vector_norm(eta).item() == pytest.approx(1)
    assert side == 1 or (eta.min() < 0 < eta.max())


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)], ids=["linf", "l2"])
def test_brightness_shifts_every_value_alike_to_the_side_that_hurts(threat) -> None:
    x = torch.full((2, 3, 4, 4), 0.5)
    target = torch.stack([torch.full((3, 4, 4), 0.4), torch.full((3, 4, 4), 0.6)])
    result = attack(
        lambda y: y, x, objective("mse"), threat, "brightness", target=target, seeds=[1, 2], round_8_bit=False
    )
    size = 0.1 if threat.norm == "linf" else 0.5 / 48**0.5
    assert torch.allclose(result.x_adv[0], x[0] + size) and torch.allclose(result.x_adv[1], x[1] - size)
    assert result.meter.queries.tolist() == [2, 2] and result.meter.backwards.sum() == 0

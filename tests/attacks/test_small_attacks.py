"""Fourier mixing, delayed elastic nets and colour shifts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from udc_robust.attacks import L2, Linf, attack, objective
from udc_robust.attacks.elastic_net import elastic_distance, robustness
from udc_robust.attacks.mixing import _mixed, _photographs


def _smooth(batch: int = 2, height: int = 24, width: int = 28) -> Tensor:
    rows, columns = torch.arange(height).view(-1, 1) / height, torch.arange(width) / width
    picture = 0.5 + 0.2 * torch.stack([rows * columns, rows - 0.5 * columns, columns + 0 * rows])
    return picture.expand(batch, 3, height, width).clone()


def sharpened(x: Tensor) -> Tensor:
    return 3 * x - x.roll(1, -1) - x.roll(1, -2)


@pytest.mark.parametrize("threat", [Linf(0.05), L2(1.0)])
def test_the_detail_of_photographs_harms_a_smooth_picture(threat) -> None:
    x = _smooth()
    result = attack(sharpened, x, objective("mse"), threat, "fmixup", target=sharpened(x), seeds=[1, 2], steps=30)
    assert (result.adv_values > 1e-3).all() and result.meter.queries.tolist() == [30, 30]
    assert not torch.equal(result.x_adv[0], result.x_adv[1])  # by their own seeds
    few = attack(sharpened, x, objective("mse"), threat, "fmixup", target=sharpened(x), seeds=[1, 2], steps=3)
    assert (result.adv_values >= few.adv_values).all() and not torch.equal(result.adv_values, few.adv_values)


def test_low_frequencies_stay_and_high_ones_are_lent() -> None:
    image, side = _smooth(1, 32, 32)[0], 32
    photograph = _photographs()[2]
    top, left = int(0.25 * (photograph.shape[-2] - side + 1)), int(0.5 * (photograph.shape[-1] - side + 1))
    other = photograph[:, top : top + side, left : left + side]
    mixed = _mixed(image, [0.5, 0.25, 0.5, 0.9, 0.5, 0.75])  # the third, a radius of .35, three quarters lent
    spectra = [torch.fft.fft2(picture) for picture in (mixed, image, other)]
    rows = torch.fft.fftfreq(side) * 2
    high = (rows[:, None] ** 2 + rows[None, :] ** 2).sqrt() > 0.35
    assert torch.allclose(spectra[0][:, ~high], spectra[1][:, ~high], atol=1e-3)
    expected = 0.25 * spectra[1] + 0.75 * spectra[2]
    assert torch.allclose(spectra[0][:, high], expected[:, high], atol=1e-3)


def test_small_photographs_and_grey_images_are_met() -> None:
    for shape in ((1, 1, 20, 20), (1, 3, 400, 520)):
        x = torch.full(shape, 0.5)
        result = attack(lambda x: x, x, objective("mse"), Linf(0.05), "fmixup", target=x, seeds=[1], steps=2)
        assert result.x_adv.shape == shape and (result.adv_values > 0).all()


def _half(x: Tensor) -> Tensor:
    """Two scores: the first is larger while the mean of the left half is under .6."""
    left = x[..., : x.shape[-1] // 2].mean((1, 2, 3))
    return torch.stack([0.6 - left, left - 0.6], 1)


def _broken_by_net(victim, x: Tensor, **options):
    labels = torch.zeros(len(x), dtype=torch.long)
    return attack(
        victim, x, objective("margin"), L2(float("inf")), "elastic_net", target=labels, seeds=range(len(x)),
        round_8_bit=False, **options,
    )  # fmt: skip


@pytest.mark.parametrize("steps", [30, 31, 32, 33, 34])
def test_the_elastic_net_breaks_first_and_shrinks_then(steps) -> None:
    """Steps of .3 pass the border, .4 away, by far; what is shrunk comes back to it, and the next step leaps again."""
    x = torch.full((2, 1, 4, 8), 0.5)
    result = _broken_by_net(_half, x, steps=steps, step_size=0.3, shrink=0.02)
    assert result.success.all() and (result.l2 < 1.06 * 0.4).all()  # .1 on sixteen pixels is the least
    assert ((result.x_adv - x)[..., 4:].abs() < 1e-6).all()


def test_the_l1_part_spares_pixels_that_do_little() -> None:
    def uneven(x: Tensor) -> Tensor:
        """Half of the pixels weigh a fifth."""
        mean = (x * torch.tensor([1.0, 0.2]).repeat(4)).mean((1, 2, 3))
        return torch.stack([0.36 - mean, mean - 0.36], 1)

    x = torch.full((1, 1, 4, 8), 0.5)
    shares = []
    for beta in (1e-4, 1.0):
        result = _broken_by_net(uneven, x, steps=200, beta=beta, step_size=0.02)
        strong, weak = ((result.x_adv - x)[0, 0, 0, i] for i in (0, 1))
        assert result.success.all() and strong > 0.09
        shares.append(float(weak / strong))
    assert abs(shares[0] - 0.2) < 0.01 and shares[1] < 0.13


def test_an_elastic_net_that_never_breaks_returns_the_worst_image() -> None:
    x = torch.full((1, 1, 4, 8), 0.5)
    result = attack(
        _half, x, objective("margin"), L2(0.2), "elastic_net", target=torch.tensor([0]), seeds=[1], round_8_bit=False
    )
    assert not result.success.any() and (result.adv_values > result.clean_values).all()
    assert (result.l2 > 0.19).all()


def test_distances_are_what_they_say() -> None:
    delta = torch.tensor([[[[3.0, -4.0]]]])
    assert torch.allclose(elastic_distance(delta, 0.1), torch.tensor([25.7]))
    found, scaled = robustness(delta), robustness(255 * delta.repeat(1, 1, 5, 5), 0, 255)
    assert torch.allclose(found["l1"], torch.tensor([3.5])) and torch.allclose(found["l2"], torch.tensor([12.5]).sqrt())
    assert all(torch.allclose(found[key], scaled[key]) for key in found)


@pytest.mark.parametrize("threat", [Linf(0.05), L2(1.0)])
def test_a_colour_shift_is_one_number_a_channel_and_finds_the_tint_that_is_off(threat) -> None:
    x = _smooth()
    tint = torch.tensor([0.02, -0.02, 0.02]).view(3, 1, 1)
    options = {"target": x + tint, "seeds": [1, 2], "round_8_bit": False}
    result = attack(lambda x: x, x, objective("mse"), threat, "colour_shift", **options)
    delta = result.x_adv - x
    assert torch.allclose(delta, delta.mean((2, 3), keepdim=True).expand_as(delta), atol=1e-6)
    assert (delta.mean((2, 3)).sign() == -tint.flatten().sign()).all()
    assert (threat.distance(x, result.x_adv) > 0.99 * threat.eps).all()
    grey = attack(lambda x: x, x, objective("mse"), threat, "brightness", **options)
    assert (result.adv_values > grey.adv_values).all()

"""Bands of spatial frequency: changes stay in them, and the gain spectrum finds the one that a restorer amplifies."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from udc_robust.attacks import L2, Linf, Streams, attack, gain_spectrum, objective
from udc_robust.attacks.within import Band

threats = st.sampled_from([Linf(4 / 255), L2(0.5)])
bands = st.sampled_from([(0.0, 0.25), (0.25, 0.5), (0.0, 1.0), (0.75, 1.0)])
sides = st.integers(8, 17)


def _images(height: int = 16, width: int = 20, batch: int = 2) -> Tensor:
    return 0.3 + 0.4 * torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(2))


def _outside(delta: Tensor, low: float, high: float) -> float:
    """The share of a change's energy that lies outside a band, by the whole transform."""
    spectrum = torch.fft.fft2(delta.double()).abs().square()
    rows, columns = (torch.fft.fftfreq(n).abs() * 2 for n in delta.shape[-2:])
    frequency = torch.maximum(rows[:, None], columns[None, :])
    outside = (frequency < low) | ((frequency >= high) if high < 1 else False)
    return float(spectrum[..., outside].sum() / spectrum.sum())


@given(threats, bands, sides, sides)
def test_what_a_band_projects_is_in_it_and_in_the_ball(threat, band, height, width) -> None:
    x = _images(height, width)
    within = Band(threat, *band)
    for x_adv in (within.project(x, x + torch.randn_like(x)), within.start(x, Streams([1, 2]))):
        assert (threat.distance(x, x_adv) <= threat.eps * (1 + 1e-4) + 1e-6).all()
        assert _outside(x_adv - x, *band) < 1e-6


@pytest.mark.parametrize("threat", [Linf(0.03), L2(0.5)])
def test_a_change_that_fits_is_left_alone_and_most_of_the_budget_is_used(threat) -> None:
    x = _images()
    within = Band(threat, 0.0, 0.5)
    wave = torch.cos(2 * torch.pi * torch.arange(20) * 3 / 20).expand_as(x)
    small = x + 0.1 * threat.eps * wave / torch.linalg.vector_norm(wave[0])
    assert torch.allclose(within.project(x, small), small, atol=1e-6)
    assert (threat.distance(x, within.project(x, x + wave)) > 0.98 * threat.eps).all()
    assert (threat.distance(x, within.project(x, x + torch.randn_like(x))) > 0.9 * threat.eps).all()


@given(bands, sides, sides)
def test_bands_add_up_to_the_whole(_, height, width) -> None:
    x = torch.randn(1, 1, height, width)
    parts = [Band(Linf(1.0), k / 5, (k + 1) / 5).keep(x) for k in range(5)]
    assert torch.allclose(torch.stack(parts).sum(0), x, atol=1e-5)


@pytest.mark.parametrize("threat", [Linf(8 / 255), L2(1.0)])
def test_the_attack_stays_in_its_band(threat) -> None:
    x = _images()
    options = {"low": 0.25, "high": 0.5, "steps": 6, "round_8_bit": False}
    result = attack(lambda x: (20 * x).sin(), x, objective("mse"), threat, "band_pgd", seeds=[1, 2], **options)
    assert _outside(result.x_adv - x, 0.25, 0.5) < 1e-5
    assert (threat.distance(x, result.x_adv) > 0.8 * threat.eps).all()


def test_the_gain_spectrum_finds_what_a_restorer_amplifies() -> None:
    """One that doubles frequencies of a half to five eighths of Nyquist, and passes the others at a half."""

    def restorer(x: Tensor) -> Tensor:
        return 0.5 * x + 1.5 * Band(Linf(1.0), 0.5, 0.625).keep(x)

    x = _images(32, 32)
    gains = gain_spectrum(restorer, x, objective("mse"), Linf(0.02), target=restorer(x) + 0.001, seeds=[1, 2], steps=8)
    assert gains.shape == (8, 2) and (gains.argmax(0) == 4).all()
    others = gains[[0, 1, 2, 3, 5, 6, 7]]
    assert (gains[4] > 3 * others).all() and (others[1:].amax(0) < 3 * others[1:].amin(0)).all()


@pytest.mark.parametrize("low, high", [(0.5, 0.5), (0.5, 0.2), (-0.1, 0.5), (0.5, 1.1), (0.01, 0.02)])
def test_bands_that_are_none_are_refused(low, high) -> None:
    with pytest.raises(ValueError, match="Nyquist"):
        attack(lambda x: x, _images(), objective("mse"), Linf(0.1), "band_pgd", seeds=[1, 2], low=low, high=high)


def test_steps_are_not_misled_by_what_lies_outside_of_the_band() -> None:
    """The gradient is nearly all of high frequencies, which the attack may not use."""

    def quiet(x: Tensor) -> Tensor:
        return Band(Linf(1.0), 0.0, 0.25).keep(x)

    def loud(x: Tensor) -> Tensor:
        return quiet(x) + 9 * Band(Linf(1.0), 0.5, 1.0).keep(x - x.detach()) + 3 * Band(Linf(1.0), 0.5, 1.0).keep(x)

    x = _images(32, 32)
    options = {"seeds": [1, 2], "high": 0.25, "steps": 3, "round_8_bit": False}
    alone, beside = (
        attack(f, x, objective("mse"), Linf(0.02), "band_pgd", target=0.8 * quiet(x), **options) for f in (quiet, loud)
    )
    damage = [objective("mse").values(quiet(r.x_adv), 0.8 * quiet(x)) for r in (alone, beside)]
    assert (damage[1] > 0.95 * damage[0]).all()

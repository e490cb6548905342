"""Displays that are off: what a parameter does, its gradient, and what is refused."""

from __future__ import annotations

import pytest
import torch

from udc_robust.errors import UserError
from udc_robust.optics.layout import Display, phone_edges
from udc_robust.optics.psf import encircled_energy, named_display, named_psf
from udc_robust.optics.psf_code import turned
from udc_robust.optics.variation import DisplayVariation, MeasuredVariation

TINY = DisplayVariation(Display(phone_edges(), defocus=0.456), side=13, samples=64)


def at(**values: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def test_as_it_should_be_it_is_the_named_psf() -> None:
    display = named_display("phone")
    assert display is not None and named_display("measured.npy") is None
    ours, named = DisplayVariation(display).psf({}), named_psf("phone")
    assert (ours - named).abs().sum((1, 2)).max() < 0.02  # of the light; edges of cells are weighed otherwise


def test_measured_it_is_the_very_psf() -> None:
    psf = torch.rand(3, 9, 9)
    psf /= psf.sum((1, 2), keepdim=True)
    torch.testing.assert_close(MeasuredVariation(psf).psf({}), psf)
    torch.testing.assert_close(MeasuredVariation(psf).psf(at(turn=20.0)), turned(psf, -20.0))  # clockwise


def test_orders_move_inwards_as_a_measured_display_grows() -> None:
    psf = torch.zeros(3, 13, 13)
    psf[:, 6, [2, 10]] = 0.5
    grown = MeasuredVariation(psf).psf(at(scale=100.0))
    assert grown[0].nonzero().tolist() == [[6, 4], [6, 8]]


@pytest.mark.parametrize("variation", [TINY, MeasuredVariation(TINY.psf({}))], ids=["waves", "picture"])
def test_what_each_parameter_does(variation) -> None:
    nominal = variation.psf({})
    torch.testing.assert_close(nominal.sum((1, 2)), torch.ones(3))
    moved, rolled = variation.psf(at(shift_x=2.0, shift_y=-1.0)), nominal.roll((-1, 2), (-2, -1))
    inner = (..., slice(2, -2), slice(2, -2))
    lost = moved[inner].sum((1, 2), keepdim=True) / rolled[inner].sum((1, 2), keepdim=True)  # light beyond its border
    assert (moved - lost * rolled)[inner].abs().max() < 0.04 * nominal.max()
    core = encircled_energy(nominal, [1.5])
    assert (encircled_energy(variation.psf(at(defocus=1.5)), [1.5]) < core).all()
    assert (variation.psf(at(turn=10.0)) - nominal).abs().sum() > 1e-3
    assert (variation.psf(at(scale=10.0)) - nominal).abs().sum() > 1e-3


def test_more_open_is_less_scattered_and_turns_agree_with_the_layout() -> None:
    closed, nominal, opened = (encircled_energy(TINY.psf(at(opening=v)), [2.0]).mean() for v in (-6.0, 0.0, 6.0))
    assert closed < nominal < opened
    turned_display = DisplayVariation(Display(phone_edges(), angle=7, scale=1.1, defocus=0.456), side=13, samples=64)
    torch.testing.assert_close(TINY.psf(at(turn=7.0, scale=10.0)), turned_display.psf({}), atol=1e-6, rtol=0)


@pytest.mark.parametrize("variation", [TINY, MeasuredVariation(TINY.psf({}).double())], ids=["waves", "picture"])
def test_gradients_are_those_of_finite_differences(variation) -> None:
    goal = torch.rand(3, 13, 13, dtype=torch.float64)
    for name in variation.units:
        usual = 7.3 if name == "turn" else 1.3  # away from where edges run along cells, and blur begins
        value = torch.tensor(usual, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad((variation.psf({name: value}) * goal).sum(), value)
        steps = [(variation.psf(at(**{name: usual + step})).double() * goal).sum() for step in (-0.02, 0.02)]
        assert slope.item() == pytest.approx(((steps[1] - steps[0]) / 0.04).item(), rel=0.15, abs=1e-4), name


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("turn", 0.0, "leaves nothing to vary"),
        ("turn", float("nan"), "leaves nothing to vary"),
        ("turn", 181.0, "beyond the pupil: at most 180 °"),
        ("scale", 60.0, "beyond the pupil: at most 50 %"),
        ("shift_x", 7.0, "beyond the pupil: at most 6 px"),
        ("defocus", 50.0, "beyond the pupil"),
        ("opening", 60.0, "of it would be open"),
    ],
)
def test_tolerances_that_are_none(name, value, message) -> None:
    with pytest.raises(UserError, match=message):
        TINY.check(name, value)


def test_how_open_a_measured_display_is_nobody_knows() -> None:
    with pytest.raises(UserError, match="no tolerance of opening: name a simulated one"):
        MeasuredVariation(torch.ones(3, 3, 3) / 9).check("opening", 1.0)

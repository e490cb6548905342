"""The three colour domains and the conversions between them."""

from __future__ import annotations

import itertools

import pytest
import torch

from udc_robust.optics.domains import DOMAINS, convert, linear_to_srgb, srgb_to_linear, value_range

COLOURS = [domain for domain in DOMAINS if domain != "raw"]


@pytest.mark.parametrize("source, target", itertools.product(COLOURS, COLOURS))
def test_there_and_back(source, target) -> None:
    linear = torch.linspace(0, 1, 50).view(1, 1, 5, 10).double()  # sRGB holds no light above 1
    x = convert(linear, "linear", source)
    assert torch.allclose(convert(convert(x, source, target), target, source), x, atol=1e-9)


def test_known_values() -> None:
    assert convert(torch.tensor(0.25), "linear", "tonemapped") == 0.5
    assert convert(torch.tensor(1.0), "srgb", "tonemapped").item() == pytest.approx(0.8)
    assert srgb_to_linear(torch.tensor(0.5)).item() == pytest.approx(0.2140411, abs=1e-6)
    assert linear_to_srgb(torch.tensor(7.0)).item() == pytest.approx(1)
    assert convert(torch.tensor(1.0), "tonemapped", "linear").item() == pytest.approx(500, rel=1e-3)


def test_both_branches_of_srgb() -> None:
    """IEC 61966-2-1: a line up to 0.0031308 of linear light, a power above."""
    for linear, encoded in (
        (0.003, 12.92 * 0.003),
        (0.0032, 1.055 * 0.0032 ** (1 / 2.4) - 0.055),
        (0.01, 1.055 * 0.01 ** (1 / 2.4) - 0.055),
    ):
        assert linear_to_srgb(torch.tensor(linear)).item() == pytest.approx(encoded, abs=1e-7)
        assert srgb_to_linear(torch.tensor(encoded)).item() == pytest.approx(linear, abs=1e-7)


@pytest.mark.parametrize("source, target", itertools.permutations(COLOURS, 2))
def test_values_outside_the_range_count_as_its_ends(source, target) -> None:
    low, high = value_range(source)
    assert (low, high) == ((0, 500) if source == "linear" else (0, 1))
    outside, ends = torch.tensor([low - 0.5, high * 1.3]), torch.tensor([low, high])
    assert torch.equal(convert(outside, source, target), convert(ends, source, target))


@pytest.mark.parametrize("source, target", itertools.permutations(COLOURS, 2))
def test_gradients_are_finite_and_right(source, target) -> None:
    x = torch.tensor([0.0005, 0.02, 0.3, 0.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: convert(v, source, target), x, atol=1e-4)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(convert(ends, source, target).sum(), ends)
    assert gradient.isfinite().all()

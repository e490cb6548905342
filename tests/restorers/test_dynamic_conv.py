from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from udc_robust.restorers.dynamic_conv import dynamic_conv, predicted_dynamic_conv


def random_case(
    batch: int, channels: int, height: int, width: int, k: int, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor]:
    feature = torch.randn(batch, channels, height, width, dtype=dtype, requires_grad=True)
    kernels = torch.randn(batch, channels * k * k, height, width, dtype=dtype, requires_grad=True)
    return feature, kernels


def by_unfold(feature: torch.Tensor, kernels: torch.Tensor, k: int) -> torch.Tensor:
    """The definition by way of torch's own patch extraction."""
    patches = F.unfold(F.pad(feature, (k // 2,) * 4, mode="replicate"), k)
    products = patches.unflatten(1, (feature.shape[1], -1)) * kernels.flatten(2).unflatten(1, (feature.shape[1], -1))
    return products.sum(2).view_as(feature)


@settings(deadline=None, max_examples=25)
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 3),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    k=st.sampled_from([1, 3, 5]),
)
def test_values_and_gradients_against_unfold(batch: int, channels: int, height: int, width: int, k: int) -> None:
    inputs = random_case(batch, channels, height, width, k)
    expected = by_unfold(*inputs, k)
    g = torch.randn_like(expected)
    expected_gradients = torch.autograd.grad(expected, inputs, g)
    out = dynamic_conv(*inputs, k)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(torch.autograd.grad(out, inputs, g), expected_gradients)


@pytest.mark.parametrize(("tap", "dy", "dx"), [(0, -1, -1), (1, -1, 0), (3, 0, -1), (8, 1, 1)])
def test_tap_order(tap: int, dy: int, dx: int) -> None:
    feature = torch.arange(20.0).view(1, 1, 4, 5)
    kernels = torch.zeros(1, 9, 4, 5)
    kernels[:, tap] = 1
    assert dynamic_conv(feature, kernels, 3)[0, 0, 2, 2] == feature[0, 0, 2 + dy, 2 + dx]


def test_mixed_precision_is_promoted() -> None:
    feature, kernels = random_case(1, 2, 4, 4, 3, torch.float32)
    out = dynamic_conv(feature, kernels.bfloat16(), 3)
    assert out.dtype == torch.float32
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(out.sum(), (feature, kernels)))


class Parts(NamedTuple):
    """Arguments of ``predicted_dynamic_conv`` up to the kernel size."""

    feature: torch.Tensor
    hidden: torch.Tensor
    head: nn.Conv2d
    slope: torch.Tensor | None

    def variables(self) -> tuple[torch.Tensor, ...]:
        slope = () if self.slope is None else (self.slope,)
        return self.feature, self.hidden, *self.head.parameters(), *slope


def random_parts(
    batch: int, channels: int, height: int, width: int, k: int, slope: float | None, dtype: torch.dtype = torch.float64
) -> Parts:
    depth = 3
    return Parts(
        torch.randn(batch, channels, height, width, dtype=dtype, requires_grad=True),
        torch.randn(batch, depth, height, width, dtype=dtype, requires_grad=True),
        nn.Conv2d(depth, channels * k * k, 1, dtype=dtype),
        None if slope is None else torch.tensor([slope], dtype=dtype, requires_grad=True),
    )


def plain(parts: Parts, k: int) -> torch.Tensor:
    kernels = parts.head(parts.hidden)
    return dynamic_conv(parts.feature, kernels if parts.slope is None else F.prelu(kernels, parts.slope), k)


@pytest.fixture
def one_row_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("udc_robust.restorers.dynamic_conv.CPU_BLOCK_BYTES", 1)


@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 2),
    channels=st.integers(1, 3),
    height=st.integers(1, 7),
    width=st.integers(1, 6),
    k=st.sampled_from([1, 3, 5]),
    slope=st.sampled_from([None, 0.2, -0.5, 1.0]),
    rows_a_block=st.integers(1, 8),
)
def test_predicted_values_and_gradients(
    batch: int, channels: int, height: int, width: int, k: int, slope: float | None, rows_a_block: int
) -> None:
    parts = random_parts(batch, channels, height, width, k, slope)
    expected = plain(parts, k)
    g = torch.randn_like(expected)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("udc_robust.restorers.dynamic_conv.CPU_BLOCK_BYTES", rows_a_block * channels * k * k * width * 8)
        found = predicted_dynamic_conv(*parts, k)
        found_gradients = torch.autograd.grad(found, parts.variables(), g)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found_gradients, torch.autograd.grad(expected, parts.variables(), g))


@pytest.mark.parametrize("slope", [None, 0.2])
def test_first_and_second_derivatives(one_row_a_block: None, slope: float | None) -> None:
    parts = random_parts(1, 2, 2, 3, 3, slope)

    def function(*variables: torch.Tensor) -> torch.Tensor:
        feature, hidden, weight, bias, *rest = variables
        head = torch.nn.utils.skip_init(nn.Conv2d, 3, 18, 1, dtype=torch.float64)
        del head.weight, head.bias
        head.weight, head.bias = weight, bias
        return predicted_dynamic_conv(feature, hidden, head, rest[0] if rest else None, 3)

    assert torch.autograd.gradcheck(function, parts.variables())
    assert torch.autograd.gradgradcheck(function, parts.variables())


@pytest.mark.parametrize("wanted", range(5))
def test_gradient_of_one_variable_only(wanted: int) -> None:
    """What is not wanted is not computed: networks under attack have frozen weights."""
    parts = random_parts(2, 2, 4, 4, 3, 0.2)
    for i, variable in enumerate(parts.variables()):
        variable.requires_grad_(i == wanted)
    variable = parts.variables()[wanted]
    (found,) = torch.autograd.grad(predicted_dynamic_conv(*parts, 3).square().sum(), variable)
    (expected,) = torch.autograd.grad(plain(parts, 3).square().sum(), variable)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("slope", [None, 0.2])
def test_batch_equals_singles_bit_for_bit(one_row_a_block: None, slope: float | None) -> None:
    parts = random_parts(3, 4, 5, 6, 3, slope, torch.float32)
    inputs = (parts.feature, parts.hidden)
    batch = predicted_dynamic_conv(*parts, 3)
    gradients = torch.autograd.grad(batch.square().sum(), inputs)
    for i in range(3):
        alone = Parts(parts.feature[i : i + 1], parts.hidden[i : i + 1], parts.head, parts.slope)
        single = predicted_dynamic_conv(*alone, 3)
        assert torch.equal(single, batch[i : i + 1])
        for one, all_of_them in zip(torch.autograd.grad(single.square().sum(), alone[:2]), gradients, strict=True):
            assert torch.equal(one, all_of_them[i : i + 1])


def test_memory_layout_does_not_matter() -> None:
    parts = random_parts(2, 4, 5, 6, 3, 0.2)
    channels_last = [t.to(memory_format=torch.channels_last) for t in (parts.feature, parts.hidden)]
    out, other = predicted_dynamic_conv(*parts, 3), predicted_dynamic_conv(*channels_last, *parts[2:], 3)
    torch.testing.assert_close(other, out)
    g = torch.randn_like(out)
    found = torch.autograd.grad(other, parts.variables(), g.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, torch.autograd.grad(out, parts.variables(), g))


def test_half_precision_features_are_computed_in_the_type_of_the_weights() -> None:
    parts = random_parts(1, 2, 4, 4, 3, 0.2, torch.float32)
    halves = parts._replace(feature=parts.feature.bfloat16(), hidden=parts.hidden.bfloat16())
    widened = parts._replace(feature=halves.feature.float(), hidden=halves.hidden.float())
    with torch.autocast("cpu", torch.bfloat16):
        out = predicted_dynamic_conv(*halves, 3)
        gradients = torch.autograd.grad(out.sum(), widened.variables()[2:])
    expected = plain(widened, 3)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected.sum(), widened.variables()[2:]))


def test_kernels_are_not_kept_for_the_backward_pass() -> None:
    parts, k = random_parts(2, 20, 6, 5, 3, 0.2, torch.float32), 3
    kept: dict[int, int] = {}

    def pack(t: torch.Tensor) -> torch.Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    def kept_bytes(function: Callable[[Parts, int], torch.Tensor]) -> int:
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            function(parts, k)
        return sum(kept.values())

    kernel_bytes = 2 * 20 * k**2 * 6 * 5 * 4
    assert kept_bytes(plain) > kernel_bytes
    assert kept_bytes(lambda parts, k: predicted_dynamic_conv(*parts, k)) < kernel_bytes / 2


def test_shapes_and_cost_are_known_without_values() -> None:
    """``udc-robust models`` counts the multiply-adds on the meta device."""
    parts = random_parts(1, 4, 6, 5, 3, 0.2)
    on_meta = Parts(parts.feature.to("meta"), parts.hidden.to("meta"), parts.head.to("meta"), parts.slope.to("meta"))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert predicted_dynamic_conv(*on_meta, 3).shape == parts.feature.shape
    assert counter.get_total_flops() == 2 * (3 * 4 * 9) * (6 * 5)  # of the head; elementwise products do not count

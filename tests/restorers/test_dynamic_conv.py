from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from udc_robust.restorers.dynamic_conv import dynamic_conv, dynamic_conv_reference, predicted_dynamic_conv


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
    for function in (dynamic_conv, dynamic_conv_reference):
        out = function(*inputs, k)
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(torch.autograd.grad(out, inputs, g), expected_gradients)


@pytest.mark.parametrize(("tap", "dy", "dx"), [(0, -1, -1), (1, -1, 0), (3, 0, -1), (8, 1, 1)])
def test_tap_order(tap: int, dy: int, dx: int) -> None:
    feature = torch.arange(20.0).view(1, 1, 4, 5)
    kernels = torch.zeros(1, 9, 4, 5)
    kernels[:, tap] = 1
    assert dynamic_conv(feature, kernels, 3)[0, 0, 2, 2] == feature[0, 0, 2 + dy, 2 + dx]


def test_first_and_second_derivatives() -> None:
    feature, kernels = random_case(1, 2, 3, 4, 3)
    assert torch.autograd.gradcheck(lambda f, k: dynamic_conv(f, k, 3), (feature, kernels))
    assert torch.autograd.gradgradcheck(lambda f, k: dynamic_conv(f, k, 3), (feature, kernels))


@pytest.mark.parametrize("frozen", [0, 1])
def test_gradient_of_one_input_only(frozen: int) -> None:
    inputs = random_case(1, 2, 4, 4, 3)
    inputs[frozen].requires_grad_(False)
    free = inputs[1 - frozen]
    (found,) = torch.autograd.grad(dynamic_conv(*inputs, 3).square().sum(), free)
    (expected,) = torch.autograd.grad(by_unfold(*inputs, 3).square().sum(), free)
    torch.testing.assert_close(found, expected)


def test_mixed_precision_is_promoted() -> None:
    feature, kernels = random_case(1, 2, 4, 4, 3, torch.float32)
    out = dynamic_conv(feature, kernels.bfloat16(), 3)
    assert out.dtype == torch.float32
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(out.sum(), (feature, kernels)))


class TestPredicted:
    channels, depth, k = 20, 6, 3  # 20 channels: the last group is not full

    @pytest.fixture
    def parts(self) -> tuple[torch.Tensor, torch.Tensor, nn.Conv2d, nn.PReLU]:
        head = nn.Conv2d(self.depth, self.channels * self.k**2, 1)
        feature = torch.randn(2, self.channels, 6, 5, requires_grad=True)
        hidden = torch.randn(2, self.depth, 6, 5, requires_grad=True)
        return feature, hidden, head, nn.PReLU(init=0.2)

    def whole(self, feature: torch.Tensor, hidden: torch.Tensor, head: nn.Conv2d, activation: nn.PReLU) -> torch.Tensor:
        return dynamic_conv(feature, activation(head(hidden)), self.k)

    @pytest.mark.parametrize("grad", [False, True])
    def test_output_is_the_same_bit_for_bit(self, parts: tuple, grad: bool) -> None:
        with torch.set_grad_enabled(grad):
            assert torch.equal(predicted_dynamic_conv(*parts, self.k), self.whole(*parts))

    def test_all_gradients(self, parts: tuple) -> None:
        feature, hidden, head, activation = parts
        wanted = (feature, hidden, *head.parameters(), *activation.parameters())
        found = torch.autograd.grad(predicted_dynamic_conv(*parts, self.k).square().sum(), wanted)
        expected = torch.autograd.grad(self.whole(*parts).square().sum(), wanted)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)

    def test_second_derivatives(self, parts: tuple) -> None:
        feature, hidden, head, activation = (part.double() for part in parts)
        feature, hidden = feature[:1, :, :2, :2], hidden[:1, :, :2, :2]
        (g,) = torch.autograd.grad(
            predicted_dynamic_conv(feature, hidden, head, activation, self.k).square().sum(), hidden, create_graph=True
        )
        (e,) = torch.autograd.grad(
            self.whole(feature, hidden, head, activation).square().sum(), hidden, create_graph=True
        )
        found, expected = (torch.autograd.grad(v.square().sum(), (feature, hidden)) for v in (g, e))
        torch.testing.assert_close(found, expected)

    def test_kernels_are_not_kept_for_the_backward_pass(self, parts: tuple) -> None:
        kept: dict[int, int] = {}

        def pack(t: torch.Tensor) -> torch.Tensor:
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        def kept_bytes(function: object) -> int:
            kept.clear()
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
                function()  # type: ignore[operator]
            return sum(kept.values())

        kernel_bytes = 2 * self.channels * self.k**2 * 6 * 5 * 4
        assert kept_bytes(lambda: self.whole(*parts)) > kernel_bytes
        assert kept_bytes(lambda: predicted_dynamic_conv(*parts, self.k)) < kernel_bytes / 2

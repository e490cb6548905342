"""Per-pixel depthwise convolution with predicted kernels, as in DISCNet (Feng et al., CVPR 2021) and UDC-UNet.

Kernel maps are large (k*k floats per feature value), so nothing here keeps more than the features and the kernels, and
``predicted_dynamic_conv`` does not even keep the kernels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

# Channels whose kernels exist at the same time: 8 of 32 to 256 keep the convolutions long and the memory small.
CHANNELS_AT_ONCE = 8


def dynamic_conv(feature: torch.Tensor, kernels: torch.Tensor, kernel_size: int) -> torch.Tensor:
    """Correlate every pixel and channel with its own ``kernel_size x kernel_size`` kernel, replicating the border.

    ``out[n,c,y,x] = sum over dy,dx of kernels[n, c*k*k + dy*k + dx, y, x] * feature[n, c, y+dy-p, x+dx-p]`` with
    ``p = (k-1)/2``; kernels are neither flipped nor normalised.

    Args:
        feature: ``(B,C,H,W)``.
        kernels: ``(B,C*k*k,H,W)``.
        kernel_size: k, odd.

    Returns:
        ``(B,C,H,W)``. First and second derivatives are exact.
    """
    dtype = torch.promote_types(feature.dtype, kernels.dtype)  # under autocast only one of them may be half precision
    return _DynamicConv.apply(feature.to(dtype), kernels.to(dtype), kernel_size)


def dynamic_conv_reference(feature: torch.Tensor, kernels: torch.Tensor, kernel_size: int) -> torch.Tensor:
    """``dynamic_conv`` in plain torch operations: slower, keeps every product for the backward pass."""
    views = _shifted(_pad(feature, kernel_size), kernel_size)
    taps = _taps(kernels, kernel_size).unbind(dim=2)  # indexing would write a full-size zero map per tap backwards
    return functools.reduce(torch.add, (view * tap for view, tap in zip(views, taps, strict=True)))


def predicted_dynamic_conv(
    feature: torch.Tensor,
    hidden: torch.Tensor,
    head: nn.Conv2d,
    activation: Callable[[torch.Tensor], torch.Tensor],
    kernel_size: int,
) -> torch.Tensor:
    """``dynamic_conv`` with the kernels ``activation(head(hidden))``, a few channels at a time.

    The whole kernel map never exists: its channels depend on separate rows of the 1x1 convolution ``head``, so each
    group is computed, used and dropped, and computed again in the backward pass. The output is the same bit for bit.

    Args:
        feature: ``(B,C,H,W)``.
        hidden: ``(B,D,H,W)``, the input of ``head``.
        head: 1x1 convolution with bias from D to C*k*k channels; its weights are read, forward hooks are not run.
        activation: elementwise and the same for all channels.
        kernel_size: k, odd.

    Returns:
        ``(B,C,H,W)``.
    """
    taps = kernel_size * kernel_size
    assert head.bias is not None

    def group(v: torch.Tensor, h: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return dynamic_conv(v, activation(F.conv2d(h, weight, bias)), kernel_size)

    outputs = []
    for start in range(0, feature.shape[1], CHANNELS_AT_ONCE):
        stop = start + CHANNELS_AT_ONCE
        rows = slice(start * taps, stop * taps)
        arguments = (feature[:, start:stop], hidden, head.weight[rows], head.bias[rows])
        if torch.is_grad_enabled():
            outputs.append(checkpoint(group, *arguments, use_reentrant=False, preserve_rng_state=False))
        else:
            outputs.append(group(*arguments))
    return torch.cat(outputs, dim=1)


def _pad(feature: torch.Tensor, kernel_size: int) -> torch.Tensor:
    return F.pad(feature, (kernel_size // 2,) * 4, mode="replicate")


def _taps(kernels: torch.Tensor, kernel_size: int) -> torch.Tensor:
    """View ``(B,C*k*k,H,W)`` as ``(B,C,k*k,H,W)``."""
    return kernels.unflatten(1, (-1, kernel_size * kernel_size))


def _shifted(padded: torch.Tensor, kernel_size: int) -> Iterator[torch.Tensor]:
    """The k*k views of the padded map that lie under the taps, row by row."""
    height, width = padded.shape[-2] - kernel_size + 1, padded.shape[-1] - kernel_size + 1
    for dy in range(kernel_size):
        for dx in range(kernel_size):
            yield padded[..., dy : dy + height, dx : dx + width]


def _fold_border(padded: torch.Tensor, p: int) -> torch.Tensor:
    """Transpose of the replicate padding: add each border to the pixel it was copied from. Overwrites ``padded``."""
    if p == 0:
        return padded
    padded[..., p, :] += padded[..., :p, :].sum(-2)
    padded[..., -p - 1, :] += padded[..., -p:, :].sum(-2)
    padded[..., p] += padded[..., :p].sum(-1)
    padded[..., -p - 1] += padded[..., -p:].sum(-1)
    return padded[..., p:-p, p:-p]


class _DynamicConv(torch.autograd.Function):
    """Keeps the features and the kernels only, and adds the taps up in place."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, feature: torch.Tensor, kernels: torch.Tensor, kernel_size: int
    ) -> torch.Tensor:
        ctx.save_for_backward(feature, kernels)
        ctx.kernel_size = kernel_size  # type: ignore[attr-defined]
        taps = _taps(kernels, kernel_size)
        out = torch.zeros_like(feature)
        for t, view in enumerate(_shifted(_pad(feature, kernel_size), kernel_size)):
            out.addcmul_(view, taps[:, :, t])
        return out

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, g: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        feature, kernels = ctx.saved_tensors  # type: ignore[attr-defined]
        wants_feature, wants_kernels, _ = ctx.needs_input_grad  # type: ignore[attr-defined]
        size: int = ctx.kernel_size  # type: ignore[attr-defined]
        if torch.is_grad_enabled():  # create_graph: the gradient itself will be differentiated
            return _differentiable_gradients(feature, kernels, g, size, wants_feature, wants_kernels)
        taps, padded = _taps(kernels, size), _pad(feature, size)
        grad_kernels = torch.empty_like(kernels) if wants_kernels else None
        if grad_kernels is not None:
            grad_taps = _taps(grad_kernels, size)
            for t, view in enumerate(_shifted(padded, size)):
                torch.mul(g, view, out=grad_taps[:, :, t])
        if not wants_feature:
            return None, grad_kernels, None
        grad_padded = torch.zeros_like(padded)
        for t, view in enumerate(_shifted(grad_padded, size)):
            view.addcmul_(g, taps[:, :, t])
        return _fold_border(grad_padded, size // 2), grad_kernels, None


def _differentiable_gradients(
    feature: torch.Tensor, kernels: torch.Tensor, g: torch.Tensor, size: int, wants_feature: bool, wants_kernels: bool
) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
    wanted = [t for t, wants in ((feature, wants_feature), (kernels, wants_kernels)) if wants]
    found = iter(torch.autograd.grad(dynamic_conv_reference(feature, kernels, size), wanted, g, create_graph=True))
    return next(found) if wants_feature else None, next(found) if wants_kernels else None, None

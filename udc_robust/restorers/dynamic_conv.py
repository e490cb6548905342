"""Per-pixel depthwise convolution with predicted kernels, as in DISCNet (Feng et al., CVPR 2021) and UDC-UNet.

Kernel maps are large (k*k floats per feature value): a network that writes one out spends its time on memory traffic.
So ``predicted_dynamic_conv`` makes the kernels of a few rows, uses them while they are in the cache, and drops them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import nn

# Size of the kernels that exist at the same time. On a CPU they and their gradient stay in the cache; one row at least.
CPU_BLOCK_BYTES = 3 * 2**20
GPU_BLOCK_BYTES = 256 * 2**20


def dynamic_conv(feature: torch.Tensor, kernels: torch.Tensor, kernel_size: int) -> torch.Tensor:
    """Correlate every pixel and channel with its own ``kernel_size x kernel_size`` kernel, replicating the border.

    ``out[n,c,y,x] = sum over dy,dx of kernels[n, c*k*k + dy*k + dx, y, x] * feature[n, c, y+dy-p, x+dx-p]`` with
    ``p = (k-1)/2``; kernels are neither flipped nor normalised. The plain form: it keeps every product.

    Args:
        feature: ``(B,C,H,W)``.
        kernels: ``(B,C*k*k,H,W)``.
        kernel_size: k, odd.

    Returns:
        ``(B,C,H,W)``.
    """
    windows = _windows(_pad(feature, kernel_size), kernel_size)
    return (windows * kernels.unflatten(1, windows.shape[1:4])).sum((2, 3))


def predicted_dynamic_conv(
    feature: torch.Tensor, hidden: torch.Tensor, head: nn.Conv2d, slope: torch.Tensor | None, kernel_size: int
) -> torch.Tensor:
    """``dynamic_conv`` with the kernels ``head(hidden)`` or ``prelu(head(hidden), slope)``, a few rows at a time.

    Only feature and hidden are kept for the backward pass, which predicts the kernels again. Computed in the widest
    type among the arguments, under autocast too.

    Args:
        feature: ``(B,C,H,W)``.
        hidden: ``(B,D,H,W)``, the input of ``head``.
        head: 1x1 convolution with bias from D to C*k*k channels; its weights are read, forward hooks are not run.
        slope: ``(1,)``, what a PReLU multiplies negative values by; None: no activation.
        kernel_size: k, odd.

    Returns:
        ``(B,C,H,W)``. First and second derivatives are exact; the second ones keep the whole kernel map.
    """
    assert head.bias is not None
    tensors = (feature, hidden, head.weight.flatten(1), head.bias, *(() if slope is None else (slope,)))
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in tensors))
    with _without_autocast(feature.device.type):
        return _PredictedDynamicConv.apply(kernel_size, *(t.to(dtype) for t in tensors))


def _without_autocast(device_type: str) -> AbstractContextManager[object]:
    known = torch.amp.is_autocast_available(device_type)  # not on the meta device, where shapes and costs are found
    return torch.autocast(device_type, enabled=False) if known else nullcontext()


def _pad(feature: torch.Tensor, kernel_size: int) -> torch.Tensor:
    return F.pad(feature, (kernel_size // 2,) * 4, mode="replicate")


def _windows(padded: torch.Tensor, kernel_size: int) -> torch.Tensor:
    """View ``(B,C,H+k-1,W+k-1)`` as ``(B,C,k,k,H,W)``: what lies under each tap."""
    return padded.unfold(2, kernel_size, 1).unfold(3, kernel_size, 1).permute(0, 1, 4, 5, 2, 3)


def _fold_border(padded: torch.Tensor, p: int) -> torch.Tensor:
    """Transpose of the replicate padding: add each border to the pixel it was copied from. Overwrites ``padded``."""
    if p == 0:
        return padded
    padded[..., p, :] += padded[..., :p, :].sum(-2)
    padded[..., -p - 1, :] += padded[..., -p:, :].sum(-2)
    padded[..., p] += padded[..., :p].sum(-1)
    padded[..., -p - 1] += padded[..., -p:].sum(-1)
    return padded[..., p:-p, p:-p]


def _blocks(feature: torch.Tensor, kernel_size: int) -> Iterator[tuple[int, slice, slice]]:
    """Image, rows, the same rows in a flattened map. Images stay apart: a batch gives what its images give alone."""
    batch, channels, height, width = feature.shape
    row_bytes = channels * kernel_size**2 * width * feature.element_size()
    step = max(1, (CPU_BLOCK_BYTES if feature.device.type == "cpu" else GPU_BLOCK_BYTES) // row_bytes)
    for image, top in itertools.product(range(batch), range(0, height, step)):
        bottom = min(top + step, height)
        yield image, slice(top, bottom), slice(top * width, bottom * width)


class _PredictedDynamicConv(torch.autograd.Function):
    """Takes the kernel size, feature, hidden, the head's weight ``(C*k*k,D)`` and bias, and the slope if any."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, kernel_size: int, *tensors: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*tensors)
        ctx.kernel_size = kernel_size  # type: ignore[attr-defined]
        feature, hidden, weight, bias, *slope = tensors
        windows, pixels = _windows(_pad(feature, kernel_size), kernel_size), hidden.flatten(2)
        out = torch.empty_like(feature, memory_format=torch.contiguous_format)
        for image, rows, columns in _blocks(feature, kernel_size):
            kernels = _activated(torch.addmm(bias[:, None], weight, pixels[image, :, columns]), slope)
            under = windows[image, :, :, :, rows]
            torch.sum(kernels.view(under.shape).mul_(under), (1, 2), out=out[image, :, rows])
        return out

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        tensors: tuple[torch.Tensor, ...] = ctx.saved_tensors  # type: ignore[attr-defined]
        size: int = ctx.kernel_size  # type: ignore[attr-defined]
        wants: tuple[bool, ...] = ctx.needs_input_grad[1:]  # type: ignore[attr-defined]
        # create_graph: the gradient itself will be differentiated
        gradients = _differentiable_gradients if torch.is_grad_enabled() else _gradients
        with _without_autocast(g.device.type):
            return None, *gradients(size, tensors, g, wants)


def _activated(kernels: torch.Tensor, slope: list[torch.Tensor]) -> torch.Tensor:
    return F.prelu(kernels, slope[0]) if slope else kernels


def _gradients(
    size: int, tensors: tuple[torch.Tensor, ...], g: torch.Tensor, wants: tuple[bool, ...]
) -> list[torch.Tensor | None]:
    """Gradients of ``tensors`` (those of ``_PredictedDynamicConv``) where ``wants``, given that of the output."""
    feature, hidden, weight, bias, *slope = tensors
    padded, pixels = _pad(feature, size), hidden.flatten(2)
    windows, grad_padded = _windows(padded, size), torch.zeros_like(padded)
    grad_windows = _windows(grad_padded, size)
    grad_pixels, grad_weight, grad_bias = (torch.zeros_like(t) for t in (pixels, weight, bias))
    grad_slope = [torch.zeros_like(s) for s in slope]
    for image, rows, columns in _blocks(feature, size):
        linear = torch.addmm(bias[:, None], weight, pixels[image, :, columns])
        under, g_rows = windows[image, :, :, :, rows], g[image, :, rows]
        if wants[0]:
            taps = _activated(linear, slope).view(under.shape)
            for dy, dx in itertools.product(range(size), repeat=2):
                grad_windows[image, :, dy, dx, rows].addcmul_(g_rows, taps[:, dy, dx])
        if not any(wants[1:]):
            continue
        grad = torch.empty_like(linear)
        torch.mul(under, g_rows[:, None, None], out=grad.view(under.shape))
        if slope and wants[4]:
            grad_slope[0] += (grad * linear.clamp(max=0)).sum()
        if slope:  # one slope for all makes a PReLU a leaky ReLU, whose derivative takes a sixth of the time
            grad = torch.ops.aten.leaky_relu_backward(grad, linear, slope[0].item(), False)
        if wants[1]:
            grad_pixels[image, :, columns] = weight.t() @ grad  # not out=: MKL's last bit depends on the address
        if wants[2]:
            grad_weight.addmm_(grad, pixels[image, :, columns].t())
        if wants[3]:
            grad_bias += grad.sum(1)
    found = (_fold_border(grad_padded, size // 2), grad_pixels.view_as(hidden), grad_weight, grad_bias, *grad_slope)
    return [gradient if wanted else None for gradient, wanted in zip(found, wants, strict=True)]


def _differentiable_gradients(
    size: int, tensors: tuple[torch.Tensor, ...], g: torch.Tensor, wants: tuple[bool, ...]
) -> list[torch.Tensor | None]:
    """The same, as functions of ``tensors`` and ``g``."""
    feature, hidden, weight, bias, *slope = tensors
    out = dynamic_conv(feature, _activated(F.conv2d(hidden, weight[..., None, None], bias), slope), size)
    wanted = [t for t, wants_it in zip(tensors, wants, strict=True) if wants_it]
    found = iter(torch.autograd.grad(out, wanted, g, create_graph=True))
    return [next(found) if wants_it else None for wants_it in wants]

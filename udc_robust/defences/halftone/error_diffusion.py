"""Error diffusion: each pixel takes the nearest level, and what is left over goes to neighbours not yet visited.

A pixel needs only pixels left of it and in the rows above, so all pixels with the same ``column + slope * row`` are
independent of each other: they are computed at once, in all rows, images and channels. Serpentine order has no such
wavefront; there, only images and channels run together.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Kernel = tuple[tuple[int, int, float], ...]
"""``(rows down, columns right, weight)``: where a pixel's error goes when rows are walked from left to right."""


# Planes done together: enough that the interpreter's time does not count, few enough for the processor's cache.
_BLOCK = 256


def _kernel(divisor: int, *rows: Mapping[int, int]) -> Kernel:
    """Weights by rows down and columns right, in the order in which a pixel receives them: oldest source first."""
    entries = ((down, right, weight / divisor) for down, row in enumerate(rows) for right, weight in row.items())
    return tuple(sorted(entries, reverse=True))


def _row(first: int, *weights: int) -> dict[int, int]:
    return {first + i: weight for i, weight in enumerate(weights)}


KERNELS: dict[str, Kernel] = {
    "floyd_steinberg": _kernel(16, _row(1, 7), _row(-1, 3, 5, 1)),
    "jarvis_judice_ninke": _kernel(48, _row(1, 7, 5), _row(-2, 3, 5, 7, 5, 3), _row(-2, 1, 3, 5, 3, 1)),
    "stucki": _kernel(42, _row(1, 8, 4), _row(-2, 2, 4, 8, 4, 2), _row(-2, 1, 2, 4, 2, 1)),
    "sierra": _kernel(32, _row(1, 5, 3), _row(-2, 2, 4, 5, 4, 2), _row(-1, 2, 3, 2)),
    "burkes": _kernel(32, _row(1, 8, 4), _row(-2, 2, 4, 8, 4, 2)),
    # Only 6/8 of the error is handed on: contrast rises, tones are not kept.
    "atkinson": _kernel(8, _row(1, 1, 1), _row(-1, 1, 1, 1), _row(0, 1)),
}


def nearest_level(v: Tensor, levels: int, out: Tensor | None = None) -> Tensor:
    """The nearest of ``levels`` equal levels of [0,1], ties up; values beyond take the end."""
    if levels == 2:
        return torch.ge(v, 0.5, out=torch.empty_like(v) if out is None else out)
    steps = levels - 1
    return torch.mul(v, steps, out=out).add_(0.5).floor_().clamp_(0, steps).div_(steps)


@torch.no_grad()
def error_diffusion(x: Tensor, kernel: Kernel, levels: int = 2, *, serpentine: bool = False) -> Tensor:
    """Halftone ``(B,C,H,W)`` images in [0,1], each channel alone; errors that leave the image are dropped.

    Serpentine order turns round at every row, with the kernel mirrored in rows 1, 3, 5, ... Pillow's Floyd-Steinberg
    (``convert("1")``) is the same walk on 8-bit values, but it drops fractions of the error, clips each value to
    0..255 and sets a dot from 129 on: tones agree, the texture does not.
    """
    height, width = x.shape[-2:]
    pixels = x.reshape(-1, height * width)
    output = torch.empty_like(pixels)
    walk = _serpentine if serpentine else _wavefront
    block = len(pixels) if serpentine else _BLOCK
    for start in range(0, len(pixels), block):
        # Planes last: whatever is computed at once then lies in runs of as many numbers as there are planes.
        planes = pixels[start : start + block].t().clone(memory_format=torch.contiguous_format)
        walk(planes, height, width, kernel, levels)
        output[start : start + block] = planes.t()
    return output.view(x.shape)


def slope_of(kernel: Kernel) -> int:
    """The smallest slope for which everything that reaches a pixel comes from an earlier ``column + slope * row``."""
    return max(-((right - 1) // down) for down, right, _ in kernel if down)


def _wavefront(planes: Tensor, height: int, width: int, kernel: Kernel, levels: int) -> None:
    """Raster order on ``(height * width, planes)``, in place: a pixel is read once, before its dot is written."""
    slope, count = slope_of(kernel), planes.shape[1]
    above = max(down for down, _, _ in kernel)
    lags = [slope * down + right for down, right, _ in kernel]
    # The errors of the last fronts, with rows of zeros above the image; nothing older can be asked for.
    errors = planes.new_zeros(max(lags) + 1, above + height, count)
    values, dots = planes.new_empty(2, height, count)
    stride = (max(width - slope, 0) * count, 1)  # in an image narrower than the slope, a front is one pixel
    for front in range(width + slope * (height - 1)):
        first, last = max(0, -((width - 1 - front) // slope)), min(height - 1, front // slope)
        now = errors[front % len(errors)]
        # Rows that have just ended still hold errors of an older front, where there is no pixel any more.
        now[max(0, above + first - len(errors)) : above + first].zero_()
        if first > last:
            continue
        rows = last + 1 - first
        here = planes.as_strided((rows, count), stride, (first * width + front - slope * first) * count)
        v, q, sum_so_far = values[:rows], dots[:rows], here
        for (down, _, weight), lag in zip(kernel, lags, strict=True):
            source = errors[(front - lag) % len(errors)][above + first - down : above + last + 1 - down]
            sum_so_far = torch.add(sum_so_far, source, alpha=weight, out=v)
        here.copy_(nearest_level(v, levels, out=q))
        torch.sub(v, q, out=now[above + first : above + last + 1])


def _serpentine(planes: Tensor, height: int, width: int, kernel: Kernel, levels: int) -> None:
    """Pixel after pixel on ``(height * width, planes)``, in place; rows above are taken in at once."""
    margin, count = 2, planes.shape[1]
    above = max(down for down, _, _ in kernel)
    errors = planes.new_zeros(above + height, width + 2 * margin, count)
    v = planes.new_empty(width, count)
    for row, dots in enumerate(planes.view(height, width, count)):
        v.copy_(dots)
        for down, right, weight in kernel:
            if down:
                mirrored = -right if (row - down) % 2 else right
                v.add_(errors[above + row - down, margin - mirrored : margin - mirrored + width], alpha=weight)
        forward = 1 if row % 2 == 0 else -1
        current = errors[above + row]
        ahead = [(right * forward, weight) for down, right, weight in kernel if not down]
        for column in range(width)[::forward]:
            for right, weight in ahead:
                v[column].add_(current[margin + column - right], alpha=weight)
            nearest_level(v[column], levels, out=dots[column])
            torch.sub(v[column], dots[column], out=current[margin + column])


def soft_error_diffusion(x: Tensor, kernel: Kernel, levels: int = 2, sharpness: float = 10.0) -> Tensor:
    """Error diffusion with a sigmoid in place of each threshold: differentiable, for small images.

    Raster order. Autograd keeps every front: about ``slope`` times 10 tensors of the images' size.

    Args:
        x: images ``(B,C,H,W)``.
        sharpness: slope parameter of the sigmoids, for levels one apart.
    """
    batch, channels, height, width = x.shape
    slope = slope_of(kernel)
    rows = torch.arange(height, device=x.device)
    fronts = torch.arange(width + slope * (height - 1), device=x.device)
    columns = fronts[:, None] - slope * rows
    inside = ((columns >= 0) & (columns < width)).to(x.dtype)[..., None]
    planes = x.reshape(batch * channels, height, width).permute(1, 2, 0)
    skewed = planes[rows, columns.clamp(0, width - 1)]
    thresholds = torch.arange(levels - 1, device=x.device, dtype=x.dtype) + 0.5
    errors: list[Tensor] = []
    answers = []
    for front in range(len(fronts)):
        v = skewed[front]
        for down, right, weight in kernel:
            lag = slope * down + right
            if lag <= front:
                v = v + weight * F.pad(errors[front - lag], (0, 0, down, 0))[:height]
        q = torch.sigmoid(sharpness * ((levels - 1) * v[..., None] - thresholds)).sum(-1) / (levels - 1)
        errors.append((v - q) * inside[front])
        answers.append(q)
    across = torch.arange(width, device=x.device)
    straight = torch.stack(answers)[across + slope * rows[:, None], rows[:, None]]
    return straight.permute(2, 0, 1).reshape(x.shape)

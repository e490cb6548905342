"""The figures of one image: quality of the restoration, and what the attack did to it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from udc_robust import metrics
from udc_robust.attacks import Result, Streams, Threat
from udc_robust.restorers.light import convert

Lpips = Callable[[Tensor, Tensor], Tensor] | None


def for_metrics(x: Tensor, domain: str) -> Tensor:
    """Linear light is tone-mapped before it is measured, as the UDC literature does; other domains stay."""
    return convert(x, domain, "tonemapped") if domain == "linear" else x


def quality(output: Tensor, reference: Tensor, lpips: Lpips) -> dict[str, list[float | None]]:
    """PSNR, SSIM, MS-SSIM, GMSD and LPIPS of each image; None where it cannot be had."""
    a, b = output.double(), reference.double()
    figures: dict[str, list[float | None]] = {"psnr": metrics.psnr(a, b).tolist()}
    small = min(a.shape[-2:]) < 11
    for name, measure in (("ssim", metrics.ssim), ("ms_ssim", metrics.ms_ssim), ("gmsd", metrics.gmsd)):
        figures[name] = [None] * len(a) if small else measure(a, b).tolist()
    # AlexNet's pooling needs 32 pixels.
    figures["lpips"] = lpips(output, reference).tolist() if lpips and min(a.shape[-2:]) >= 32 else [None] * len(a)
    return figures


@torch.no_grad()
def same_norm_noise(
    victim: Callable[[Tensor], Tensor], x: Tensor, result: Result, threat: Threat, seeds: list[int]
) -> Tensor:
    """The victim's answer to random noise of each image's own attack norm: what is not adversarial about a drop."""
    distances = result.linf if threat.norm == "linf" else result.l2
    noisy = [
        type(threat)(float(distance), threat.low, threat.high).noise(x[i : i + 1], Streams([seeds[i]]))
        for i, distance in enumerate(distances)
    ]
    return victim(torch.cat(noisy))

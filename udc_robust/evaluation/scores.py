"""The figures of one image: quality of the restoration, and what the attack did to it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from udc_robust import metrics
from udc_robust.attacks import Result, Streams, Threat, Victim, answers
from udc_robust.optics.domains import convert

Lpips = Callable[[Tensor, Tensor], Tensor] | None


def for_metrics(x: Tensor, domain: str) -> Tensor:
    """Linear light is tone-mapped before it is measured, as the UDC literature does; other domains stay."""
    return convert(x, domain, "tonemapped") if domain == "linear" else x


def quality(outputs: Tensor, reference: Tensor, lpips: Lpips) -> dict[str, list[float | None]]:
    """PSNR, SSIM, MS-SSIM, GMSD and LPIPS of each image, the mean over a random victim's draws; None: cannot be had.

    ``psnr_worst_draw`` is the worst of the draws (the attacker may submit again), ``psnr_average`` the PSNR of the
    average of the restored images (the defender may average), ``psnr_draw_std`` the spread; for one draw they are
    the PSNR itself, itself, and 0.

    Args:
        outputs: ``(draws,B,3,H,W)``.
        reference: ``(B,3,H,W)``, or ``(draws,B,3,H,W)`` to compare draw by draw.
    """
    if reference.ndim == 4:
        reference = reference.expand_as(outputs)
    psnrs = draws_psnr(outputs, reference)
    figures: dict[str, list[float | None]] = {
        "psnr": psnrs.mean(0).tolist(),
        "psnr_worst_draw": psnrs.amin(0).tolist(),
        "psnr_average": draws_psnr(outputs.mean(0)[None], reference.mean(0)[None])[0].tolist(),
        "psnr_draw_std": (psnrs.std(0, correction=0) if len(psnrs) > 1 else torch.zeros_like(psnrs[0])).tolist(),
    }
    side, batch = min(outputs.shape[-2:]), outputs.shape[1]
    pairs = list(zip(outputs.double(), reference.double(), strict=True))
    for name, measure in (("ssim", metrics.ssim), ("ms_ssim", metrics.ms_ssim), ("gmsd", metrics.gmsd)):
        small = side < 11
        figures[name] = [None] * batch if small else torch.stack([measure(a, b) for a, b in pairs]).mean(0).tolist()
    # AlexNet's pooling needs 32 pixels.
    figures["lpips"] = (
        torch.stack([lpips(a, b) for a, b in zip(outputs, reference, strict=True)]).mean(0).tolist()
        if lpips and side >= 32
        else [None] * batch
    )
    return figures


def draws_psnr(outputs: Tensor, reference: Tensor) -> Tensor:
    """PSNR ``(draws,B)`` in dB of ``(draws,B,3,H,W)`` against a reference that broadcasts to it."""
    reference = reference.expand_as(outputs)
    return torch.stack([metrics.psnr(a.double(), b.double()) for a, b in zip(outputs, reference, strict=True)])


@torch.no_grad()
def same_norm_noise(
    victim: Victim, x: Tensor, result: Result, threat: Threat, seeds: list[int], judge_seeds: list[int], draws: int
) -> Tensor:
    """Answers ``(draws,B,...)`` to noise of each image's own attack norm: what is not adversarial about a drop."""
    distances = result.linf if threat.norm == "linf" else result.l2
    noisy = [
        type(threat)(float(distance), threat.low, threat.high).noise(x[i : i + 1], Streams([seeds[i]]))
        for i, distance in enumerate(distances)
    ]
    return answers(victim, torch.cat(noisy), judge_seeds, draws)

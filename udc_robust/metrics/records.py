"""The figures of restorations and of classifications, as records."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from udc_robust.metrics.accuracy_curve import top_k_correct
from udc_robust.metrics.fidelity import gmsd, ms_ssim, psnr, ssim
from udc_robust.metrics.metric import Metric, Scale, not_measured
from udc_robust.metrics.perceptual import BACKBONES, load_lpips, lpips_distance


def _top(k: int) -> Metric:
    def measure(scores: Tensor, labels: Tensor) -> Tensor:
        return top_k_correct(scores, labels, k).double()

    words = "Share of images whose label is the best score" if k == 1 else f"... is among the {k} best scores"
    scale = Scale(small=2.0, large=3.0, nothing=5.0, same_cost=1.0)
    return Metric(
        f"top{k}", measure, digits=0, label=f"Top-{k}", unit="%", factor=100.0, words=f"{words}.", scale=scale
    )


PSNR = Metric(
    "psnr", psnr, digits=2, label="PSNR", unit="dB",
    words="-10 log10 of the mean squared error over RGB values in [0,1], no border cropped; higher is better.",
    # Of a restoration nothing but a constant image is left at about 10 dB.
    scale=Scale(small=0.1, large=0.2, nothing=12.0, same_cost=0.1),
)  # fmt: skip
SSIM = Metric(
    "ssim", ssim, smallest_side=11, label="SSIM",
    words="Structural similarity, 11 x 11 Gaussian window of sigma 1.5, mean over channels; 1 is best.",
    scale=Scale(small=0.005, large=0.01, nothing=0.3, same_cost=0.005),
)  # fmt: skip
MS_SSIM = Metric(
    "ms_ssim", ms_ssim, smallest_side=11, label="MS-SSIM",
    words="SSIM over up to five scales. Images under 176 px use fewer, so sizes must not be compared.",
    scale=Scale(small=0.005, large=0.01, same_cost=0.005),
)  # fmt: skip
GMSD = Metric(
    "gmsd", gmsd, higher_is_better=False, digits=4, smallest_side=11, label="GMSD",
    words="Deviation of the gradient-magnitude similarity of luminance; 0 is best.",
    scale=Scale(small=0.002, large=0.005, same_cost=0.002),
)  # fmt: skip
TOP1, TOP5 = _top(1), _top(5)


LPIPS = {
    backbone: Metric(
        f"lpips_{backbone}", not_measured, higher_is_better=False, smallest_side=32, label=f"LPIPS ({name})",
        words=f"Learned perceptual distance, from the lpips package, by the features of {name}; 0 is best.",
        scale=Scale(small=0.01, large=0.02, same_cost=0.01), learned=True,
    )
    for backbone, name in BACKBONES.items()
}  # fmt: skip
"""What reports know of LPIPS without loading it, by backbone."""

BESIDE = {metric.name: metric for metric in (SSIM, MS_SSIM, GMSD, *LPIPS.values(), TOP5)}
"""Figures beside a task's quality, by column."""


def lpips(backbone: str, device: str | torch.device) -> Metric:
    """LPIPS with one backbone, whose pooling needs 32 pixels.

    Raises:
        LpipsUnavailable: its weights cannot be had.
    """
    network = load_lpips(backbone, device)

    @torch.no_grad()
    def measure(output: Tensor, target: Tensor) -> Tensor:
        return lpips_distance(network, output.float(), target.float())

    return replace(LPIPS[backbone], measure=measure)

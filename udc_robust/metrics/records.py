"""The figures of restorations and of classifications, as records."""

from __future__ import annotations

import torch
from torch import Tensor

from udc_robust.metrics.accuracy_curve import top_k_correct
from udc_robust.metrics.fidelity import gmsd, ms_ssim, psnr, ssim
from udc_robust.metrics.metric import Metric
from udc_robust.metrics.perceptual import load_lpips, lpips_distance


def _top(k: int) -> Metric:
    def measure(scores: Tensor, labels: Tensor) -> Tensor:
        return top_k_correct(scores, labels, k).double()

    words = "Share of images whose label is the best score" if k == 1 else f"... is among the {k} best scores"
    return Metric(f"top{k}", measure, digits=0, label=f"Top-{k}", unit="%", factor=100.0, words=f"{words}.")


PSNR = Metric(
    "psnr", psnr, digits=2, label="PSNR", unit="dB",
    words="-10 log10 of the mean squared error over RGB values in [0,1], no border cropped; higher is better.",
)  # fmt: skip
SSIM = Metric(
    "ssim", ssim, smallest_side=11, label="SSIM",
    words="Structural similarity, 11 x 11 Gaussian window of sigma 1.5, mean over channels; 1 is best.",
)  # fmt: skip
MS_SSIM = Metric(
    "ms_ssim", ms_ssim, smallest_side=11, label="MS-SSIM",
    words="SSIM over up to five scales. Images under 176 px use fewer, so sizes must not be compared.",
)  # fmt: skip
GMSD = Metric(
    "gmsd", gmsd, higher_is_better=False, digits=4, smallest_side=11, label="GMSD",
    words="Deviation of the gradient-magnitude similarity of luminance; 0 is best.",
)  # fmt: skip
TOP1, TOP5 = _top(1), _top(5)


def lpips(backbone: str, device: str | torch.device) -> Metric:
    """LPIPS with one backbone, whose pooling needs 32 pixels.

    Raises:
        LpipsUnavailable: its weights cannot be had.
    """
    network = load_lpips(backbone, device)

    @torch.no_grad()
    def measure(output: Tensor, target: Tensor) -> Tensor:
        return lpips_distance(network, output.float(), target.float())

    return LPIPS.using(measure, f"{LPIPS.words} Backbone: {backbone}.")


def _not_loaded(output: Tensor, target: Tensor) -> Tensor:
    raise RuntimeError("LPIPS is measured by `records.lpips`, with a backbone")


LPIPS = Metric(
    "lpips", _not_loaded, higher_is_better=False, smallest_side=32, label="LPIPS",
    words="Learned perceptual distance, from the lpips package; 0 is best.",
)  # fmt: skip
"""What reports know of LPIPS without loading it."""

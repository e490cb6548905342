"""Image quality measures, one number per image."""

from udc_robust.metrics.fidelity import gmsd, ms_ssim, mse, psnr, ssim
from udc_robust.metrics.metric import Metric
from udc_robust.metrics.perceptual import BACKBONES, LpipsUnavailable, load_lpips, lpips_distance

__all__ = [
    "BACKBONES", "LpipsUnavailable", "Metric", "gmsd", "load_lpips", "lpips_distance", "ms_ssim", "mse", "psnr", "ssim",
]  # fmt: skip

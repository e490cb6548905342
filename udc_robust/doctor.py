"""What this machine has and lacks, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil

import psutil
import torch

import udc_robust
from udc_robust.metrics.perceptual import BACKBONES, MEGABYTES, weights_file
from udc_robust.progress import plain_console
from udc_robust.restorers.zoo import shipped_checkpoints
from udc_robust.training.precision import has_bfloat16

PACKAGES = (
    "torch", "torchvision", "diffusers", "basicsr", "lpips", "kornia", "accelerate", "numpy", "scikit-image",
    "opencv-python", "pydantic",
)  # fmt: skip


def print_findings() -> None:
    """Print versions, devices, weights and tools, each with the fix where something is missing."""
    console = plain_console()
    console.print(f"udc_robust {udc_robust.__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name in PACKAGES:
        console.print(f"  {name} {_version(name)}")
    memory = psutil.virtual_memory()
    half = "has bfloat16" if has_bfloat16() else "no bfloat16: trainings that ask for it run in float32"
    console.print(f"processor: {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads; {half}")
    console.print(f"memory: {memory.available / 2**30:.1f} GiB free of {memory.total / 2**30:.1f}")
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            console.print(f"GPU {i}: {torch.cuda.get_device_name(i)}: use it with `device: cuda:{i}`")
    else:
        console.print("GPU: none that torch can use; everything runs on the CPU, which is the default")
    console.print("shipped checkpoints: " + (", ".join(shipped_checkpoints()) or "none found"))
    for backbone in BACKBONES:
        path = weights_file(backbone)
        mend = "" if path.is_file() else f": `udc-robust doctor --fix-lpips {backbone}` ({MEGABYTES[backbone]} MB)"
        console.print(f"LPIPS {backbone} backbone: {'present' if path.is_file() else 'absent'} ({path}){mend}")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    console.print(f"Chromium, for the browser test of the report: {browser or 'absent (the test skips)'}")
    console.print(f"free disk here: {shutil.disk_usage('.').free / 2**30:.1f} GiB")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing: install the project again (`pip install -e .`)"

"""How well the inverse stages make pictures of Floyd-Steinberg dots again: mean PSNR and SSIM over a folder of images.

Blur and total variation take the strength that does best on these very images, so the learned inverse, which must not
have seen them, is compared with the best that they could do. Prints a Markdown table.

Example: python scripts/bench_inverse_halftone.py runs/sets/validation/gt
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from udc_robust.data.images import list_images, read_image
from udc_robust.defences.registry import build_defence
from udc_robust.metrics import psnr, ssim

SIGMAS = (0.8, 1.0, 1.2, 1.5, 2.0)
WEIGHTS = (0.1, 0.2, 0.3, 0.5, 0.8)
INVERSES: dict[str, list[dict[str, Any]]] = {
    "none": [{}],
    "blur": [{"sigma": sigma} for sigma in SIGMAS],
    "tv": [{"weight": weight} for weight in WEIGHTS],
    "learned": [{}],
}


@torch.no_grad()
def quality(images: Sequence[Tensor], inverse: str, options: dict[str, Any]) -> tuple[float, float]:
    """Mean PSNR in dB and SSIM of images ``(1,3,H,W)`` after halftone and inverse, clamped."""
    halftone = build_defence("halftone", {"inverse": inverse, **options})
    made = [(halftone(x, x.new_empty(1, 0)).clamp(0, 1).double(), x.double()) for x in images]
    return fmean(float(psnr(*pair)) for pair in made), fmean(float(ssim(*pair)) for pair in made)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="images that the learned inverse was not trained on")
    parser.add_argument("--limit", type=int, help="use the first so many")
    arguments = parser.parse_args()
    images = [read_image(path).pixels[None] for path in list_images(arguments.folder)[: arguments.limit]]
    print("| inverse | PSNR (dB) | SSIM |\n|---|---|---|")
    for inverse, candidates in INVERSES.items():
        found = [(*quality(images, inverse, options), options) for options in candidates]
        best = max(found, key=lambda one: one[0])
        told = "".join(f", {name} {value:g}" for name, value in best[2].items())
        print(f"| {inverse}{told} | {best[0]:.2f} | {best[1]:.4f} |", flush=True)


if __name__ == "__main__":
    main()

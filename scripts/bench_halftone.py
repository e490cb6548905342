"""Speed of error diffusion, as ratios measured in one run.

Against Pillow's C code (``Image.convert("1")``, looped over images and channels) and a plain Python loop over pixels,
which is timed on a strip and scaled up. Pillow knows Floyd-Steinberg only. Times are those of the processor, so that
other programs on the machine do not count; with several threads they add up.

Example: python scripts/bench_halftone.py --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image

from udc_robust.defences.halftone.error_diffusion import KERNELS, Kernel, error_diffusion

SHAPES = ((64, 3, 224, 224), (128, 3, 32, 32), (1, 3, 2448, 3264))


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Median seconds of some rounds, after one that does not count."""
    times = []
    for _ in range(rounds + 1):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return statistics.median(times[1:])


def plain_python(plane: list[list[float]], kernel: Kernel) -> None:
    """Two levels, raster order, on lists: what one writes without a library."""
    plane = [[*row] for row in plane]
    height, width = len(plane), len(plane[0])
    for y in range(height):
        for x in range(width):
            dot = 1.0 if plane[y][x] >= 0.5 else 0.0
            error = plane[y][x] - dot
            plane[y][x] = dot
            for down, right, weight in kernel:
                if y + down < height and 0 <= x + right < width:
                    plane[y + down][x + right] += error * weight


def pillow(planes: np.ndarray) -> list[np.ndarray]:
    """Plane after plane ``(N,H,W)`` of 8 bits."""
    return [np.asarray(Image.fromarray(plane).convert("1")) for plane in planes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    floyd_steinberg = KERNELS["floyd_steinberg"]
    print(f"{torch.get_num_threads()} threads; medians of {options.rounds} rounds; levels 2 unless said")
    for shape in SHAPES:
        x = torch.rand(shape, generator=generator)
        planes = (x * 255).round().byte().flatten(0, 1).numpy()

        theirs = seconds(partial(pillow, planes), options.rounds)
        strip = x[0, 0, : max(1, 50_000 // shape[3])].tolist()
        loop = seconds(partial(plain_python, strip, floyd_steinberg), 1) * x.numel() / (len(strip) * shape[3])
        print(f"{' x '.join(map(str, shape))}: Pillow {1000 * theirs:.0f} ms, plain Python {loop:.1f} s")
        runs = [(name, kernel, 2, False) for name, kernel in KERNELS.items()]
        runs += [("floyd_steinberg, 4 levels", floyd_steinberg, 4, False)]
        if shape[0] > 1:
            runs += [("floyd_steinberg, serpentine", floyd_steinberg, 2, True)]
        for name, kernel, levels, serpentine in runs:
            work = partial(error_diffusion, x, kernel, levels, serpentine=serpentine)
            ours = seconds(work, 1 if serpentine else options.rounds)
            ratios = f"{ours / theirs:5.2f} x Pillow, {loop / ours:4.0f} x as fast as plain Python"
            print(f"  {name:28s} {1000 * ours:6.0f} ms  {ratios}")


if __name__ == "__main__":
    main()

"""What a step of PGD on a whole photograph costs: peak memory, and time beside the bare gradients of its tiles.

Each run is a process of its own, whose peak is that of the step alone. The bare gradients are those of every so-many-th
tile, one after the other, with nothing of ours around the network but the objective; times are of the processor, as
machines are shared.

    python scripts/bench_whole.py --height 2448 --width 3264 --tile 512 --threads 1
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch

from udc_robust.attacks import Linf, Objective, frozen, objective
from udc_robust.restorers.zoo import Restorer, RestorerSpec, load_restorer

PARTS = ("step", "region")


def peak_mib() -> float:
    """The peak of this process; not that of `getrusage`, which is its parent's where that was larger."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


def bare_seconds(restorer: Restorer, x: torch.Tensor, target: torch.Tensor, goal: Objective, every: int) -> float:
    """Seconds of the gradients of all tiles, by those of every so-many-th."""
    assert restorer.tiles is not None
    boxes = restorer.tiles.boxes(x)
    parts = boxes[::every]
    started = time.process_time()
    for box in parts:
        part = x[..., box.rows_in, box.columns_in].detach().requires_grad_(True)
        values = goal.values(restorer._whole(part), target[..., box.rows_in, box.columns_in])
        torch.autograd.grad(values.sum(), part)
    return (time.process_time() - started) * len(boxes) / len(parts)


def measure(options: argparse.Namespace) -> None:
    """One step, and a region's step, of an attack on random pixels, with what they cost."""
    torch.set_num_threads(options.threads)
    restorer = load_restorer(RestorerSpec(options.restorer), "tonemapped").in_tiles(options.tile, options.overlap)
    generator = torch.Generator().manual_seed(0)
    x, target = (torch.rand(1, 3, options.height, options.width, generator=generator) for _ in range(2))
    goal, before = objective("mse"), peak_mib()
    with frozen(restorer):
        bare = bare_seconds(restorer, x, target, goal, options.every)
    assert restorer.tiles is not None and restorer.by_parts is not None
    count = len(restorer.tiles.boxes(x))
    print(f"  {count} tiles of {restorer.tiles.side} px, overlap {restorer.tiles.overlap}: bare gradients {bare:.1f} s")
    place = (options.height // 2, options.width // 2, 64, 64)
    if options.part == "region":
        with frozen(restorer):
            first = restorer.by_parts(x, target, goal.values, place)
            started = time.process_time()
            restorer.by_parts(x, target, goal.values, place, first.output)
        print(f"  a further step of a region of 64 px: {time.process_time() - started:.1f} s")
        return
    started = time.process_time()
    with frozen(restorer):
        answer = restorer.by_parts(x, target, goal.values)
        Linf(4 / 255).project(x, Linf(4 / 255).step(x, answer.gradient, 1 / 255))
    step = time.process_time() - started
    print(f"  a step: {step:.1f} s, {step / bare:.2f} x the bare gradients")
    print(f"  peak {peak_mib():.0f} MiB, of which {before:.0f} were there before")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restorer", default="nafnet_mini")
    parser.add_argument("--height", type=int, default=2448)
    parser.add_argument("--width", type=int, default=3264)
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--overlap", type=int)
    parser.add_argument("--every", type=int, default=1, help="measure every so-many-th tile bare")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--part", choices=PARTS, help="only this, in this process")
    options = parser.parse_args()
    if options.part:
        measure(options)
        return
    for part in PARTS:
        print(f"{options.restorer}, {options.width} x {options.height} px, {part}", flush=True)
        subprocess.run([sys.executable, *sys.argv, "--part", part], check=True)


if __name__ == "__main__":
    main()

"""What a purification costs, as ratios measured in one run.

One-step purification against one forward of its U-Net; K samples as rows of one batch; and the peak memory of the exact
gradient through k steps, checkpointed and plain, each in a process of its own.

Example: python scripts/bench_purifier.py --size 256 --rounds 7
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from udc_robust.attacks import Streams
from udc_robust.defences.defence import Exact
from udc_robust.defences.purifier.gradients import Checkpointed
from udc_robust.defences.purifier.pipeline import load_purifier

# glibc keeps freed blocks under these sizes, in pieces: what a run then holds says little about what it needs.
_UNFRAGMENTED = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def speed(purifier: str, size: int, rounds: int) -> None:
    """Candidates in turn, round after round, so that a drift of the machine hits all of them."""
    pipeline = load_purifier(purifier)
    x = torch.rand(1, 3, size, size)
    candidates: dict[str, Callable[[], object]] = {"one U-Net forward": lambda: pipeline.unet(2 * x - 1, 20)}
    for samples in (1, 4):
        core = pipeline.purifier(pipeline.plan(noise_level=20, samples=samples))
        candidates[f"core, {samples} sample(s)"] = lambda core=core: core(x, core.draw(x, Streams([0])))  # type: ignore[misc]
    candidates["pipeline call"] = lambda: pipeline(x, noise_level=20, output_type="pt")
    pipeline.set_progress_bar_config(disable=True)
    times: dict[str, list[float]] = {name: [] for name in candidates}
    with torch.no_grad():
        for work in candidates.values():
            work()
        for _ in range(rounds):
            for name, work in candidates.items():
                times[name].append(seconds(work))
    base = statistics.median(times["one U-Net forward"])
    for name, found in times.items():
        print(f"{name}: {statistics.median(found):.3f} s, {statistics.median(found) / base:.2f} forwards")


def memory(purifier: str, size: int, steps: int, kept: str) -> None:
    """Print the peak resident MiB that one gradient through ``steps`` steps adds."""
    pipeline = load_purifier(purifier)
    core = pipeline.purifier(pipeline.plan(noise_level=max(20, steps), sampler="ddim", steps=steps)).requires_grad_(
        False
    )
    x = torch.rand(1, 3, size, size, requires_grad=True)
    noise = core.draw(x.detach(), Streams([0]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gradient = Checkpointed() if kept == "checkpointed" else Exact()
    torch.autograd.grad(gradient(core, x, noise).square().sum(), x)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--purifier", default="purifier_mini")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--child", nargs=2, metavar=("STEPS", "KEPT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        memory(options.purifier, options.size, int(options.child[0]), options.child[1])
        return
    speed(options.purifier, options.size, options.rounds)
    image = 3 * options.size**2 * 4 / 2**20
    print(f"peak memory of one exact gradient at {options.size} px (one image is {image:.2f} MiB):")
    for steps in (1, 5, 20, 50):
        found = {}
        for kept in ("checkpointed", "plain") if steps <= 5 else ("checkpointed",):
            command = [sys.executable, __file__, "--purifier", options.purifier, "--size", str(options.size)]
            command += ["--child", str(steps), kept]
            child = subprocess.run(command, env=_UNFRAGMENTED, capture_output=True, text=True, check=True)
            found[kept] = f"{float(child.stdout):.1f} MiB {kept}"
        print(f"  {steps:2d} steps: " + ", ".join(found.values()))


if __name__ == "__main__":
    main()

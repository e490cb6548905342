"""Cost of an attack's step in the scene beside one in the capture, as ratios measured in one run.

A step in the scene goes through the camera too: shift, two Fourier transforms of the blur (and two on the way back),
noise and rounding. What the camera may cost is 0.3 of a step in the capture beyond the convolutions themselves: forward
and gradient of one `optics.capture.convolve`. Rounds alternate, and medians are told.

Example: python scripts/bench_scene.py --size 160 --batch 2 --rounds 7
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from udc_robust.attacks import Linf, attack, objective
from udc_robust.attacks.objectives import OwnTruth
from udc_robust.optics.capture import Blur, convolve, tone_map
from udc_robust.optics.photograph import Photograph
from udc_robust.optics.psf import named_psf
from udc_robust.restorers.zoo import RestorerSpec, load_restorer
from udc_robust.tasks.restoration_scenes import SceneSpace


def works(options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """By name, what is timed."""
    torch.manual_seed(0)
    restorer, psf = load_restorer(RestorerSpec(options.restorer), "tonemapped"), named_psf("phone")
    scenes = 0.8 * torch.rand(options.batch, 3, options.size, options.size)
    plain = SceneSpace(Photograph(Blur(psf)), "tonemapped", 1.0)
    noisy = SceneSpace(Photograph(Blur(psf), shot=1e-4, read=1e-3, shift_px=0.5), "tonemapped", 1.0)
    captures, truths = plain.captures(scenes, range(len(scenes))), plain.toned(scenes)
    light, seeds, mse = plain.light(scenes).requires_grad_(True), range(len(scenes)), objective("mse")

    def steps(space: SceneSpace | None, count: int) -> None:
        told = {"seeds": seeds, "steps": count, "draws": 1}
        if space is None:
            attack(restorer, captures, mse, Linf(4 / 255), "pgd", target=truths, **told)
        else:
            victim, goal, target = space.photographed(restorer), OwnTruth(mse, True), truths.repeat(1, 2, 1, 1)
            attack(victim, scenes, goal, space.bounded(Linf(4 / 255)), "pgd", target=target, **told)

    def convolution() -> None:
        torch.autograd.grad(tone_map(convolve(light, psf).clamp(min=0)).sum(), light)

    return {
        "capture": lambda: steps(None, options.steps), "capture, no step": lambda: steps(None, 0),
        "scene": lambda: steps(plain, options.steps), "scene, no step": lambda: steps(plain, 0),
        "noisy scene": lambda: steps(noisy, options.steps), "noisy scene, no step": lambda: steps(noisy, 0),
        "convolution": convolution,
    }  # fmt: skip


def measured(options: argparse.Namespace) -> dict[str, float]:
    """Median seconds of processor time of each."""
    known = works(options)
    times: dict[str, list[float]] = {name: [] for name in known}
    for turn in range(options.rounds + 1):
        for name, work in known.items():
            begun = time.process_time()
            work()
            if turn:  # the first is for caches
                times[name].append(time.process_time() - begun)
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    """Print seconds of a step, and the ratio that has a bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restorer", default="nafnet_mini")
    for name, default in (("size", 160), ("batch", 2), ("steps", 4), ("rounds", 5), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = measured(options)
    step = {
        name: (found[name] - found[f"{name}, no step"]) / options.steps for name in ("capture", "scene", "noisy scene")
    }
    convolution = found["convolution"]
    print(f"{options.restorer}, {options.batch} x {options.size} px: seconds of processor time")
    print(f"a step in the capture {step['capture']:.3f}, forward and gradient of a convolution {convolution:.3f}")
    for name in ("scene", "noisy scene"):
        ratio = step[name] / (step["capture"] + convolution)
        print(f"a step in the {name} {step[name]:.3f}: {ratio:.2f} of both together (goal: 1.30 at most)")


if __name__ == "__main__":
    main()

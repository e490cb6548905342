"""Cost of fine-tuning, as ratios measured in one run.

A step of adversarial training with k inner steps against a plain step, beside k + 1 (an inner step computes no weight
gradients); both in bfloat16, where the processor has it, against float32; a step of the gradient norm; and the share of
the time in which trainings wait for their batches, also where every step brings a fresh render.

Example: OMP_NUM_THREADS=1 python scripts/bench_training.py --restorer discnet_mini --size 128 --batch 2 --renders hdr
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from udc_robust.attacks import Streams
from udc_robust.config_file import check_config
from udc_robust.data.embedded import EmbeddedPairs
from udc_robust.training.batches import SeededPairs, loader
from udc_robust.training.finetune import load_parent, load_purifiers
from udc_robust.training.finetune_config import FinetuneConfig
from udc_robust.training.precision import has_bfloat16
from udc_robust.training.recipes import RECIPES, FinetuneSetup
from udc_robust.training.render_config import Renders
from udc_robust.training.renders import FreshPairs

ROUNDS = 7


def stepper(parent: str, recipe: str, **changes: object) -> Callable[[Tensor, Tensor, Tensor, int], None]:
    """A whole optimiser step of a recipe: ``(lq, gt, seeds, step)``."""
    values = {
        "name": "bench", "parent": parent, "train": ".", "validation": ".", "recipe": recipe, "loss": "psnr", **changes,
    }  # fmt: skip
    config = check_config(values, FinetuneConfig, "bench")
    restorer = load_parent(config, "tonemapped").train()
    restorer.network.eval()
    purifiers = load_purifiers(config.purifier, "tonemapped")[1] if config.purifier else []
    for purifier in purifiers:
        purifier.requires_grad_(False)
    setup = FinetuneSetup(config, restorer, purifiers, None)
    optimizer = torch.optim.AdamW(restorer.parameters(), lr=1e-6)

    def work(lq: Tensor, gt: Tensor, seeds: Tensor, step: int) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=config.mixed_precision == "bf16"):
            loss = RECIPES[recipe](setup, restorer, lq, gt, Streams(seeds.tolist()), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restorer", default="nafnet_mini")
    parser.add_argument("--purifier", default="purifier_mini")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--renders", type=Path, help="folder of panoramas")
    options = parser.parse_args()

    batches = SeededPairs(
        list(EmbeddedPairs(8, options.size)), patch=options.size, batch=options.batch, steps=options.rounds + 1, seed=0
    )
    inner = (1, 2, 3, 5, 10)
    candidates = {"plain": stepper(options.restorer, "noise", plain_share=0.999999)}
    candidates |= {f"{k} inner steps": stepper(options.restorer, "adversarial", inner_steps=k) for k in inner}
    best = "3 inner steps"
    if has_bfloat16():
        best, half = "3 inner steps in bf16", {"mixed_precision": "bf16"}
        candidates["plain in bf16"] = stepper(options.restorer, "noise", plain_share=0.999999, **half)
        candidates[best] = stepper(options.restorer, "adversarial", inner_steps=3, **half)
    candidates["gradient norm"] = stepper(options.restorer, "gradient_norm")
    candidates["purified"] = stepper(options.restorer, "purified", purifier=options.purifier)
    times: dict[str, list[float]] = {name: [] for name in candidates}
    waits: list[float] = []
    before = time.perf_counter()
    for step, batch in enumerate(loader(batches, 0)):
        lq, gt, seeds = batch
        waits.append(time.perf_counter() - before)
        for name, work in candidates.items():  # in turn, so that a drift of the machine hits all of them
            started = time.perf_counter()
            work(lq, gt, seeds, step)
            times[name].append(time.perf_counter() - started)
        before = time.perf_counter()
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    shape = f"{options.batch} x {options.size} x {options.size}"
    print(f"{options.restorer}, {shape}, {torch.get_num_threads()} threads; medians of {options.rounds} rounds")
    print(f"  plain step {1000 * medians['plain']:.0f} ms")
    for k in inner:
        ratio = medians[f"{k} inner steps"] / medians["plain"]
        print(f"  {k:2d} inner steps: {ratio:5.2f} plain steps, {ratio / (k + 1):.2f} x (k + 1)")
    for name in ("plain", "3 inner steps") if has_bfloat16() else ():
        print(f"  {name} in bfloat16: {medians[f'{name} in bf16'] / medians[name]:.2f} of float32")
    print(f"  gradient norm: {medians['gradient norm'] / medians['plain']:.2f} plain steps")
    wait = statistics.median(waits[1:])
    share = wait / (wait + medians["purified"])
    print(
        f"  purified step: {medians['purified'] / medians['plain']:.2f} plain steps; waits {100 * share:.2f} % for data"
    )
    if options.renders is not None:
        share = 100 * wait_for_renders(options.renders, options.size, options.batch, candidates[best])
        print(f"  {best} on fresh renders: waits {share:.2f} % for data")


def wait_for_renders(
    sources: Path, size: int, batch: int, work: Callable[[Tensor, Tensor, Tensor, int], None]
) -> float:  # fmt: skip
    """Share of the time that a training waits for its loader, the first four steps not counted."""
    fresh = FreshPairs(Renders(sources=sources), patch=size, batch=batch, steps=24, seed=0)
    waited, whole, before = 0.0, 0.0, time.perf_counter()
    for step, (lq, gt, seeds) in enumerate(loader(fresh, 0)):
        came = time.perf_counter()
        work(lq, gt, seeds, step)
        if step >= 4:
            waited, whole = waited + came - before, whole + time.perf_counter() - before
        before = time.perf_counter()
    return waited / whole


if __name__ == "__main__":
    main()

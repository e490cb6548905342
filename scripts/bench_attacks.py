"""Speed of the attack core, as ratios measured in one run.

A PGD step against the bare forward + input gradient of the same network, and against torchattacks' PGD where that is
installed (the ``dev`` extra brings it); C&W, SimBA and Square by steps and queries.

Example: python scripts/bench_attacks.py --size 128 --batch 4 --rounds 7
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from udc_robust.attacks import L2, Linf, attack, objective
from udc_robust.restorers.zoo import RestorerSpec, load_restorer


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def step_times(candidates: dict[str, Callable[[int], object]], steps: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of one step of each candidate: the difference of a long and a short run, which cancels fixed costs.

    The candidates run in turn, round after round, so that a drift of the machine hits all of them.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for work in candidates.values():
        work(1)
    for _ in range(rounds):
        for name, work in candidates.items():
            short = seconds(lambda work=work: work(2))  # type: ignore[misc]
            long = seconds(lambda work=work: work(2 + steps))  # type: ignore[misc]
            times[name].append((long - short) / steps)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restorer", default="nafnet_mini")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.manual_seed(0)
    victim = load_restorer(RestorerSpec(options.restorer), "tonemapped").requires_grad_(False)
    x = torch.rand(options.batch, 3, options.size, options.size)
    gt = (x + 0.05 * torch.randn_like(x)).clamp(0, 1)
    mse, seeds = objective("mse"), list(range(options.batch))

    def bare(steps: int) -> None:
        for _ in range(steps):
            image = x.clone().requires_grad_(True)
            torch.autograd.grad(mse.values(victim(image), gt).sum(), image)

    def ours(steps: int) -> None:
        attack(victim, x, mse, Linf(8 / 255), "ifgsm", target=gt, seeds=seeds, steps=steps, step_size=2 / 255)

    candidates: dict[str, Callable[[int], object]] = {"bare gradient": bare, "our PGD": ours}
    try:
        import torchattacks
    except ImportError:
        print("torchattacks is not installed: that comparison is left out")
    else:

        class RestorationLoss(nn.CrossEntropyLoss):
            """torchattacks knows cross-entropy only; the same MSE is put in its place."""

            def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
                return (output - target).square().mean()

        def torchattacks_pgd(steps: int) -> None:
            theirs = torchattacks.PGD(victim, eps=8 / 255, alpha=2 / 255, steps=steps, random_start=False)
            original, nn.CrossEntropyLoss = nn.CrossEntropyLoss, RestorationLoss  # type: ignore[misc]
            try:
                theirs(x, gt)
            finally:
                nn.CrossEntropyLoss = original  # type: ignore[misc]

        candidates["torchattacks PGD"] = torchattacks_pgd

    times = step_times(candidates, options.steps, options.rounds)
    shape = f"{options.batch} x {options.size} x {options.size}"
    print(f"{options.restorer}, {shape}, {torch.get_num_threads()} threads; medians of {options.rounds} rounds")
    for name, values in times.items():
        ratio = statistics.median(values) / statistics.median(times["bare gradient"])
        print(f"  {name:18s} {1000 * statistics.median(values):8.1f} ms a step   {ratio:.3f} x bare gradient")
    print("  an attack of ours also costs three forwards: the last iterate, and the scoring before and after")

    rates = [
        ("C&W", L2(float("inf")), "cw", {"steps": 10, "search_steps": 2}, "backwards"),
        ("SimBA pixel", Linf(8 / 255), "simba", {"steps": 20}, "queries"),
        ("SimBA DCT", Linf(8 / 255), "simba", {"steps": 20, "basis": "dct"}, "queries"),
        ("Square Linf", Linf(8 / 255), "square", {"steps": 20}, "queries"),
        ("Square L2", L2(2.0), "square", {"steps": 20}, "queries"),
    ]
    with torch.no_grad():
        forward = statistics.median(seconds(lambda: victim(x)) for _ in range(5))
    gradient = statistics.median(times["bare gradient"])
    for name, threat, method, settings, unit in rates:
        meter = attack(victim, x, mse, threat, method, target=gt, seeds=seeds, **settings).meter
        count = int(getattr(meter, unit).sum())
        bound = gradient if unit == "backwards" else forward
        ratio = meter.seconds / (count / options.batch) / bound
        print(f"  {name:18s} {count / meter.seconds:8.1f} {unit} a second   {ratio:.3f} x the network's own time")


if __name__ == "__main__":
    main()

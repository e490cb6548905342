"""How much a preset leaves out: what victims hold under it beside what they hold under ten times its work.

The long run has every part of the preset at ten times the steps, and more methods, restarts and objectives. The gap is
told by figure, with the gradients and forwards an image of both; `standard` aims at 0.05 dB (or half a point).

Example: python scripts/bench_preset.py --count 4 --size 64
         python scripts/bench_preset.py --task classification --count 50
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from udc_robust import evaluate
from udc_robust.api import Benchmark
from udc_robust.grid.budget import rising
from udc_robust.grid.presets import full_name
from udc_robust.report.panel import Panel
from udc_robust.report.run_folder import read_run
from udc_robust.report.worst import held, worst_by_image
from udc_robust.tasks import TASKS

SOURCES = ["nafnet_mini", "discnet_mini"]
LONG: Mapping[str, Sequence[Any]] = {
    "restoration": [
        "noise", "brightness", "smooth_field",
        {"method": "apgd", "steps": 300, "restarts": 2},
        {"method": "pgd", "steps": 200, "step_size": "eps/10", "restarts": 2},
        {"method": "mifgsm", "steps": 100},
        {"method": "pgd", "name": "pgd-ssim", "steps": 200, "step_size": "eps/10", "objective": "ssim"},
        {"method": "pgd", "name": "transfer", "steps": 200, "access": "transfer", "sources": SOURCES},
        {"method": "square", "steps": 3000, "sources": SOURCES},
    ],
    "classification": [
        "noise", "brightness",
        {"method": "apgd", "steps": 300, "restarts": 2},
        {"method": "apgd", "name": "apgd-ce", "steps": 300, "objective": "cross_entropy"},
        {"method": "apgd", "name": "apgd-dlr", "steps": 300, "objective": "dlr"},
        {"method": "pgd", "steps": 200, "step_size": "eps/10", "restarts": 2},
        {"method": "square", "steps": 5000},
    ],
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=LONG, default="restoration")
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--networks", nargs="+", help="shipped ones; default: two of them")
    parser.add_argument("--count", type=int, default=4, help="images")
    parser.add_argument("--size", type=int, default=64, help="side of the restorers' images")
    parser.add_argument("--eps", default="4/255")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_preset"))
    options = parser.parse_args()
    if options.task == "restoration":
        networks = options.networks or ["nafnet_mini", "nafnet_mini_adversarial"]
        data: dict[str, Any] = {"kind": "embedded", "limit": options.count, "size": options.size}
        base = {"data": data, "restorers": networks, "lpips": None}
    else:
        base = {"data": {"source": "digits:test", "limit": options.count}}
        base["classifiers"] = options.networks or ["digits_mini"]
    base |= {"task": options.task, "eps": options.eps, "gallery": 0, "save_images": False}
    name = full_name(options.preset)
    short = evaluate({**base, "name": name, "preset": name}, options.out / f"{options.task}-{name}")
    long = evaluate({**base, "name": "long", "attacks": LONG[options.task]}, options.out / f"{options.task}-long")
    for mine, theirs in zip(panels(short), panels(long), strict=True):
        tell(mine, theirs, short, long)


def panels(run: Benchmark) -> list[Panel]:
    return list(read_run(run.folder, TASKS).panels())


def tell(mine: Panel, theirs: Panel, short: Benchmark, long: Benchmark) -> None:
    """The gap of one victim, by figure, and the work of both runs."""
    works = [work(run, mine.network) for run in (short, long)]
    print(f"{mine.label}: {works[1] / works[0]:.1f} times the work of {works[0]:,.0f} forwards an image")
    for metric in (mine.task.quality, *mine.metrics):
        for budget in rising(o.budget for o in mine.outcomes if o.budget.limited):
            left = [held(worst_by_image(panel.judged_by(metric), budget)) for panel in (mine, theirs)]
            gap = metric.better(left[0], left[1])
            print(f"  {metric.title} at {budget}: {left[0]:.3f}, long {left[1]:.3f}, gap {gap:.3f} {metric.unit}")


def work(run: Benchmark, network: str) -> float:
    """Forwards an image over all attacks on a network; a gradient counts as two more."""
    rows = [row for row in run.results() if network in (row.get("restorer"), row.get("classifier"))]
    rows = [row for row in rows if row["attack"] != "clean"]
    images = len({row["image"] for row in rows})
    return sum(float(row["forwards"]) + 2 * float(row["backwards"]) for row in rows) / images


if __name__ == "__main__":
    main()

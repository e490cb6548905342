"""How much a preset leaves out: what victims hold under it beside what they hold under ten times its work.

The long run has every part of the preset at ten times the steps, and more methods, restarts and objectives. The gap is
told by figure, with the gradients and forwards an image of both; `standard` aims at 0.05 dB (or half a point). With
`--against` the other run is another preset: what a new version gives up, and what it saves. Who is stopped and called
again goes on. `--curve` draws what is held over the gradients that it took.

Example: python scripts/bench_preset.py --count 4 --size 64
         python scripts/bench_preset.py --preset standard-2 --against standard-1 --eps 1/255 2/255 4/255 8/255
         python scripts/bench_preset.py --task classification --count 50
         python scripts/bench_preset.py --purified --networks nafnet_mini --count 3 --size 48
         python scripts/bench_preset.py --networks nafnet_mini --curve .github/gradients.png
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from udc_robust import evaluate
from udc_robust.api import Benchmark
from udc_robust.grid.budget import rising
from udc_robust.grid.identity import digest
from udc_robust.grid.presets import blocks, full_name, names
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
    "restoration, purified": [
        "noise", "brightness", "smooth_field",
        {"method": "apgd", "steps": 300, "eot": 4, "access": ["blind", "adaptive"]},
        {"method": "pgd", "name": "pgd-ssim", "steps": 100, "step_size": "eps/10", "eot": 4, "objective": "ssim"},
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


PURIFIED = {"kind": "purifier", "name": "purified", "purifier": "purifier_mini", "noise_level": 5}
CHEAP = {"noise", "brightness", "smooth_field", "square"}
"""Methods that follow no gradient of the victim."""
CLOSE = 0.05
"""How near, in dB, a preset is to come."""
SHARES = (0.02, 0.04, 0.1, 0.2, 0.5, 1.0, 2.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=("restoration", "classification"), default="restoration")
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--networks", nargs="+", help="shipped ones; default: two of them")
    parser.add_argument("--count", type=int, default=4, help="images")
    parser.add_argument("--size", type=int, default=64, help="side of the restorers' images")
    parser.add_argument("--images", default="digits:test", help="labelled images of classifiers")
    parser.add_argument(
        "--purified", action="store_true", help="behind the shipped purifier, in place of bare networks"
    )
    parser.add_argument("--against", help="another preset; default: ten times the work")
    parser.add_argument("--eps", nargs="+", default=["4/255"])
    parser.add_argument("--curve", type=Path, help="draw damage over gradients there (.svg, .png), and measure no more")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_preset"))
    options = parser.parse_args()
    base = setting(options)
    if options.curve:
        curve(options, base)
        return
    long = {"name": "long", "attacks": LONG[f"{options.task}, purified" if options.purified else options.task]}
    chosen = (options.preset, options.against)
    runs = [long if name is None else {"name": full_name(name), "preset": full_name(name)} for name in chosen]
    short, other = (run(options, base, block) for block in runs)
    for mine, theirs in zip(panels(short), panels(other), strict=True):
        tell(mine, theirs, short, other)


def setting(options: argparse.Namespace) -> dict[str, Any]:
    """Networks, images and budgets."""
    base: dict[str, Any] = {"task": options.task, "eps": options.eps, "gallery": 0, "save_images": False}
    if options.task == "classification":
        data = {"source": options.images, "limit": options.count}
        return {**base, "data": data, "classifiers": options.networks or ["digits_mini"]}
    data = {"kind": "embedded", "limit": options.count, "size": options.size}
    networks = options.networks or ["nafnet_mini", "nafnet_mini_adversarial"]
    defences = [PURIFIED] if options.purified else ["none"]
    return {**base, "data": data, "restorers": networks, "lpips": None, "defences": defences}


def run(options: argparse.Namespace, base: Mapping[str, Any], block: Mapping[str, Any]) -> Benchmark:
    """A run in a folder of its own, which goes on where it was stopped."""
    config = {**base, **block}
    return evaluate(config, options.out / f"{options.task}-{block['name']}-{digest(config)[:8]}")


def curve(options: argparse.Namespace, base: Mapping[str, Any]) -> None:
    """What the first network holds over the gradients that it took: the first preset's parts, and each preset."""
    from matplotlib.figure import Figure

    kind, _, _ = full_name(options.preset).rpartition("-")
    versions = [name for name in names() if name.rpartition("-")[0] == kind]
    networks = base.get("restorers") or base["classifiers"]
    parts = {name: climbing(blocks(name, options.task, networks)) for name in versions}
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot(xscale="log")
    alone = [
        point(run(options, base, {"name": f"alone-{share:g}", "attacks": scaled(parts[versions[0]], share)}))
        for share in SHARES
    ]
    axes.plot(
        *zip(*alone, strict=True),
        "-o",
        color="#5c6068",
        label=f"parts of {versions[0]}, {SHARES[0]:.0%} to {SHARES[-1]:.0%} of their steps",
    )
    for name, color in zip(versions, ("#0072b2", "#009e73", "#d55e00", "#cc79a7"), strict=False):
        x, y = point(run(options, base, {"name": f"{name}-climbing", "attacks": parts[name]}))
        axes.plot(x, y, "*", markersize=15, color=color, label=f"{name}: {x:.0f} gradients, {y:.2f}")
    axes.axhspan(
        least := min(y for _, y in alone), least + CLOSE, color="#0072b2", alpha=0.12, label=f"within {CLOSE:g}"
    )
    axes.set_xticks(ticks := [2, 5, 10, 20, 50, 100, 200], [str(tick) for tick in ticks])
    axes.minorticks_off()
    budget = ", ".join(options.eps)
    axes.set_xlabel("gradients an image")
    axes.set_ylabel(f"{networks[0]} holds at {budget}{', dB' * (options.task == 'restoration')}")
    axes.grid(axis="y", color="#dcd9d2")
    axes.legend(frameon=False)
    options.curve.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.curve, dpi=120, metadata={"Date": None} if options.curve.suffix == ".svg" else None)


def climbing(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks that follow gradients."""
    return [block for block in found if block["method"] not in CHEAP]


def scaled(found: Sequence[dict[str, Any]], share: float) -> list[dict[str, Any]]:
    """The same with a share of the steps."""
    return [{**block, "steps": max(round(block["steps"] * share), 1)} for block in found]


def point(made: Benchmark) -> tuple[float, float]:
    """Gradients an image of the first victim, and what it holds at the largest budget."""
    panel = panels(made)[0]
    budget = rising(o.budget for o in panel.outcomes if o.budget.limited)[-1]
    left = held(worst_by_image(panel.judged_by(panel.task.quality), budget))
    print(f"{made.folder.name}: {gradients(made, panel):.1f} gradients an image, holds {left:.3f}")
    return gradients(made, panel), left


def panels(made: Benchmark) -> list[Panel]:
    return list(read_run(made.folder, TASKS).panels())


def tell(mine: Panel, theirs: Panel, short: Benchmark, other: Benchmark) -> None:
    """The gap of one victim, by figure, and the work of both runs."""
    called = [made.folder.name.partition("-")[2].rpartition("-")[0] for made in (short, other)]
    print(f"{mine.label}: {called[0]} beside {called[1]}")
    for what, counted in (("work in forwards", work), ("gradients", gradients), ("of the victim", own_gradients)):
        spent = [counted(made, mine) for made in (short, other)]
        print(f"  {what} an image: {spent[0]:,.0f} and {spent[1]:,.0f}, a ratio of {spent[0] / spent[1]:.2f}")
    for metric in (mine.task.quality, *mine.metrics):
        for budget in rising(o.budget for o in mine.outcomes if o.budget.limited):
            left = [held(worst_by_image(panel.judged_by(metric), budget)) for panel in (mine, theirs)]
            gap = metric.better(left[0], left[1])
            print(f"  {metric.title} at {budget}: {left[0]:.3f} and {left[1]:.3f}, gap {gap:+.3f} {metric.unit}")


def work(made: Benchmark, victim: Panel) -> float:
    """Forwards an image over all attacks on a victim; a gradient counts as two more."""
    return _an_image(made, victim, lambda row: float(row["forwards"]) + 2 * float(row["backwards"]))


def gradients(made: Benchmark, victim: Panel) -> float:
    """Gradients an image over all attacks on a victim, those of sources too."""
    return _an_image(made, victim, lambda row: float(row["backwards"]))


def own_gradients(made: Benchmark, victim: Panel) -> float:
    """Gradients of the victim under attack itself."""
    return _an_image(made, victim, lambda row: float(row["backwards"]) * (row["access"] not in ("transfer", "query")))


def _an_image(made: Benchmark, victim: Panel, counted: Callable[[Mapping[str, str]], float]) -> float:
    rows = [row for row in made.results() if row["attack"] != "clean" and row["defence"] == victim.defence]
    rows = [row for row in rows if victim.network in (row.get("restorer"), row.get("classifier"))]
    return sum(map(counted, rows)) / len({row["image"] for row in rows})


if __name__ == "__main__":
    main()

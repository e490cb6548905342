"""Time and memory of the restoration networks, forward and input gradient, as ratios measured in one run.

Each figure comes from a process of its own, so that peak memory is the network's. Official sizes, random weights.
CPU seconds are summed over the threads; other processes disturb them less. DISCNet and UDC-UNet also run with their
dynamic convolution in the plain unfold form, and basicsr's SwinIR is the outside reference.

Example: python scripts/bench_networks.py --size 256 --only DISCNet "DISCNet unfold"
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from udc_robust.restorers.zoo import build_network

OFFICIAL: dict[str, tuple[str, dict[str, object]]] = {
    "DISCNet": ("DISCNet", {"kernel_cond": "img-psf", "multi_scale": True}),
    "DISCNet unfold": ("DISCNet", {"kernel_cond": "img-psf", "multi_scale": True}),
    "UDCUNet": ("UDCUNet", {}),
    "UDCUNet unfold": ("UDCUNet", {}),
    "BNUDC": ("BNUDCnet", {}),
    "FSI": ("UDCSFreqnet", {}),
    "ECFNet": ("MIMOUNet_complete", {"num_res": 6}),
    "Uformer T": ("Uformer", {"embed_dim": 16, "depths": [2] * 9, "modulator": True}),
    "Uformer B": ("Uformer", {"embed_dim": 32, "depths": [1, 2, 8, 8, 2, 8, 8, 2, 1], "modulator": True}),
    "NAFNet w32": ("NAFNet", {"width": 32, "enc_blk_nums": [1, 1, 1, 28], "dec_blk_nums": [1, 1, 1, 1]}),
    "Restormer": ("Restormer", {}),
    "SwinIR (basicsr)": ("SwinIR", {"upscale": 1, "img_size": 64, "window_size": 8, "depths": [6] * 4,
                                    "embed_dim": 60, "num_heads": [6] * 4, "mlp_ratio": 2}),
}  # fmt: skip


def unfold_dynamic_conv(
    feature: Tensor, hidden: Tensor, head: nn.Conv2d, slope: Tensor | None, kernel_size: int
) -> Tensor:
    """The straightforward form: all kernels at once, all patches at once."""
    kernels = head(hidden) if slope is None else F.prelu(head(hidden), slope)
    batch, channels, height, width = feature.shape
    patches = F.unfold(F.pad(feature, [kernel_size // 2] * 4, mode="replicate"), kernel_size)
    patches = patches.view(batch, channels, kernel_size**2, height, width)
    return (patches * kernels.view(batch, channels, kernel_size**2, height, width)).sum(2)


def peak_mib() -> float:
    with open("/proc/self/status") as handle:
        return next(int(line.split()[1]) for line in handle if line.startswith("VmHWM:")) / 1024


def reset_peak() -> float:
    with open("/proc/self/clear_refs", "w") as handle:
        handle.write("5")
    return peak_mib()


def measure(name: str, size: int, rounds: int) -> dict[str, float]:
    network_name, options = OFFICIAL[name]
    if "unfold" in name:
        import udc_robust.restorers.discnet as discnet
        import udc_robust.restorers.udcunet as udcunet

        discnet.predicted_dynamic_conv = udcunet.predicted_dynamic_conv = unfold_dynamic_conv
    torch.manual_seed(0)
    network = build_network(network_name, options).eval().requires_grad_(False)
    x = torch.rand(1, 3, size, size)

    def forward() -> None:
        with torch.no_grad():
            network(x)

    def gradient() -> None:
        image = x.clone().requires_grad_(True)
        torch.autograd.grad(network(image).square().sum(), image)

    figures = {}
    for label, work in (("forward", forward), ("gradient", gradient)):
        before = reset_peak()
        work()
        figures[f"{label} MiB"] = peak_mib() - before
        times, cpu_times = [], []
        for _ in range(rounds):
            started, cpu_started = time.perf_counter(), time.process_time()
            work()
            times.append(time.perf_counter() - started)
            cpu_times.append(time.process_time() - cpu_started)
        figures[f"{label} s"] = statistics.median(times) * 1e6 / size**2
        figures[f"{label} CPU s"] = statistics.median(cpu_times) * 1e6 / size**2
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(OFFICIAL))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options.size, options.rounds)))
        return
    figures = {}
    print(f"{options.size} x {options.size}, one image, {torch.get_num_threads()} threads; seconds are per megapixel")
    print(f"{'network':18s} {'forward s':>10s} {'CPU s':>8s} {'MiB':>8s} {'gradient s':>11s} {'CPU s':>8s} {'MiB':>8s}")
    for name in options.only or OFFICIAL:
        command = [
            sys.executable,
            __file__,
            "--child",
            name,
            "--size",
            str(options.size),
            "--rounds",
            str(options.rounds),
        ]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = figures[name] = json.loads(answer.splitlines()[-1])
        print(
            f"{name:18s} {found['forward s']:10.2f} {found['forward CPU s']:8.2f} {found['forward MiB']:8.0f} "
            f"{found['gradient s']:11.2f} {found['gradient CPU s']:8.2f} {found['gradient MiB']:8.0f}",
            flush=True,
        )
    for name in ("DISCNet", "UDCUNet"):
        if {name, f"{name} unfold"} <= figures.keys():
            ours, plain = figures[name], figures[f"{name} unfold"]
            ratios = ", ".join(f"{key} {ours[key] / plain[key]:.2f}" for key in ours)
            print(f"{name} / its unfold form: {ratios}")


if __name__ == "__main__":
    main()

"""Tables for the terminal."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from udc_robust.defences.purifier.level import NO_PURIFIER, LevelFigures
from udc_robust.networks.weights import read_weights
from udc_robust.progress import plain_console
from udc_robust.report.comparison import comparisons
from udc_robust.report.panel import Panel
from udc_robust.report.words import number
from udc_robust.restorers.basicsr_bridge import NETWORKS
from udc_robust.restorers.deconvolution import CLASSICAL
from udc_robust.restorers.zoo import build_network, find_network, published_networks, shipped_checkpoints, shipped_means
from udc_robust.terminal import shown


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    return table


def print_held(panels: Sequence[Panel]) -> None:
    """What each victim of a finished run holds at each budget, beside noise and the ignorant attacker."""
    compared = comparisons(panels)
    for found in compared:
        unit = found.metric.unit
        table = _table("victim", f"clean, {unit}", "budget", "noise", "blind", "held", "gain", "strongest")
        for standing in found.standings:
            for budget, held in zip(found.budgets, standing.held, strict=True):
                if held is not None:
                    texts = [
                        number(value, found.metric.digits)
                        for value in (held.noise, held.blind, held.quality, held.gain)
                    ]
                    clean = number(standing.clean, found.metric.digits)
                    table.add_row(shown(standing.panel.label), clean, str(budget), *texts, shown(held.strongest))
        _console().print(table)
    if not compared:
        _print_left(panels)


def _print_left(panels: Sequence[Panel]) -> None:
    """Without a target: what each attack leaves, against the clean answer."""
    table = _table("victim", "attack", "budget", "to the clean answer", "noise of its norm")
    for panel in panels:
        for outcome in panel.outcomes:
            texts = [number(value, panel.task.quality.digits) for value in (outcome.left, outcome.noise_left)]
            table.add_row(shown(panel.label), shown(outcome.cell.label), str(outcome.budget), *texts)
    _console().print(table)


def print_levels(figures: Sequence[LevelFigures]) -> None:
    """The table of a noise level study; PSNR in dB."""
    table = _table("level", "sigma", "clean", "cost", "blind", "adaptive", "worse of both", "Frechet")
    for f in figures:
        psnrs = (f.psnr_clean, figures[0].psnr_clean - f.psnr_clean, f.psnr_blind, f.psnr_adaptive, f.psnr_attacked)
        level = "none" if f.level == NO_PURIFIER else str(f.level)
        table.add_row(level, f"{f.sigma:.4f}", *(f"{psnr:.2f}" for psnr in psnrs), f"{f.frechet:.4g}")
    _console().print(table)


def _console() -> Console:
    """A console as wide as the terminal; files and pipes get room for whole rows."""
    return plain_console() if Console().is_terminal else plain_console(width=120)


def print_models() -> None:
    """Shipped checkpoints, then every published network in its official size."""
    shipped_table = _table("shipped checkpoint", "network", "parameters", "domain")
    for name, path in shipped_checkpoints().items():
        state, metadata = read_weights(path)
        network, domain = (metadata.get(key, "?").strip('"') for key in ("network", "domain"))
        shipped_table.add_row(name, network, f"{sum(t.numel() for t in state.values()):,}", domain)
    for name, path in shipped_means().items():
        members = ", ".join(yaml.safe_load(path.read_text(encoding="utf-8"))["options"]["of"])
        shipped_table.add_row(name, f"mean of {members}", "", "")
    console = _console()
    console.print(shipped_table)
    console.print()
    console.print(official_table())
    console.print("GMAC: of one 256x256 image, without dynamic convolutions and FFTs. Official weights, none shipped:")
    for name in NETWORKS:
        found: Any = find_network(name)
        console.print(f"  {name}: {found.source} (licence: {found.weights_licence})", soft_wrap=True)
    console.print("Deconvolution with a known PSF, no weights; options of each, as in configs/evaluate/classical.yaml:")
    for name, classical in CLASSICAL.items():
        options = ", ".join(str(option) for option in inspect.signature(classical).parameters.values())
        console.print(f"  {name}({options})".replace("'", ""), soft_wrap=True)
    console.print("The mean of any: {network: mean_of, options: {of: [nafnet_mini_hardened, mine.safetensors]}}")
    console.print("basicsr's ARCH_REGISTRY works by name, any torch class as package.module:Class or file.py:Class.")


def official_table() -> Table:
    """Parameters, multiply-adds, domain and size multiple of the official networks."""
    table = _table("network", "class", "parameters", "GMAC", "domain", "multiple")
    for path in published_networks().values():
        block = yaml.safe_load(path.read_text(encoding="utf-8"))
        with torch.device("meta"):
            network = build_network(block["network"], block.get("options", {})).eval()
        facts = (str(network.domain), str(network.size_multiple))
        parameters = sum(p.numel() for p in network.parameters())
        giga = multiply_adds(network) / 1e9
        table.add_row(path.stem, block["network"], f"{parameters:,}", f"{giga:.1f}", *facts)
    return table


def multiply_adds(network: nn.Module, size: int = 256) -> int:
    """Multiply-adds of one image, counted by torch on shapes alone (the network may be on the meta device)."""
    device = next(network.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, size, size, device=device))
    return counter.get_total_flops() // 2

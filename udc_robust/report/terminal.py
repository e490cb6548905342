"""Tables for the terminal."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from udc_robust.defences.purifier.level import NO_PURIFIER, LevelFigures
from udc_robust.evaluation.cells import eps_text
from udc_robust.evaluation.victims import victim_label
from udc_robust.files import shipped
from udc_robust.networks.weights import read_weights
from udc_robust.restorers.basicsr_bridge import NETWORKS
from udc_robust.restorers.zoo import build_network, find_network, published_networks, shipped_checkpoints


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    return table


def console_table(*columns: str) -> tuple[Console, Table]:
    """A console, and an empty table for it."""
    return _console(), _table(*columns)


def print_summary(run: Path) -> None:
    """The headline table of a finished run."""
    with open(run / "summary.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    table = _table("victim", "attack", "eps", "PSNR", "drop", "noise drop", "SSIM", "LPIPS", "worse than input")
    for row in rows:
        figures = [_shorten(row[name]) for name in ("psnr", "drop", "noise_drop", "ssim", "lpips", "worse_than_input")]
        eps = "" if row["attack"] == "clean" else f"{row['norm']} {eps_text(float(row['eps']))}"
        table.add_row(victim_label(row["restorer"], row["defence"]), row["attack"], eps, *figures)
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
    return Console() if Console().is_terminal else Console(width=120)


def _shorten(text: str) -> str:
    return text if text in ("n/a", "inf") else f"{float(text):.3g}" if abs(float(text)) < 1 else f"{float(text):.2f}"


def print_models() -> None:
    """Shipped checkpoints, then every published network in its official size."""
    shipped_table = _table("shipped checkpoint", "network", "parameters", "light")
    for name, path in shipped_checkpoints().items():
        state, metadata = read_weights(path)
        network, light = (metadata.get(key, "?").strip('"') for key in ("network", "domain"))
        shipped_table.add_row(name, network, f"{sum(t.numel() for t in state.values()):,}", light)
    console = _console()
    console.print(shipped_table)
    console.print()
    console.print(official_table())
    console.print("GMAC: of one 256x256 image, without dynamic convolutions and FFTs. Official weights, none shipped:")
    for name in NETWORKS:
        found: Any = find_network(name)
        console.print(f"  {name}: {found.source} (licence: {found.weights_licence})", highlight=False, soft_wrap=True)
    console.print("basicsr's ARCH_REGISTRY works by name, any torch class as package.module:Class or file.py:Class.")


def official_table() -> Table:
    """Parameters, multiply-adds, light and size multiple of the official networks."""
    table = _table("network", "class", "parameters", "GMAC", "light", "multiple")
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


def print_configs() -> None:
    """Name and first comment line of each shipped config."""
    for path in sorted(shipped("configs").rglob("*.yaml")):
        first = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        Console().print(f"{path.relative_to(shipped('configs')).with_suffix('')}: {first}", highlight=False)

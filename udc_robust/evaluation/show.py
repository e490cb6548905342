"""Tables for the terminal."""

from __future__ import annotations

import csv
from pathlib import Path

from rich.console import Console
from rich.table import Table

from udc_robust.evaluation.cells import eps_text
from udc_robust.files import shipped
from udc_robust.restorers.basicsr_bridge import NETWORKS
from udc_robust.restorers.weights import read_weights
from udc_robust.restorers.zoo import find_class, shipped_checkpoints


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table


def print_summary(run: Path) -> None:
    """The headline table of a finished run."""
    with open(run / "summary.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    table = _table("restorer", "attack", "eps", "PSNR", "drop", "noise drop", "SSIM", "LPIPS", "worse than input")
    for row in rows:
        figures = [_shorten(row[name]) for name in ("psnr", "drop", "noise_drop", "ssim", "lpips", "worse_than_input")]
        eps = "" if row["attack"] == "clean" else f"{row['norm']} {eps_text(float(row['eps']))}"
        table.add_row(row["restorer"], row["attack"], eps, *figures)
    Console().print(table)


def _shorten(text: str) -> str:
    return text if text in ("n/a", "inf") else f"{float(text):.3g}" if abs(float(text)) < 1 else f"{float(text):.2f}"


def print_models() -> None:
    """Shipped checkpoints, then the networks that can be built by name."""
    shipped_table = _table("shipped checkpoint", "network", "parameters", "light")
    for name, path in shipped_checkpoints().items():
        state, metadata = read_weights(path)
        network, light = (metadata.get(key, "?").strip('"') for key in ("network", "domain"))
        shipped_table.add_row(name, network, f"{sum(t.numel() for t in state.values()):,}", light)
    networks = _table("network", "light", "size multiple", "licence of official weights", "official weights")
    for name in NETWORKS:
        found = find_class(name)
        facts = [str(getattr(found, key, "?")) for key in ("domain", "size_multiple", "weights_licence", "source")]
        networks.add_row(name, *facts)
    console = Console()
    console.print(shipped_table)
    console.print()
    console.print(networks)
    console.print("\nAny network of basicsr's ARCH_REGISTRY works by name, any torch class as package.module:Class.")


def print_configs() -> None:
    """Name and first comment line of each shipped config."""
    for path in sorted(shipped("configs").rglob("*.yaml")):
        first = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        Console().print(f"{path.relative_to(shipped('configs')).with_suffix('')}: {first}", highlight=False)

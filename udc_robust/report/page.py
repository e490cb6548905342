"""The report of one or several runs: one HTML file that needs nothing else and asks the network for nothing."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar
from urllib.parse import quote

import yaml

from udc_robust.evaluation import areas, bargains, curves, gallery, redflags, verdict
from udc_robust.evaluation.run_folder import NORM_SIGNS, Outcome, Panel, Run, read_run
from udc_robust.evaluation.tables import DRAWS, to_csv
from udc_robust.files import write_text

FLAG_COLUMNS = ("data", "victim", "flag", "rule", "state", "value")
MARKET_COLUMNS = (
    "data", "family", "victim", "kind", "nfe", "clean", "cost", "budget", "psnr", "blind", "gain", "gain_low",
    "gain_high", "strongest",
)  # fmt: skip
# Rows of the per-image table that are shown at once; the rest folds away.
_SHOWN_IMAGES = 16


AnyRun = TypeVar("AnyRun", bound=Any)


def write_report(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write the report of finished runs and return its path.

    Args:
        runs: run folders; restorers of several runs stand side by side as ``run name: restorer``.
        out: the HTML file; None: ``report.html`` in the only run's folder, or in the current folder for several.

    Raises:
        UserError: a folder holds no finished run, or a file of it is damaged.
    """
    read = named([read_run(Path(path)) for path in runs])
    out = out or (read[0].path / "report.html" if len(read) == 1 else Path("report.html"))
    panels = _panels(read)
    traded = bargains.markets(panels)
    # Cheap rivals have their place in the tables; pictures and paragraphs are for what is studied.
    studied = [panel for panel in panels if panel.kind in ("none", "purifier")] if traded else panels
    averaged = areas.areas(panels)
    shown, left_out = gallery.choose(studied)
    page = template("report.html.j2").render(
        title=" and ".join(dict.fromkeys(run.name for run in read)),
        headline=" ".join(market.headline for market in traded[:1]) or verdict.headline(panels),
        markets=traded,
        holds=curves.hold_curves(traded),
        flags=[(panel, redflags.red_flags(panel)) for panel in panels],
        warnings=verdict.warnings(read, panels),
        budget_notes=[verdict.budget_note(domain) for domain in sorted({panel.domain for panel in panels})],
        norm_note=verdict.norm_note(),
        panels=[_panel_context(panel) for panel in studied],
        figures=[_panel_context(panel) for panel in panels],
        curves=curves.drop_curves(studied),
        areas=averaged,
        gallery=_groups(gallery.cards(studied, shown)),
        left_out=left_out,
        costs=[cost for panel in panels for cost in costs_of(panel.label, panel.data, panel.nfe, panel.outcomes)],
        sources=[source_of(run, out) for run in read],
        embedded=any(block.kind == "embedded" for run in read for block in run.config.data),
        mini=any("mini" in panel.restorer for panel in panels),
    )
    write_text(out, page)
    write_text(out.with_suffix(".flags.csv"), to_csv(FLAG_COLUMNS, redflags.flag_rows(panels)))
    if averaged:
        write_text(out.with_suffix(".areas.csv"), to_csv(areas.AREA_COLUMNS, areas.area_rows(averaged)))
    if traded:
        write_text(out.with_suffix(".defences.csv"), to_csv(MARKET_COLUMNS, bargains.market_rows(traded)))
    return out


def template(name: str) -> Any:
    """A page of ours, which escapes what users wrote."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": verdict.number, "percent": _percent}
    return environment.get_template(name)


def named(runs: Sequence[AnyRun]) -> list[AnyRun]:
    """Give runs of one name their folders too, so that they can be told apart."""
    names = [run.name for run in runs]
    for name_of in (lambda run: f"{run.name} ({run.path.resolve().name})", lambda run: str(run.path.resolve())):
        if len(set(names)) < len(names):
            names = [name_of(run) for run in runs]
    return [replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def _panels(runs: Sequence[Run]) -> list[Panel]:
    """The panels of all runs, those on the same data together."""
    found = [panel for run in runs for panel in run.panels(f"{run.name}: " if len(runs) > 1 else "")]
    order = list(dict.fromkeys(panel.data for panel in found))
    return sorted(found, key=lambda panel: order.index(panel.data))


def _percent(share: float | None) -> str:
    return "n/a" if share is None else f"{100 * share:.0f} %"


def _panel_context(panel: Panel) -> dict[str, Any]:
    worst = verdict.worst_by_norm(panel)
    rows = [_clean_row(panel), *(_row(panel, outcome) for outcome in panel.outcomes)]
    largest = max((row["drop"] for row in rows if row["drop"] is not None), default=0.0)
    for row in rows:
        row["share"] = max(row["drop"] or 0.0, 0.0) / largest if largest > 0 else 0.0
    hardest = max(worst, key=lambda found: found.outcome.damage, default=None)
    return {
        "panel": panel,
        "verdict": verdict.verdict(panel),
        "hardest": hardest.outcome if hardest else None,
        "hardest_worse": _worse_count(hardest.outcome) if hardest else "n/a",
        "strongest": [
            _row(panel, found.outcome) | {"worse_count": _worse_count(found.outcome)}
            for found in verdict.strongest(panel)
        ],
        "rows": rows,
        "ladders": [_ladder(panel, found.outcome) for found in worst],
    }


def _worse_count(outcome: Outcome) -> str:
    return verdict.count(outcome.summary["worse_than_input"], len(outcome.rows))


def _clean_row(panel: Panel) -> dict[str, Any]:
    empty = dict.fromkeys(("drop", "interval", "noise_drop", "noise_level", "broken", "eot"))
    row = {name: panel.clean[name] for name in ("psnr", "ssim", "lpips", "ms_ssim", "gmsd", "worse_than_input", *DRAWS)}
    return (
        {"kind": "clean", "attack": "clean", "budget": "none", "l2": "0", "linf": "0", "rms": "", "exactness": ""}
        | empty
        | row
    )


def _row(panel: Panel, outcome: Outcome) -> dict[str, Any]:
    """One line of the tables; figures that do not exist are None."""
    columns = (
        "psnr", "drop", "noise_drop", "ssim", "lpips", "ms_ssim", "gmsd", "worse_than_input", "broken", "exactness",
        "eot", *DRAWS,
    )  # fmt: skip
    return {
        "kind": "noise" if outcome.is_noise else "attack",
        "attack": outcome.cell.label,
        "budget": outcome.budget,
        "noise_level": outcome.noise_level,
        "interval": verdict.drop_interval(outcome),
        **_norms(panel, outcome),
        **{name: outcome.summary[name] for name in columns},
    }


def _norms(panel: Panel, outcome: Outcome) -> dict[str, str]:
    """Mean norms that the perturbations had: L2 of the image, Linf in levels; without a budget also the rms."""
    row = outcome.summary
    levels = 1 if panel.domain == "linear" else 255
    rms = f"rms {verdict.number(row['rms'] * levels)}" if math.isinf(outcome.cell.eps) else ""
    return {"l2": verdict.number(row["l2"]), "linf": verdict.number(row["linf"] * levels, 1), "rms": rms}


def _ladder(panel: Panel, outcome: Outcome) -> dict[str, Any]:
    """Clean and attacked PSNR of each image, the worst first, with places in percent of a common dB axis."""
    rows = sorted(outcome.rows, key=lambda row: row["psnr"])
    names = ("psnr", "psnr_clean", "psnr_input") if panel.has_truth else ("psnr",)
    known = [row[name] for row in rows for name in names if row[name] is not None and math.isfinite(row[name])]
    low, high = math.floor(min(known, default=0.0)), math.ceil(max(known, default=1.0))

    def place(value: float | None) -> float | None:
        if value is None or not math.isfinite(value):
            return None
        return round(100 * (value - low) / max(high - low, 1), 2)

    lines = [
        {"image": row["image"], "drop": row["psnr_clean"] - row["psnr"] if panel.has_truth else None}
        | {name: row[name] if name in names else None for name in ("psnr", "psnr_clean", "psnr_input")}
        | {f"at_{name}": place(row[name]) if name in names else None for name in ("psnr", "psnr_clean", "psnr_input")}
        for row in rows
    ]
    return {
        "title": outcome.title,
        "low": low,
        "high": high,
        "parts": [lines[:_SHOWN_IMAGES], lines[_SHOWN_IMAGES:]],
    }


def _groups(cards: Iterable[gallery.Card]) -> list[dict[str, Any]]:
    """Cards of one image together."""
    return [
        {"data": data, "image": image, "cards": list(found)}
        for (data, image), found in groupby(cards, lambda card: (card.data, card.image))
    ]


def costs_of(victim: str, data: str, nfe: int, cells_of: Sequence[Outcome]) -> list[dict[str, Any]]:
    """What each attack cost an image on average over its budgets, and the largest memory peak.

    Args:
        nfe: model calls of the victim's defence for one image.
    """
    found = []
    # The budgets of one attack lie side by side.
    for (label, norm), cells in groupby(cells_of, lambda o: (o.cell.label, o.cell.attack.norm)):
        outcomes = list(cells)
        means = {
            name: _mean([outcome.summary[name] for outcome in outcomes])
            for name in ("forwards", "backwards", "queries")
        }
        peaks = [outcome.peak_bytes / 2**20 for outcome in outcomes if outcome.peak_bytes is not None]
        found.append(
            {
                "data": data,
                "restorer": victim,
                "attack": label,
                "norm": NORM_SIGNS[norm],
                "access": outcomes[0].summary["access"],
                "calls": nfe * (means["forwards"] or 0) if nfe and outcomes[0].cell.access != "blind" else 0,
                "seconds": _mean([outcome.seconds for outcome in outcomes]),
                "peak": max(peaks, default=None),
                **means,
            }
        )
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def source_of(run: Any, out: Path) -> dict[str, Any]:
    """Where a run's numbers come from: its command, config, versions and, linked by relative name, its files."""
    folder = Path(os.path.relpath(run.path.resolve(), out.resolve().parent))
    names = ("results.csv", "summary.csv", "timings.csv", "run.json", "config.yaml")
    return {
        "name": run.name,
        "facts": run.facts,
        "weights": run.fingerprint.get("weights", {}),
        "config": yaml.safe_dump(run.settings, sort_keys=False, allow_unicode=True),
        "files": [(name, quote((folder / name).as_posix())) for name in names],
    }

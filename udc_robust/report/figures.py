"""The tables of one victim: every cell in figures, the strongest attack at each budget, and image by image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from udc_robust.grid.task import Column, Row
from udc_robust.report.panel import Outcome, Panel
from udc_robust.report.words import number
from udc_robust.report.worst import hardest, strongest_outcomes

# Rows of the per-image table that are shown at once; the rest folds away.
_SHOWN_IMAGES = 16
# The last columns of a table, which the short one of the strongest attacks leaves out.
_NORMS = 2


def panel_tables(panel: Panel) -> dict[str, Any]:
    """What the page's sections show of one victim."""
    columns = [*panel.task.columns(panel), *_common(panel)]
    shown, folded = ([column for column in columns if column.folded == folds] for folds in (False, True))
    clean = [("clean", "clean", "none", panel.clean, None)]
    rows = clean + [_named(outcome) for outcome in panel.outcomes]
    return {
        "panel": panel,
        "verdict": panel.task.verdict(panel),
        "tiles": panel.task.tiles(panel),
        "heads": [column.head for column in shown],
        "rows": [_line(row, shown) for row in rows],
        "folded_heads": [column.head for column in folded],
        "folded_rows": [_line(row, folded) for row in rows] if folded else [],
        "strongest": [
            _line(_named(outcome), shown[:-_NORMS]) for outcome in strongest_outcomes(panel)
        ],
        "strongest_heads": [column.head for column in shown[:-_NORMS]],
        "ladders": [_ladder(panel, outcome) for outcome in hardest(panel)] if panel.task.quality.unit != "%" else [],
    }  # fmt: skip


def _named(outcome: Outcome) -> tuple[str, str, str, Row, Outcome | None]:
    kind, attack = ("noise", "random noise") if outcome.is_noise else ("attack", outcome.cell.label)
    return kind, attack, str(outcome.budget), outcome.summary, outcome


def _common(panel: Panel) -> list[Column]:
    """What every task's table says of an attack: how far it went, and how its gradient was taken."""
    linear = panel.stated_in == "linear"
    levels, unit = (1.0, "") if linear else (255.0, ", levels")
    found = [
        Column(
            "Mean L2, least to most",
            lambda row: number(row["l2"]) if row.get("l2") is not None else "0",
            lambda outcome: _l2_range(outcome, linear),
        ),
        Column(f"Mean L∞{unit}", lambda row: number(row["linf"] * levels, 1) if row.get("linf") is not None else "0"),
    ]
    if panel.defence != "none":
        found += [
            Column("EOT", lambda row: "" if row.get("eot") is None else number(row["eot"], 0), folded=True),
            Column("Gradient", lambda row: row.get("exactness") or "", folded=True),
        ]
    return found


def _l2_range(outcome: Outcome | None, linear: bool) -> str:
    """From the least to the most changed image; without a budget the norm is told by value too, where levels are."""
    if outcome is None:
        return ""
    sizes, rms = [row["l2"] for row in outcome.rows if row.get("l2") is not None], outcome.summary.get("rms")
    found = [f"{number(min(sizes))} to {number(max(sizes))}"] if sizes else []
    if rms is not None and math.isinf(outcome.cell.eps) and not linear:
        found.append(f"rms {number(rms * 255)} levels")
    return "; ".join(found)


def _line(row: tuple[str, str, str, Row, Outcome | None], columns: Sequence[Column]) -> dict[str, Any]:
    kind, attack, budget, summary, outcome = row
    cells = [(column.text(summary), column.small(outcome)) for column in columns]
    return {"kind": kind, "attack": attack, "budget": budget, "cells": cells}


def _ladder(panel: Panel, outcome: Outcome) -> dict[str, Any]:
    """Clean and attacked quality of each image, the worst first, with places in percent of a common axis."""
    name = panel.task.quality.name
    columns = (
        {"attacked": name, "clean": f"{name}_clean", "input": f"{name}_input"}
        if panel.has_truth
        else {"attacked": name}
    )
    rows = sorted(outcome.rows, key=lambda row: row[name])
    figures = [{role: row.get(column) for role, column in columns.items()} for row in rows]
    known = [value for row in figures for value in row.values() if value is not None and math.isfinite(value)]
    low, high = math.floor(min(known, default=0.0)), math.ceil(max(known, default=1.0))

    def place(value: float | None) -> float | None:
        if value is None or not math.isfinite(value):
            return None
        return round(100 * (value - low) / max(high - low, 1), 2)

    lines = [
        {"image": row["image"], "drop": row[columns["clean"]] - row[name] if panel.has_truth else None}
        | {role: found.get(role) for role in ("attacked", "clean", "input")}
        | {f"at_{role}": place(found.get(role)) for role in ("attacked", "clean", "input")}
        for row, found in zip(rows, figures, strict=True)
    ]
    unit = panel.task.quality.unit
    parts = [lines[:_SHOWN_IMAGES], lines[_SHOWN_IMAGES:]]
    return {"title": outcome.title, "low": low, "high": high, "unit": unit, "parts": parts}

"""What attacks cost: calls of the networks, seconds and memory."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from udc_robust.report.panel import Outcome, Panel


def costs(panel: Panel) -> list[dict[str, Any]]:
    """What each attack cost an image on average over its budgets, and the largest memory peak."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in panel.outcomes:
        groups.setdefault((outcome.cell.label, outcome.budget.sign), []).append(outcome)
    found = []
    for (label, norm), outcomes in groups.items():
        means = {
            name: _mean([outcome.summary[name] for outcome in outcomes])
            for name in ("forwards", "backwards", "queries")
        }
        peaks = [outcome.peak_bytes / 2**20 for outcome in outcomes if outcome.peak_bytes is not None]
        found.append(
            {
                "panel": panel,
                "attack": label,
                "norm": norm,
                "access": outcomes[0].cell.access,
                "calls": _calls(panel, outcomes[0], means["forwards"]),
                "seconds": _mean([outcome.seconds for outcome in outcomes]),
                "peak": max(peaks, default=None),
                **means,
            }
        )
    return found


def _calls(panel: Panel, outcome: Outcome, forwards: float | None) -> float:
    """Model calls of the defence; attackers who do not know it make none, nor do those of the sources of queries."""
    if outcome.cell.access == "query":
        return panel.nfe * float(outcome.summary["queries"] or 0)
    return panel.nfe * (forwards or 0) if outcome.cell.access not in ("blind", "transfer") else 0


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None

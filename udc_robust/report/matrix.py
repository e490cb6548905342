"""The matrix of a run whose networks all meet the same defences: who was trained on what, shown what.

After Liao & Huang (2020), who train and test on low resolution, strong compression and halftones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from udc_robust.grid.budget import Budget
from udc_robust.metrics import Metric
from udc_robust.names import NONE
from udc_robust.report.comparison import Comparison, Standing
from udc_robust.report.words import figure


@dataclass(frozen=True)
class Matrix:
    """Every network behind every defence.

    Attributes:
        network: what a network is called.
        columns: the defences.
        rows: each network, and its victims in the order of ``columns``.
        budgets: those at which every victim was attacked, by their places in each victim's ``held``.
    """

    data: str
    network: str
    metric: Metric
    columns: list[str]
    rows: list[tuple[str, list[Standing]]]
    budgets: list[tuple[int, Budget]]

    def verdict(self) -> str:
        """Who does best in each column, who over all of them, and who holds most at the middle budget."""
        columns = zip(*(victims for _, victims in self.rows), strict=True)
        best = [max(column, key=lambda s: self._good(s.clean)) for column in columns]
        told = ", ".join(f"{s.panel.network} {_place(s.panel.defence)} ({self._text(s.clean)})" for s in best)
        words = [f"Unattacked, the best are {told}, and over all columns {self._steadiest(lambda s: s.clean)}."]
        if self.budgets:
            at, budget = self.budgets[len(self.budgets) // 2]
            most = max((s for _, victims in self.rows for s in victims), key=lambda s: self._good(s.at(at).quality))
            words.append(
                f"Under all attacks at {budget}, {most.panel.network} {_place(most.panel.defence)} holds most "
                f"({self._text(most.at(at).quality)}), and over all columns "
                f"{self._steadiest(lambda s: s.at(at).quality)}."
            )
        return " ".join(words)

    def _steadiest(self, quality: Callable[[Standing], float]) -> str:
        """The network of the largest mean over the columns, in words."""
        found = [(name, [quality(s) for s in row]) for name, row in self.rows]
        name, values = max(found, key=lambda row: self._good(fmean(row[1])))
        return f"{name} ({self._text(fmean(values))} on average, {self._text(min(values, key=self._good))} at worst)"

    def _good(self, value: float) -> float:
        """Such that more of it is better."""
        return self.metric.better(value, 0.0)

    def _text(self, value: float) -> str:
        return figure(self.metric, value)


def matrix(found: Sequence[Comparison]) -> Matrix | None:
    """The matrix of one data block; None unless two or more networks each meet the same two or more defences."""
    standings = [standing for comparison in found for standing in comparison.standings]
    cells = {(s.panel.network, s.panel.defence): s for s in standings}
    rows, columns = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
    same = all(comparison.budgets == found[0].budgets for comparison in found)
    # Several runs may hold the same victim twice.
    if len(rows) < 2 or len(columns) < 2 or not len(rows) * len(columns) == len(cells) == len(standings) or not same:
        return None
    shared = [i for i in range(len(found[0].budgets)) if all(s.held[i] is not None for s in standings)]
    task = standings[0].panel.task
    return Matrix(
        found[0].data, task.network, task.quality, columns, [(row, [cells[row, c] for c in columns]) for row in rows],
        [(i, found[0].budgets[i]) for i in shared],
    )  # fmt: skip


def matrix_rows(found: Sequence[Matrix]) -> list[dict[str, object]]:
    """A row for each network and figure, a column for each defence."""
    made: list[dict[str, object]] = []
    for table in found:
        figures: dict[str, Callable[[Standing], object]] = {f"clean {table.metric.title}": lambda s: s.clean}
        for at, budget in table.budgets:
            figures[f"blind {budget}"] = lambda s, at=at: s.at(at).blind  # type: ignore[misc]
            figures[f"all attacks {budget}"] = lambda s, at=at: s.at(at).quality  # type: ignore[misc]
        for name, victims in table.rows:
            for title, value in figures.items():
                values = {s.panel.defence: value(s) for s in victims}
                made.append(
                    {"data": table.data, "metric": table.metric.name, "network": name, "figure": title, **values}
                )
    return made


def matrix_columns(found: Sequence[Matrix]) -> list[str]:
    """The columns of `matrix_rows`."""
    return [
        "data",
        "metric",
        "network",
        "figure",
        *dict.fromkeys(column for table in found for column in table.columns),
    ]


def column_name(defence: str) -> str:
    """A column as people read it."""
    return "as it is" if defence == NONE else defence


def _place(defence: str) -> str:
    return "on images as they are" if defence == NONE else f"behind {defence}"

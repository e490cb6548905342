"""The matrix of a study whose classifiers all meet the same defences: who was trained on what, shown what.

After Liao & Huang (2020), who train and test on low resolution, strong compression and halftones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from udc_robust.evaluation.classifying.robust import Held, Standing
from udc_robust.evaluation.verdict import number
from udc_robust.evaluation.victims import NONE


@dataclass(frozen=True)
class Matrix:
    """Every classifier behind every defence.

    Attributes:
        columns: the defences.
        rows: each classifier, and its victims in the order of ``columns``.
        signs: the budgets as people write them; every victim has a `Held` at each.
    """

    data: str
    columns: list[str]
    rows: list[tuple[str, list[Standing]]]
    signs: list[str]

    def verdict(self) -> str:
        """Who reads each column best, who reads all of them best, and who holds most at the middle budget."""
        columns = zip(*(victims for _, victims in self.rows), strict=True)
        best = [max(column, key=lambda s: s.clean) for column in columns]
        told = ", ".join(f"{s.panel.classifier} {_place(s.panel.defence)} ({_percent(s.clean)})" for s in best)
        words = [f"Unattacked, the best are {told}, and over all columns {self._steadiest(lambda s: s.clean)}."]
        if self.signs:
            at = len(self.signs) // 2
            most = max((s for _, victims in self.rows for s in victims), key=lambda s: held_at(s, at).accuracy)
            words.append(
                f"Under all attacks at {self.signs[at]}, {most.panel.classifier} {_place(most.panel.defence)} holds "
                f"most ({_percent(held_at(most, at).accuracy)}), and over all columns "
                f"{self._steadiest(lambda s: held_at(s, at).accuracy)}."
            )
        return " ".join(words)

    def _steadiest(self, share: Callable[[Standing], float]) -> str:
        """The classifier of the largest mean over the columns, in words."""
        name, shares = max(((n, [share(s) for s in row]) for n, row in self.rows), key=lambda row: fmean(row[1]))
        return f"{name} ({_percent(fmean(shares))} on average, {_percent(min(shares))} at worst)"


def matrix(data: str, found: Sequence[Standing], signs: Sequence[str]) -> Matrix | None:
    """The matrix of one data block; None unless two or more classifiers each meet the same two or more defences."""
    cells = {(s.panel.classifier, s.panel.defence): s for s in found}
    rows, columns = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
    # Several runs may hold the same victim twice.
    if len(rows) < 2 or len(columns) < 2 or not len(rows) * len(columns) == len(cells) == len(found):
        return None
    complete = all(held is not None for s in found for held in s.held)
    return Matrix(
        data, columns, [(row, [cells[row, c] for c in columns]) for row in rows], [*signs] if complete else []
    )


def matrix_rows(found: Sequence[Matrix]) -> list[dict[str, object]]:
    """A row for each classifier and figure, a column for each defence; shares in [0,1]."""
    made: list[dict[str, object]] = []
    for table in found:
        figures: dict[str, Callable[[Standing], object]] = {"clean top-1": lambda s: s.clean}
        figures["clean top-5"] = lambda s: s.panel.clean["top5"]
        for at, sign in enumerate(table.signs):
            figures[f"blind {sign}"] = lambda s, at=at: held_at(s, at).blind  # type: ignore[misc]
            figures[f"all attacks {sign}"] = lambda s, at=at: held_at(s, at).accuracy  # type: ignore[misc]
        for name, victims in table.rows:
            for figure, value in figures.items():
                shares = {s.panel.defence: value(s) for s in victims}
                made.append({"data": table.data, "classifier": name, "figure": figure, **shares})
    return made


def matrix_columns(found: Sequence[Matrix]) -> list[str]:
    """The columns of `matrix_rows`."""
    return ["data", "classifier", "figure", *dict.fromkeys(column for table in found for column in table.columns)]


def held_at(standing: Standing, at: int) -> Held:
    """What a victim holds at a budget at which it was attacked."""
    held = standing.held[at]
    assert held is not None
    return held


def column_name(defence: str) -> str:
    """A column as people read it."""
    return "as it is" if defence == NONE else defence


def _place(defence: str) -> str:
    return "on images as they are" if defence == NONE else f"behind {defence}"


def _percent(share: float) -> str:
    return f"{number(100 * share, 0)} %"

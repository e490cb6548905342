"""The victims of a run on all of its data blocks together: what evidence from several sources adds up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from udc_robust.grid.tables import BAD, mean_of
from udc_robust.grid.task import Row, Task
from udc_robust.report.panel import Outcome, Panel


def pooled(panels: Sequence[Panel]) -> list[Panel]:
    """One panel a victim that met several data blocks with targets and budgets of one kind: each image counts once.

    Blocks are of one kind where they have one colour domain and are attacked in the same place, capture or scene.
    Images keep their scenes; those of two blocks are never of one.
    """
    groups: dict[tuple[str, str], list[Panel]] = {}
    for panel in panels:
        groups.setdefault((str(panel.folder), panel.label), []).append(panel)
    found = []
    for group in groups.values():
        if len({panel.data for panel in group}) > 1 and _alike(group):
            together = _together(group, _name(group, panels))
            found += [together] if together.outcomes else []  # nothing attacked all of them: nothing to add up
    return found


def told_together(panels: Sequence[Panel]) -> list[Panel]:
    """Each victim once: on all of its data blocks where they can be added up, else on each; for a sentence on top."""
    together = pooled(panels)
    added_up = {(panel.folder, panel.label) for panel in together}
    return [*together, *(panel for panel in panels if (panel.folder, panel.label) not in added_up)]


def _alike(group: Sequence[Panel]) -> bool:
    kinds = {(panel.images["domain"], panel.images.get("space"), panel.stated_in) for panel in group}
    return len(kinds) == 1 and all(panel.has_truth for panel in group)


def _name(group: Sequence[Panel], panels: Sequence[Panel]) -> str:
    """What the data of a victim is called: by its blocks where those are not all of the run."""
    mine = dict.fromkeys(panel.data for panel in group)
    every = {panel.data for panel in panels if panel.folder == group[0].folder}
    return f"all {len(mine)} sets" if len(mine) == len(every) else " and ".join(mine)


def _together(group: Sequence[Panel], name: str) -> Panel:
    first = group[0]
    scenes = {
        _named(panel, row["image"]): _named(panel, panel.scenes.get(row["image"], row["image"]))
        for panel in group
        for row in panel.clean_rows
    }
    clean = [row for panel in group for row in _rows(panel, panel.clean_rows)]
    outcomes = []
    for one in first.outcomes:
        same = [next((o for o in panel.outcomes if _same(o, one)), None) for panel in group]
        if None not in same:
            rows = [row for p, o in zip(group, same, strict=True) if o is not None for row in _rows(p, o.rows)]
            outcomes.append(
                replace(one, summary=_summary(first.task, rows, one.summary), rows=rows, asked=(), scenes=scenes)
            )
    images = {**first.images, "images": len(clean), "scenes": scenes}
    return replace(
        first, data=name, images=images, clean=_summary(first.task, clean, first.clean), clean_rows=clean,
        outcomes=outcomes, corruptions=(),
    )  # fmt: skip


def _same(a: Outcome, b: Outcome) -> bool:
    return a.cell.label == b.cell.label and a.budget == b.budget


def _named(panel: Panel, image: str) -> str:
    return f"{panel.data}: {image}"


def _rows(panel: Panel, rows: Sequence[Row]) -> list[Row]:
    return [{**row, "image": _named(panel, row["image"])} for row in rows]


def _summary(task: Task, rows: Sequence[Row], one: Row) -> Row:
    """What a run's own summary of a cell would say of all these images; ``one`` set's says what the cell is."""
    made: dict[str, Any] = dict(one)
    for name in rows[0]:
        values = [row.get(name) for row in rows]
        if name in one and all(isinstance(value, float | None) for value in values):
            made[name] = mean_of(values)
    known = [{name: value for name, value in row.items() if value is not None} for row in rows]
    bad = sum(row.get(BAD) or 0 for row in rows)
    return {**made, **task.summarise(known), "images": len(rows), BAD: bad}

"""The leaderboard's rows: what each victim of some finished runs holds, in a form that others can hand in.

The JSON file that the leaderboard writes is the form: whoever has no run folder here sends that file, see `board_file`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Literal, cast

from pydantic import AfterValidator, Field

from udc_robust.config_file import Strict
from udc_robust.errors import UserError
from udc_robust.grid.budget import Budget
from udc_robust.grid.identity import digest
from udc_robust.grid.statistics import mean_interval
from udc_robust.metrics import Metric
from udc_robust.metrics.records import BESIDE
from udc_robust.names import Domain, Norm
from udc_robust.portable import portable
from udc_robust.report.flags import red_flags
from udc_robust.report.panel import Panel
from udc_robust.report.run_folder import Run
from udc_robust.report.worst import attacked_at, held, strongest, worst_by_image

FORMAT: Literal["udc_robust leaderboard 1"] = "udc_robust leaderboard 1"
CAP = "brightness"
"""The attack whose damage no restorer faithful to brightness can avoid: two queries."""
_LINK = re.compile(r"https://[^\s\"'<>]+|(?!/)[^:\s\"'<>\\]+\.html")


def _travels(text: str) -> str:
    if portable(text) != text:
        raise ValueError(f"{text[:80]!r} names a place on somebody's machine: write it relative")
    return text


def _link(text: str) -> str:
    if text and not _LINK.fullmatch(text):
        raise ValueError(f"{text[:80]!r} must be https://... or the relative path of an .html file")
    return text


Text = Annotated[str, AfterValidator(_travels), Field(max_length=2000)]
Figure = Annotated[float, Field(allow_inf_nan=False)]
Figures = dict[str, Figure]


class Held(Strict):
    """What is left at one budget under the worst of all attacks on each image, the mean over images.

    Attributes:
        held: by metric, each under the attack that is the worst for it, in the unit that people read.
        low, high: 95 % interval of the quality; None for too few images.
        cap: what two queries of brightness leave of the undefended network, which no faithful one can exceed.
        closable: share of the gap from what it holds undefended to the cap that is closed.
        why: of the two, where there is none.
    """

    norm: Norm
    eps: Annotated[float, Field(gt=0, allow_inf_nan=False), AfterValidator(lambda eps: float(f"{eps:.7g}"))]
    held: Figures
    low: Figure | None = None
    high: Figure | None = None
    strongest: Text
    cap: Figure | None = None
    closable: Figure | None = None
    why: Text = ""

    @property
    def budget(self) -> Budget:
        """Norm and eps."""
        return Budget(self.norm, self.eps)


class Entry(Strict):
    """One victim on the images of one data block.

    Attributes:
        run: name of the run; ``command``: that made it; ``report``: its page, https or relative; may be empty.
        nfe: model calls of the defence for one answer.
        clean: unattacked, by metric.
        raised: names of the red flags; ``unmeasured``: how many could not be told.
    """

    run: Text
    data: Text
    victim: Text
    network: Text
    defence: Text
    role: Literal["defence", "control"]
    trained: bool
    nfe: Annotated[int, Field(ge=0)]
    clean: Figures
    held: Annotated[list[Held], Field(min_length=1)]
    raised: list[Text]
    unmeasured: Annotated[int, Field(ge=0)]
    version: Text
    seed: int
    command: Text
    report: Annotated[Text, AfterValidator(_link)] = ""


class Data(Strict):
    """The images of one data block."""

    name: Text
    images: Annotated[int, Field(gt=0)]
    domain: Domain


class Board(Strict):
    """Rows that may be compared: one task, preset and set of images.

    Attributes:
        digest: of all images, truths and labels.
    """

    format: Literal["udc_robust leaderboard 1"]
    task: str
    preset: Text
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    data: Annotated[list[Data], Field(min_length=1)]
    rows: Annotated[list[Entry], Field(min_length=1)]


def of_run(run: Run, page: Path) -> Board:
    """The victims of a finished run, in the task's quality and in those figures of ours that the run has.

    Args:
        page: the leaderboard's HTML file, from which reports are linked.

    Raises:
        UserError: answers that are measured against no target, or no attack of a limited budget.
    """
    panels = list(run.panels())
    for panel in panels:
        if not panel.has_truth:
            raise UserError(f"{run.path}: {panel.data} has no ground truth, so its victims cannot be ranked")
    rows = [_entry(run, panel, panels, way_to(run.path / "report.html", page)) for panel in panels]
    if not any(row.held for row in rows):
        raise UserError(f"{run.path} has no attack of a limited budget, so nothing is held")
    about = run.facts["data"]
    return Board(
        format=FORMAT, task=run.task.name, preset=run.facts.get("preset") or "none",
        # The embedded photographs are the same behind every display.
        digest=digest([run.fingerprint.get("images"), [block.get("psf") for block in run.settings["data"]]]),
        data=[Data(name=portable(n), images=found["images"], domain=found["domain"]) for n, found in about.items()],
        rows=[row for row in rows if row.held],
    )  # fmt: skip


def _entry(run: Run, panel: Panel, panels: Sequence[Panel], report: str) -> Entry:
    known = [m for m in panel.metrics if m.name in BESIDE and panel.has(m)]
    shown = [panel.task.quality, *known]
    flags = red_flags(panel)
    baseline = next((p for p in panels if p.is_baseline and (p.data, p.family) == (panel.data, panel.family)), None)
    budgets = sorted(attacked_at(panel), key=lambda budget: (budget.norm, budget.eps))
    # Not validated: a victim may have met no attack, and is then left out.
    return Entry.model_construct(
        run=portable(run.name), data=portable(panel.data), victim=portable(panel.label),
        network=portable(panel.network), defence=portable(panel.defence), trained=panel.trained, nfe=panel.nfe,
        role="control" if panel.is_control else "defence",
        clean={m.name: fmean(m.factor * row[m.name] for row in panel.clean_rows) for m in shown},
        held=[_held(panel, baseline, budget, shown) for budget in budgets],
        raised=[flag.name for flag in flags if flag.state == "raised"],
        unmeasured=sum(flag.state == "not measured" for flag in flags),
        version=run.facts["versions"]["udc_robust"], seed=run.facts["seed"], command=portable(run.facts["command"]),
        report=report,
    )  # fmt: skip


def _held(panel: Panel, baseline: Panel | None, budget: Budget, metrics: Sequence[Metric]) -> Held:
    worst, judged = worst_by_image(panel, budget), {metric: panel.judged_by(metric) for metric in metrics}
    low, high = mean_interval([one.figure for one in worst.values()]) or (None, None)
    cap, share, why = _closable(held(worst), baseline, budget)
    return Held(
        norm=cast(Norm, budget.norm), eps=budget.eps, low=low, high=high, strongest=strongest(worst), cap=cap,
        closable=share, why=why,
        held={m.name: held(worst_by_image(seen, budget)) for m, seen in judged.items() if budget in attacked_at(seen)},
    )  # fmt: skip


def _closable(left: float, baseline: Panel | None, budget: Budget) -> tuple[float | None, float | None, str]:
    """The cap, how much of the gap to it is closed, or why one of them cannot be told."""
    if baseline is None:
        return None, None, "the undefended network is not in the run"
    if not any(o.cell.attack.method == CAP and o.budget == budget for o in baseline.outcomes):
        return None, None, f"no {CAP} attack at {budget} on the undefended network"
    bare = held(worst_by_image(baseline, budget))
    cap = held(worst_by_image(baseline, budget, wanted=lambda o: o.cell.attack.method == CAP and o.budget == budget))
    if cap - bare <= 0:
        return cap, None, f"nothing to close: undefended it holds what {CAP} leaves"
    return cap, (left - bare) / (cap - bare), ""


def way_to(report: Path, page: Path) -> str:
    """The way from a page to a report; empty where there is none, or where it would tell whose machine this is."""
    here = Path.cwd().resolve()
    inside = all(path.resolve().is_relative_to(here) for path in (report, page))
    way = Path(os.path.relpath(report.resolve(), page.resolve().parent)).as_posix()
    told = _LINK.fullmatch(way) and (inside or not way.startswith(".."))
    return way if report.is_file() and told else ""

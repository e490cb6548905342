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
from udc_robust.metrics import Metric
from udc_robust.metrics.records import BESIDE
from udc_robust.names import Domain, Norm
from udc_robust.portable import portable
from udc_robust.report import comparison
from udc_robust.report.comparison import CAPS, Comparison, Standing, comparisons
from udc_robust.report.flags import red_flags
from udc_robust.report.run_folder import Run
from udc_robust.report.worst import attacked_at, held, worst_by_image

FORMAT: Literal["udc_robust leaderboard 1"] = "udc_robust leaderboard 1"
NO_PRESET = "none"
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
        cap: what shifts of brightness leave of the undefended network, see `comparison.CAPS`.
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
    report = way_to(run.path / "report.html", page)
    rows = [
        _entry(run, standing, found, report)
        for found in comparisons(panels)
        for standing in found.standings
        if any(standing.held)
    ]
    if not rows:
        raise UserError(f"{run.path} has no attack of a limited budget, so nothing is held")
    about = run.facts["data"]
    return Board(
        format=FORMAT, task=run.task.name, preset=run.facts.get("preset") or NO_PRESET,
        digest=run.images,
        data=[Data(name=portable(n), images=found["images"], domain=found["domain"]) for n, found in about.items()],
        rows=rows,
    )  # fmt: skip


def _entry(run: Run, standing: Standing, found: Comparison, report: str) -> Entry:
    panel = standing.panel
    known = [m for m in panel.metrics if m.name in BESIDE and panel.has(m)]
    flags = red_flags(panel)
    return Entry(
        run=portable(run.name), data=portable(panel.data), victim=portable(panel.label),
        network=portable(panel.network), defence=portable(panel.defence), trained=panel.trained, nfe=panel.nfe,
        role="control" if panel.is_control else "defence",
        clean={m.name: fmean(m.factor * row[m.name] for row in panel.clean_rows) for m in (panel.task.quality, *known)},
        held=[
            _held(standing, found, budget, one, known)
            for budget, one in zip(found.budgets, standing.held, strict=True)
            if one is not None
        ],
        raised=[flag.name for flag in flags if flag.state == "raised"],
        unmeasured=sum(flag.state == "not measured" for flag in flags),
        version=run.facts["versions"]["udc_robust"], seed=run.facts["seed"], command=portable(run.facts["command"]),
        report=report,
    )  # fmt: skip


def _held(standing: Standing, found: Comparison, budget: Budget, one: comparison.Held, known: Sequence[Metric]) -> Held:
    low, high = one.interval or (None, None)
    seen = {metric.name: standing.panel.judged_by(metric) for metric in known}
    others = {name: held(worst_by_image(p, budget)) for name, p in seen.items() if budget in attacked_at(p)}
    return Held(
        norm=cast(Norm, budget.norm), eps=budget.eps, held={found.metric.name: one.quality, **others}, low=low,
        high=high, strongest=portable(one.strongest), cap=one.cap, closable=one.share,
        why=_why(standing, found, budget, one),
    )  # fmt: skip


def _why(standing: Standing, found: Comparison, budget: Budget, one: comparison.Held) -> str:
    """Why there is no share of the gap to the cap; empty where there is one."""
    if one.share is not None:
        return ""
    if not found.standings[0].panel.is_baseline:
        return "the undefended network is not in the run"
    if one.cap is None:
        return f"no {' or '.join(CAPS)} attack at {budget} on the undefended network"
    return "the undefended network itself" if standing.panel.is_baseline else "no gap to close"


def way_to(report: Path, page: Path) -> str:
    """The way from a page to a report; empty where there is none, or where it would tell whose machine this is."""
    here = Path.cwd().resolve()
    inside = all(path.resolve().is_relative_to(here) for path in (report, page))
    way = Path(os.path.relpath(report.resolve(), page.resolve().parent)).as_posix()
    told = _LINK.fullmatch(way) and (inside or not way.startswith(".."))
    return way if report.is_file() and told else ""

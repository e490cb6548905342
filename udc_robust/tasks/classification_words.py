"""The words of a classification report: headline, verdict on a classifier, columns and glossary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from udc_robust.grid.statistics import mean_interval
from udc_robust.grid.task import Column, Row, Tile
from udc_robust.metrics import records
from udc_robust.report.comparison import Comparison
from udc_robust.report.panel import Outcome, Panel
from udc_robust.report.pooled import told_together
from udc_robust.report.words import percent
from udc_robust.report.worst import hardest, held, worst_by_image


def headline(panels: Sequence[Panel], compared: Sequence[Comparison]) -> str:
    """How many answers survive the worst attacks."""
    rated = [(outcome, panel) for panel in told_together(panels) for outcome in hardest(panel)]
    if not rated:
        return "How many images small perturbations make these classifiers take for something else."
    outcome, panel = min(rated, key=lambda pair: pair[0].left)
    left = held(worst_by_image(panel, outcome.budget))
    return (
        f"Under all attacks of {outcome.budget} {panel.label} holds {left:.0f} % of the images of {panel.data}, of "
        f"{percent(panel.clean['top1'])} unattacked."
    )


def verdict(panel: Panel) -> str:
    """A paragraph about one victim on one data block."""
    parts = [f"Unattacked, {percent(panel.clean['top1'])} of the images are classified rightly."]
    for outcome in hardest(panel):
        row = outcome.summary
        noise = (
            "" if row["top1_noise"] is None else f", where noise of the same norm leaves {percent(row['top1_noise'])}"
        )
        parts.append(
            f"At {outcome.budget} the strongest attack, {outcome.cell.label}, leaves {percent(row['top1'])}{noise}."
        )
    return " ".join(parts)


def tiles(panel: Panel) -> list[Tile]:
    """The figures that a reader looks for first."""
    found = [Tile("Right, unattacked", f"{100 * panel.clean['top1']:.0f}", "%")]
    for outcome in hardest(panel):
        left = held(worst_by_image(panel, outcome.budget))
        found.append(Tile(f"Right under all attacks of {outcome.budget}", f"{left:.0f}", "%", hit=True))
    return found


def columns(panel: Panel) -> list[Column]:
    """Of the table of all figures."""

    def of(name: str, head: str, folded: bool = False) -> Column:
        return Column(head, lambda row: percent(row.get(name)), folded=folded)

    found = [
        Column("Top-1 (95 %)", lambda row: percent(row["top1"]), _interval),
        of("top1_noise", "Noise of its norm"),
    ]
    if len(panel.images["classes"]) > 5:
        found += [of("top5", "Top-5"), of("top5_noise", "Noise of its norm, top-5")]
    found.append(of("ece", "ECE", folded=True))
    if panel.random:
        draws = round(panel.clean["draws"])
        found += [of("top1_one_draw", f"One of {draws} answers"), of("top1_worst_draw", "All of them")]
    return found


def _interval(outcome: Outcome | None) -> str:
    if outcome is None or (interval := mean_interval([row["top1"] for row in outcome.rows])) is None:
        return ""
    return f"{100 * interval[0]:.0f} to {100 * interval[1]:.0f}"


def answer(panel: Panel, row: Row) -> str:
    """What an image was taken for."""
    classes, found = panel.images["classes"], int(row["answer"])
    name = classes[found] if found < len(classes) else f"class {found}"
    return f"taken for {name}{'' if row['top1'] else ' (wrong)'}"


def notes(panels: Sequence[Panel]) -> list[str]:
    """What eps is stated in, and how random defences vote."""
    found = ["Budgets (eps) are stated in sRGB values in [0,1], as in an 8-bit file."]
    draws = max((round(panel.clean["draws"]) for panel in panels if panel.random), default=1)
    if draws > 1:
        found.append(
            f"Of a random defence the averaged scores of {draws} answers vote; beside are the share of single answers "
            "that are right and of images on which none was wrong."
        )
    return found


GLOSSARY: Mapping[str, str] = {
    records.TOP1.title: records.TOP1.words,
    records.TOP5.title: records.TOP5.words,
    "Noise of its norm": "Share that is right under random noise of each image's own attack norm: what is lost there "
    "is not adversarial.",
    "Answers of a random defence": "It answers differently each time: of `draws` answers the averaged scores vote; "
    "beside them the share of single answers that are right, and of images on which all are.",
    "ECE": "Expected calibration error: how far the probability of answers is from the share that is right, in 15 "
    "bins; 0 is best, and few images make it larger (Guo et al. 2017).",
    "AUAC": "Area under the accuracy curve: mean accuracy over the budgets from 0 (Bouniot et al. 2021).",
}

"""The words of a detection report: headline, verdict on a detector, columns and glossary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from udc_robust.grid.task import Column, Row, Tile
from udc_robust.metrics.detection import auroc_interval
from udc_robust.report.comparison import Comparison
from udc_robust.report.panel import Outcome, Panel
from udc_robust.report.words import percent


def attacks_of(panel: Panel, knows: bool) -> list[Outcome]:
    """The attacks of limited budgets that know the detector, or those that do not."""
    return [
        outcome for outcome in panel.outcomes
        if outcome.counts and outcome.cell.attack.objective.endswith("+undetected") == knows
    ]  # fmt: skip


def least_seen(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The attack that a detector tells from clean images worst."""
    return min(outcomes, key=lambda outcome: outcome.summary["auroc"], default=None)


def area(panel: Panel, outcome: Outcome) -> str:
    """An AUROC with its interval."""
    interval = _interval(panel, outcome)
    return f"{outcome.summary['auroc']:.2f}" + (f" ({interval})" if interval else "")


def _interval(panel: Panel, outcome: Outcome | None) -> str:
    """Of the AUROC, at 95 %; crops of a scene count together."""
    if outcome is None:
        return ""
    scenes = [panel.scenes.get(row["image"], row["image"]) for row in outcome.rows]
    after, before = ([row[name] for row in outcome.rows] for name in ("score", "score_clean"))
    found = auroc_interval(after, before, scenes)
    return "" if found is None else f"{found[0]:.2f} to {found[1]:.2f}"


def headline(panels: Sequence[Panel], compared: Sequence[Comparison]) -> str:
    """What detectors see of those who know them."""
    known = [(outcome, panel) for panel in panels if _watches(panel) for outcome in attacks_of(panel, True)]
    if not known:
        return "How well detectors tell attacked images from clean ones, by attackers who do not know them."
    worst = [min((o for o, p in known if p is panel), key=lambda o: o.summary["auroc"]) for panel in _panels(known)]
    best, panel = max(zip(worst, _panels(known), strict=True), key=lambda pair: pair[0].summary["auroc"])
    return (
        f"Of attackers who know them the detector that still sees most is {panel.label}: AUROC {area(panel, best)} "
        f"under {best.title}; 0.5 is guessing."
    )


def _panels(known: Sequence[tuple[Outcome, Panel]]) -> list[Panel]:
    return list({id(panel): panel for _, panel in known}.values())


def _watches(panel: Panel) -> bool:
    return any(row["score"] for row in panel.clean_rows)


def verdict(panel: Panel) -> str:
    """A paragraph about one detector on one data block."""
    if not _watches(panel):
        return "Nothing watches: what is safe here is what the network holds by itself."
    parts = [f"It flags {percent(panel.clean['flagged_5'])} of the images that nobody attacked, at a level for 5 %."]
    for knows, who in ((False, "who do not know it"), (True, "who know it")):
        hardest = least_seen(attacks_of(panel, knows))
        if hardest is not None:
            caught = hardest.summary["caught_5"]
            told = "it broke none" if caught is None else f"{percent(caught)} of what it broke is flagged"
            parts.append(f"Of attackers {who} it sees {hardest.title} least: AUROC {area(panel, hardest)}, {told}.")
    return " ".join(parts)


def tiles(panel: Panel) -> list[Tile]:
    """The figures that a reader looks for first."""
    found = [Tile("False alarms at the 5 % level", f"{100 * panel.clean['flagged_5']:.0f}", "%")]
    for knows, who in ((False, "who do not know it"), (True, "who know it")):
        hardest = least_seen(attacks_of(panel, knows))
        if hardest is not None:
            found.append(Tile(f"Least AUROC of attackers {who}", f"{hardest.summary['auroc']:.2f}", hit=True))
    return found


def columns(panel: Panel) -> list[Column]:
    """Of the table of all figures."""

    def of(name: str, head: str, folded: bool = False) -> Column:
        return Column(head, lambda row: percent(row.get(name)), folded=folded)

    return [
        Column("AUROC (95 %)", lambda row: _two(row, "auroc"), lambda outcome: _interval(panel, outcome)),
        Column("Noise of its norm", lambda row: _two(row, "auroc_noise")),
        of("flagged_5", "Flagged at 5 %"),
        of("flagged_1", "Flagged at 1 %"),
        of("caught_5", "Of those it broke"),
        of("holds", "Answer holds"),
        of("safe", "Safe"),
    ]


def _two(row: Row, name: str) -> str:
    return "" if row.get(name) is None else f"{row[name]:.2f}"


def answer(panel: Panel, row: Row) -> str:
    """What stands below an image."""
    return f"score {row['score']:.2f}, {'flagged' if row['flagged_5'] else 'not flagged'}"


def notes(panels: Sequence[Panel]) -> list[str]:
    """What the levels were set on, and who knows what."""
    found = [
        "Levels of false alarms were set on clean images that are not among those judged; the first column compares "
        "the scores of each image after and before the attack.",
        "Attacks named undetected know the detector: they climb their objective less its score. All others do not.",
    ]
    if any(row.get("flagged_1") is None for panel in panels for row in panel.clean_rows):
        found.append("A level of 1 % needs 99 held-out clean images: this run has fewer for some detector.")
    return found


GLOSSARY: Mapping[str, str] = {
    "AUROC": "Chance that an attacked image scores above a clean one; 0.5 is guessing, 1 tells all. DeLong's 95 % "
    "interval, the two scores of an image taken together.",
    "Noise of its norm": "The same for random noise of each attack's own norm: what is seen there is no attack.",
    "Flagged": "Share of images above the level that 5 % (1 %) of held-out clean images exceed.",
    "Of those it broke": "Share of the images whose answer the attack broke that were flagged: what a detector is for.",
    "Safe": "Share of images whose answer held or that were flagged at 5 %.",
}

"""Figures as people read them, and the sentences that every task's report shares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from udc_robust.grid.statistics import Interval
from udc_robust.metrics import Metric
from udc_robust.report.panel import Panel
from udc_robust.report.run_folder import Run

_MINUS = "\N{MINUS SIGN}"
NO_ATTACK = "No attack of this run has a limited budget."


GLOSSARY: Mapping[str, str] = {
    "Held": "In the unit of quality: the mean over images of the worst that any attack leaves whose measured change "
    "fits the budget; at most what is left without an attack. Rank victims by it.",
    "Clean, clean cost": "Quality without an attack, and what a defence or a hardening takes from it: the price of "
    "what is held more.",
    "Gain": "What is held more than by the same network undefended (a fine-tuned one: than by its parent), image by "
    "image, at 95 %. An interval that holds 0 shows nothing: take more images.",
    "Access": "What the attacker knows: blind the bare network, bpda the defence taken for the identity, surrogate a "
    "stand-in, adaptive its best gradient, jitter the mean of several places near by, query answers only. Believe a "
    "defence by its lowest figure, not by blind.",
    "Area": "Mean quality over eps from 0 to the largest budget that all victims met, in the unit of quality: one "
    "number for a victim. Compare areas of the same budgets only.",
    "Mean L2, mean L∞": "How far the attack really went: the norm of the change of the whole image in values of [0,1], "
    "with the least and the most changed image, and the largest change of a value in levels. Far below the budget: "
    "the attack stopped early, give it more steps.",
    "EOT, gradient": "How many answers of a random defence were averaged for each gradient, and how exact that "
    "gradient is. An approximate one makes the figure an upper bound.",
    "Model calls": "Forward passes of the defence's own network for one answer: what it costs to deploy.",
    "Forwards, backwards, queries": "Per image, of the network under attack: what the attack cost. Queries are answers "
    "without a gradient.",
    "Levels": "Differences of 1/255; rms is the root mean square over all values of an image.",
}
"""What every task's figures mean, with their unit and what to do with them."""


def number(value: float | None, digits: int = 2) -> str:
    """A figure for people: ``n/a`` where there is none, ``∞`` for identical images, a true minus sign."""
    if value is None or math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    text = f"{value:.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text.replace("-", _MINUS)


def figure(metric: Metric, value: float | None) -> str:
    """A figure with its unit, in that unit already: ``24.95 dB``, ``62 %``."""
    return f"{number(value, metric.digits)} {metric.unit}".rstrip()


def difference(metric: Metric, value: float) -> str:
    """A difference of two figures, without its sign: ``1.49 dB``, ``4 points``."""
    unit = {"%": "points"}.get(metric.unit, metric.unit)
    return f"{number(abs(value), metric.digits)} {unit}".rstrip()


def signed(value: float, digits: int) -> str:
    """A gain with its sign."""
    return ("+" if value > 0 else "") + number(value, digits)


def span(interval: Interval, digits: int) -> str:
    """An interval in words; empty where there is none."""
    return f"{number(interval[0], digits)} to {number(interval[1], digits)}" if interval else ""


def bracketed(interval: Interval, digits: int) -> str:
    """The same in brackets, after a space."""
    return f" ({span(interval, digits)})" if interval else ""


def percent(share: float | None) -> str:
    """A share of images."""
    return "n/a" if share is None else f"{100 * share:.0f} %"


def count(share: float | None, images: float) -> str:
    """``3 of 8`` from a share of images."""
    return "n/a" if share is None else f"{round(share * images)} of {round(images)}"


def warnings(runs: Sequence[Run], panels: Sequence[Panel]) -> list[str]:
    """What a reader must know before believing the numbers, each once."""
    found = [
        f"{panel.label}: untrained, random weights. Its figures show that the code runs and nothing else."
        for panel in panels
        if not panel.trained
    ]
    for panel in panels:
        bad = sum(outcome.summary["bad_gradients"] or 0 for outcome in panel.outcomes)
        if bad:
            found.append(
                f"{panel.label} on {panel.data}: {bad:.0f} gradients were zero or not finite, so its attacks were "
                "weaker than they look. A defence that breaks gradients is not a robust one."
            )
        images, scenes = len(panel.clean_rows), panel.scene_count
        if scenes < panel.task.few_images:
            what = "image" if scenes == images else f"scene (of {images} images)" if scenes == 1 else "scene"
            plural = f"{what} is" if scenes == 1 else f"{what}s are"
            advice = "Read the intervals, not the second decimal" if scenes > 2 else "Other images may tell otherwise"
            found.append(f"{panel.data}: {scenes} {plural} few. {advice}.")
    networks = ((name, about) for run in runs for name, about in run.facts["networks"].items())
    found += [f"{name}: {about['told']}." for name, about in networks if about.get("told")]
    found += [f"LPIPS is n/a: {run.facts['missing']}." for run in runs if run.facts.get("missing")]
    return list(dict.fromkeys([*found, *_other_images(runs)]))


def _other_images(runs: Iterable[Run]) -> list[str]:
    """A warning where runs of one task that are shown together were not made on the same images."""
    seen: dict[str, set[str]] = {}
    for run in runs:
        seen.setdefault(run.task.name, set()).add(run.images)
    if all(len(images) < 2 for images in seen.values()):
        return []
    return ["These runs did not use the same images, so their figures must not be compared directly."]

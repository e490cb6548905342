"""What a run found, in words: the headline, a verdict on each restorer, and the warnings that belong beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from udc_robust.evaluation.run_folder import NORM_SIGNS, Outcome, Panel, Run

# An image set under this size says little about another one.
FEW_IMAGES = 20
_MINUS = "\N{MINUS SIGN}"
_UNITS = {
    "tonemapped": "tone-mapped values x/(x+0.25) in [0,1]",
    "srgb": "sRGB values in [0,1], as in an 8-bit file",
    "linear": "linear radiance, 0 to 500",
}


@dataclass(frozen=True)
class Strongest:
    """The most damaging attack at one budget, with the uncertainty of its mean drop."""

    outcome: Outcome
    interval: tuple[float, float] | None


def number(value: float | None, digits: int = 2) -> str:
    """A figure for people: ``n/a`` where there is none, ``∞`` for identical images, a true minus sign."""
    if value is None or math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    text = f"{value:.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text.replace("-", _MINUS)


def mean_interval(values: Sequence[float], draws: int = 4000) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of the mean (Efron 1979), always with the same seed; None under 3 values."""
    if len(values) < 3 or not all(map(math.isfinite, values)):
        return None
    data = np.asarray(values)
    picks = np.random.default_rng(0).integers(len(data), size=(draws, len(data)))
    low, high = np.percentile(data[picks].mean(1), [2.5, 97.5])
    return float(low), float(high)


def drop_interval(outcome: Outcome) -> tuple[float, float] | None:
    """Interval of the mean drop over the images; None without ground truth."""
    if outcome.summary["drop"] is None:
        return None
    return mean_interval([row["psnr_clean"] - row["psnr"] for row in outcome.rows])


def strongest(panel: Panel) -> list[Strongest]:
    """The most damaging attack at each limited budget, by norm and rising eps.

    Noise does not compete, nor does an attacker who was told the seed: that is an upper bound, not a threat.
    """
    best: dict[tuple[str, float], Outcome] = {}
    for outcome in panel.outcomes:
        budget = (outcome.cell.attack.norm, outcome.cell.eps)
        if outcome.is_noise or math.isinf(outcome.cell.eps) or outcome.cell.attack.known_seed:
            continue
        if budget not in best or outcome.damage > best[budget].damage:
            best[budget] = outcome
    order = sorted(best, key=lambda budget: (budget[0] != "linf", *budget))
    return [Strongest(best[budget], drop_interval(best[budget])) for budget in order]


def worst_by_norm(panel: Panel) -> list[Strongest]:
    """The strongest attack at the largest limited eps of each norm."""
    return list({found.outcome.cell.attack.norm: found for found in strongest(panel)}.values())


def count(share: float | None, images: float) -> str:
    """``3 of 8`` from a share of images."""
    return "n/a" if share is None else f"{round(share * images)} of {round(images)}"


def headline(panels: Sequence[Panel]) -> str:
    """How bad the worst of the report is, whether noise would have done the same, and which restorer holds best.

    Untrained restorers are left out where there are trained ones.
    """
    told = [panel for panel in panels if panel.trained] or panels
    rated = [(found.outcome, panel) for panel in told if panel.has_truth for found in worst_by_norm(panel)]
    if not rated:
        return "How far small perturbations of the input move the restorations, measured against the clean restoration."
    outcome, panel = max(rated, key=lambda pair: pair[0].damage)
    row = outcome.summary
    if row["drop"] < 0.5:
        return f"No attack of this run takes more than {number(row['drop'])} dB from a restoration."
    noise = row["noise_drop"]
    control = "" if noise is None else f"; random noise of the same size takes {number(noise, 1)} dB"
    return (
        f"A perturbation of {outcome.budget} takes {number(row['drop'], 1)} dB from {panel.label} "
        f"on {panel.data}{control}.{_holds_best(rated, outcome, panel)}"
    )


def _holds_best(rated: Sequence[tuple[Outcome, Panel]], outcome: Outcome, panel: Panel) -> str:
    peers = [(o, p) for o, p in rated if (p.data, o.budget) == (panel.data, outcome.budget) and p.label != panel.label]
    if not peers:
        return ""
    best, holder = min(peers, key=lambda pair: pair[0].damage)
    return f" There {holder.label} holds best and loses {number(best.summary['drop'], 1)} dB."


def verdict(panel: Panel) -> str:
    """A paragraph about one restorer on one data block."""
    return " ".join([_clean_sentence(panel), *map(_attack_sentence, worst_by_norm(panel)), *_free_sentences(panel)])


def _clean_sentence(panel: Panel) -> str:
    row = panel.clean
    if not panel.has_truth:
        return "These images have no ground truth, so damage is measured against the clean restoration."
    gain = row["psnr"] - row["psnr_input"]
    sentence = f"Unattacked, it brings the images from {number(row['psnr_input'])} to {number(row['psnr'])} dB"
    if gain < 0:
        return f"{sentence}, which is worse than leaving them alone."
    return f"{sentence}, a gain of {number(gain)} dB."


def _attack_sentence(found: Strongest) -> str:
    outcome, row = found.outcome, found.outcome.summary
    name = outcome.cell.label
    if row["drop"] is None:
        return (
            f"At {outcome.budget} the strongest attack, {name}, leaves a PSNR of {number(row['psnr'])} dB to it, where "
            f"noise of the same norm leaves {number(outcome.noise_level)} dB."
        )
    spread = f" (95 % interval {number(found.interval[0])} to {number(found.interval[1])})" if found.interval else ""
    noise = row["noise_drop"]
    control = "" if noise is None else f", where noise of the same norm takes {number(noise)} dB"
    worse = count(row["worse_than_input"], row["images"])
    return (
        f"At {outcome.budget} the strongest attack, {name}, takes {number(row['drop'])} dB{spread}{control}, and "
        f"leaves {number(row['psnr'])} dB: {worse} images end up worse than unrestored."
    )


def _free_sentences(panel: Panel) -> list[str]:
    """What the minimum-norm attacks needed, in levels; radiance has no levels."""
    found = []
    for outcome in panel.outcomes:
        row, name = outcome.summary, outcome.cell.label
        if not math.isinf(outcome.cell.eps) or panel.domain == "linear":
            continue
        if not row["broken"]:
            found.append(f"With no budget set, {name} breaks none of the images.")
        else:
            broken = count(row["broken"], row["images"])
            size = number(row["rms"] * 255)
            found.append(f"With no budget set, {name} breaks {broken} images at {size} levels rms of 255 on average.")
    return found


def untrained(panels: Iterable[Any]) -> list[str]:
    """A warning for each panel, of restorers or classifiers, whose network has random weights."""
    return [
        f"{panel.label}: untrained, random weights. Its figures show that the code runs and nothing else."
        for panel in panels
        if not panel.trained
    ]


def other_images(runs: Iterable[Any]) -> list[str]:
    """A warning where runs that are shown together were not made on the same images."""
    if len({str(run.fingerprint.get("images")) for run in runs}) < 2:
        return []
    return ["These runs did not use the same images, so their figures must not be compared directly."]


def warnings(runs: Sequence[Run], panels: Sequence[Panel]) -> list[str]:
    """What a reader must know before believing the numbers, each once."""
    found = []
    for panel in panels:
        bad = sum(outcome.summary["bad_gradients"] for outcome in panel.outcomes)
        if bad:
            found.append(
                f"{panel.label} on {panel.data}: {bad:.0f} gradients were zero or not finite, so its attacks were "
                "weaker than they look. A defence that breaks gradients is not a robust one."
            )
        images = len(panel.clean_rows)
        if images < FEW_IMAGES:
            plural = "image is" if images == 1 else "images are"
            advice = "Read the intervals, not the second decimal" if images > 2 else "Other images may tell otherwise"
            found.append(f"{panel.data}: {images} {plural} few. {advice}.")
    for run in runs:
        if run.facts.get("lpips_reason"):
            found.append(f"LPIPS is n/a: {run.facts['lpips_reason']}.")
    return list(dict.fromkeys([*untrained(panels), *found, *other_images(runs)]))


def budget_note(domain: str) -> str:
    """In which light eps is stated, and what that means in linear light.

    The tone map t = x/(x+0.25) has slope 0.25/(x+0.25)^2: 4 in black, 0.16 at radiance 1.
    """
    unit = f"Budgets (eps) are stated in {_UNITS[domain]}."
    if domain == "tonemapped":
        return (
            f"{unit} The slope of the tone map, 0.25/(x+0.25)², makes the same number mean different things in "
            f"linear light: 4/255 is a radiance of {4 / 255 / 4:.4f} in black but {4 / 255 / 0.16:.3f} at radiance 1."
        )
    if domain == "srgb":
        return (
            f"{unit} The sRGB curve makes the same number mean different things in linear light: near black 4/255 is "
            f"a radiance of {4 / 255 / 12.92:.4f}, near white about {4 / 255 * 2.4 / 1.055:.3f}."
        )
    return (
        f"{unit} PSNR and the other figures are of tone-mapped images, where the same eps counts {4 / 0.16:.0f} times "
        "more in black than at radiance 1: the slope of the tone map is 0.25/(x+0.25)²."
    )


def norm_note() -> str:
    """What the two norms are measured over."""
    return f"{NORM_SIGNS['linf']} bounds every value of every pixel; {NORM_SIGNS['l2']} bounds the whole image at once."

"""The words of a restoration report: headline, verdict on a restorer, columns, budgets and glossary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from udc_robust.grid.budget import NORM_SIGNS, change_column
from udc_robust.grid.statistics import Interval
from udc_robust.grid.task import Column, Row, Tile
from udc_robust.metrics import records
from udc_robust.names import PERCEPTUAL
from udc_robust.report.comparison import Comparison
from udc_robust.report.panel import Outcome, Panel, interval_of
from udc_robust.report.pooled import told_together
from udc_robust.report.words import count, number, percent, span
from udc_robust.report.worst import hardest, held, worst_by_image
from udc_robust.tasks import restoration_scene_words as scenes
from udc_robust.tasks.restoration_scenes import FIGURES as SCENE_FIGURES
from udc_robust.tasks.restoration_tables import SUMMARY_COLUMNS, rms_of

_UNITS = {
    "tonemapped": "tone-mapped values x/(x+0.25) in [0,1]",
    "srgb": "sRGB values in [0,1], as in an 8-bit file",
    "linear": "linear radiance, 0 to 500",
    "raw": "shares of the sensor's full scale",
}


def headline(panels: Sequence[Panel], compared: Sequence[Comparison]) -> str:
    """How bad the worst of the report is, whether noise would have done the same, and which restorer holds most.

    Untrained restorers are left out where there are trained ones.
    """
    told = told_together([panel for panel in panels if panel.trained] or panels)
    rated = [(outcome, panel) for panel in told if panel.has_truth for outcome in hardest(panel)]
    if not rated:
        return "How far small perturbations of the input move the restorations, measured against the clean restoration."
    outcome, panel = max(rated, key=lambda pair: pair[0].summary["drop"])
    row = outcome.summary
    if row["drop"] < 0.5:
        return f"No attack within a budget of this run takes more than {number(row['drop'])} dB from a restoration."
    noise = row["noise_drop"]
    control = "" if noise is None else f"; random noise of the same size takes {number(noise, 1)} dB"
    what = "A change of the scene" if scenes.of_scene(panel) else "A perturbation"
    return (
        f"{what} of {outcome.budget} takes {number(row['drop'], 1)} dB from {panel.label} "
        f"on {panel.data}{control}.{_holds_most(told, outcome, panel)}"
    )


def _holds_most(panels: Sequence[Panel], outcome: Outcome, panel: Panel) -> str:
    """Quality under the worst attack ranks, not the drop: a restorer that does nothing loses little."""
    peers = [
        p for p in panels if p.data == panel.data and any(o.budget == outcome.budget for o in p.outcomes if o.counts)
    ]
    if len(peers) < 2:
        return ""
    best = max(peers, key=lambda peer: held(worst_by_image(peer, outcome.budget)))
    return f" There {best.label} holds most: {number(held(worst_by_image(best, outcome.budget)), 1)} dB are left."


def verdict(panel: Panel) -> str:
    """A paragraph about one restorer on one data block."""
    worst = hardest(panel)
    found = [_clean_sentence(panel), *(_attack_sentence(o, panel) for o in worst), *_free_sentences(panel)]
    if scenes.of_scene(panel):
        found.append(scenes.survival_sentence([*worst, *[o for o in panel.outcomes if o.is_noise][-1:]]))
    return " ".join(found)


def _clean_sentence(panel: Panel) -> str:
    row = panel.clean
    if not panel.has_truth:
        return "These images have no ground truth, so damage is measured against the clean restoration."
    gain = row["psnr"] - row["psnr_input"]
    sentence = f"Unattacked, it brings the images from {number(row['psnr_input'])} to {number(row['psnr'])} dB"
    return f"{sentence}, a gain of {number(gain)} dB." if gain >= 0 else f"{sentence}, a loss of {number(-gain)} dB."


def _attack_sentence(outcome: Outcome, panel: Panel) -> str:
    row, name = outcome.summary, outcome.cell.label
    noise = outcome.noise_left
    if not panel.has_truth:
        control = "" if noise is None else f"; noise of the same norm leaves {number(noise)} dB"
        return (
            f"At {outcome.budget} the strongest attack, {name}, leaves {number(row['psnr'])} dB to the clean "
            f"restoration{control}."
        )
    interval = drop_interval(outcome)
    spread = f" (95 % interval {span(interval, 2)})" if interval else ""
    control = (
        "" if row["noise_drop"] is None else f", where noise of the same norm takes {number(row['noise_drop'])} dB"
    )
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
        if not math.isinf(outcome.cell.eps) or panel.stated_in == "linear":
            continue
        sizes = [rms_of(one) for one in outcome.rows if one["broken"]]
        if not sizes:
            found.append(f"With no budget set, {name} breaks none of the images.")
        else:
            broken, size = count(row["broken"], row["images"]), number(255 * fmean(sizes))
            found.append(f"With no budget set, {name} breaks {broken} images at {size} levels rms of 255 on average.")
    return found


def drop_interval(outcome: Outcome) -> Interval:
    """Interval of the mean drop over the images; None without ground truth."""
    if outcome.summary["drop"] is None:
        return None
    return interval_of({row["image"]: row["psnr_clean"] - row["psnr"] for row in outcome.rows}, outcome.scenes)


def tiles(panel: Panel) -> list[Tile]:
    """The figures that a reader looks for first."""
    row, found = panel.clean, []
    if panel.has_truth:
        found += [
            Tile("Unrestored input", number(row["psnr_input"], 1), "dB"),
            Tile("Restored, unattacked", number(row["psnr"], 1), "dB"),
        ]
    worst = max(hardest(panel), key=lambda outcome: -outcome.left, default=None)
    if worst is None:
        return found
    under = "Restored, under" if panel.has_truth else "PSNR to the clean restoration, under"
    found.append(Tile(f"{under} {worst.title}", number(worst.left, 1), "dB", hit=True))
    if panel.has_truth:
        found += [
            Tile("Drop from noise of the same size", number(worst.summary["noise_drop"], 1), "dB"),
            Tile("Images worse than unrestored", count(worst.summary["worse_than_input"], len(worst.rows)), hit=True),
        ]
    else:
        found.append(Tile("The same under noise of that size", number(worst.noise_left, 1), "dB"))
    return found


def columns(panel: Panel) -> list[Column]:
    """Of the table of all figures."""

    def of(name: str, digits: int) -> Column:
        return Column(LABELS.get(name, name), lambda row: number(row.get(name), digits))

    if panel.has_truth:
        found = [
            of("psnr", 2),
            Column(
                "Drop, dB (95 %)",
                lambda row: number(row["drop"]),
                _drop_span,
            ),
            of("noise_drop", 2),
        ]
    else:
        found = [
            Column("PSNR to clean, dB", lambda row: number(row["psnr"])),
            Column("The same of noise, dB", lambda row: "", lambda o: "" if o is None else number(o.noise_left)),
        ]
    found += [of("ssim", 3), *(of(metric.name, 3) for metric in panel.metrics if metric.learned)]
    found += [of(change_column(norm), 3) for norm in PERCEPTUAL if change_column(norm) in panel.clean]
    if panel.has_truth:
        found.append(Column("Worse than input", lambda row: percent(row["worse_than_input"])))
    found.append(Column("Broken images", lambda row: percent(row["broken"])))
    if scenes.of_scene(panel):
        found += scenes.scene_columns()
    more = [of("ms_ssim", 3), of("gmsd", 4)]
    if panel.random or not panel.is_bare:
        draws = round(panel.clean["draws"])
        more += [
            Column(f"Worst of {draws} answers, dB", lambda row: number(row["psnr_worst_draw"])),
            Column("Their deviation, dB", lambda row: number(row["psnr_draw_std"])),
            Column("PSNR of their average, dB", lambda row: number(row["psnr_average"])),
        ]
    own = [
        name for name in panel.clean if name not in (*SUMMARY_COLUMNS, *LABELS, *SCENE_FIGURES)
    ]  # metrics that the config named
    return [*found, *(of(name, 3) for name in own), *(Column(c.head, c.text, c.small, folded=True) for c in more)]


def _drop_span(outcome: Outcome | None) -> str:
    return "" if outcome is None else span(drop_interval(outcome), 2)


LABELS = {
    "psnr": "PSNR, dB", "noise_drop": "Noise drop, dB", "ssim": "SSIM", "ms_ssim": "MS-SSIM",
    "gmsd": "GMSD", **{change_column(norm): NORM_SIGNS[norm] for norm in PERCEPTUAL},
    **{metric.name: metric.title for metric in records.LPIPS.values()},
}  # fmt: skip


def answer(panel: Panel, row: Row) -> str:
    """What stands below a restoration."""
    if row["attack"] == "clean":
        return f"{number(row['psnr'])} dB" if panel.has_truth else "the reference"
    drop = f", drop {number(row['psnr_clean'] - row['psnr'])} dB" if panel.has_truth else " to the clean one"
    return f"{number(row['psnr'])} dB{drop}"


def notes(panels: Sequence[Panel]) -> list[str]:
    """In which domain eps is stated, and what the norms are measured over."""
    of_scenes = {panel.data: scenes.space_note(panel.images) for panel in panels if scenes.of_scene(panel)}
    several = len({panel.data for panel in panels}) > 1
    told = [f"{data}: {note}" if several else note for data, note in of_scenes.items()]
    return told + [budget_note(domain) for domain in sorted({panel.stated_in for panel in panels})]


def budget_note(domain: str) -> str:
    """In which domain eps is stated, and what that means in linear light.

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
    if domain == "raw":
        return (
            f"{unit} PSNR and the other figures are of the planes; LPIPS and pictures of what is developed from them."
        )
    return (
        f"{unit} PSNR and the other figures are of tone-mapped images, where the same eps counts {4 / 0.16:.0f} times "
        "more in black than at radiance 1: the slope of the tone map is 0.25/(x+0.25)²."
    )


def footnotes(panels: Sequence[Panel]) -> list[str]:
    """What must be known of the mini networks and of the embedded images."""
    found = []
    if any("mini" in panel.network for panel in panels):
        found.append(
            "Restorers named mini are small networks that were trained briefly so that this suite can be tried "
            "anywhere. Their figures say nothing about the published networks of the same family."
        )
    if any(panel.images.get("kind") == "embedded" or panel.data == "embedded" for panel in panels):
        found.append(
            "The embedded images are photographs that ship with scikit-image, each under the licence it states for "
            "them, degraded by a simulated display."
        )
    return found


GLOSSARY: Mapping[str, str] = {
    **{
        metric.title: metric.words
        for metric in (records.PSNR, records.SSIM, records.MS_SSIM, records.GMSD, *records.LPIPS.values())
    },
    **scenes.GLOSSARY,
    "Drop": "In dB: PSNR of the clean restoration minus that of the attacked one, both against ground truth; the mean "
    "over images with its 95 % bootstrap interval (seed 0). Compare it with the noise drop, not with 0.",
    "Noise drop": "In dB: the same for random noise of each image's own attack norm. Where it is as large as the drop, "
    "denoise or retrain with noise: nothing there is adversarial.",
    "PSNR to clean": "In dB, without ground truth: how near the attacked restoration stays to the clean one. It says "
    "how far an answer moves, and not whether it got worse; the same of noise is its control.",
    "Worse than input": "Share of images whose attacked restoration is further from the ground truth than the "
    "untouched input: over half, and showing the raw capture would be better.",
    "Broken images": "Share of images whose objective got worse than clean by the attack's drop_db, 6 dB unless the "
    "config says otherwise. At 100 % every image can be broken: try a smaller eps to see where it begins.",
    "Answers of a random defence": "It answers differently each time: `draws` answers are judged, and beside their "
    "mean stand the worst, their deviation, and the PSNR of their average. A large deviation wants more EOT.",
}

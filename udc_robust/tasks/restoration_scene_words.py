"""The words of a report about attacks on scenes: where budgets live, what is measured, what of a change survives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from udc_robust.grid.task import Column
from udc_robust.report.panel import Outcome, Panel
from udc_robust.report.words import number, percent

SPACE = "scene"


def of_scene(panel: Panel) -> bool:
    """Whether budgets live in the scene."""
    return panel.images.get("space") == SPACE


def space_note(images: Mapping[str, Any]) -> str:
    """Where budgets live, how scenes are photographed, and what restorations are measured against."""
    where = "the whole frame" if not images["region"] else f"the rectangle {images['region']} of it"
    shift = f", the camera up to {images['shift_px']:g} px off its place" if images["shift_px"] else ""
    return (
        f"The attacker changes the scene itself, before the optics: {where}, as a poster or screen can, up to a white "
        f"of radiance {images['white']:g}; brighter light stays. A camera behind {images['psf']} photographs it: shot "
        f"noise {images['shot']:g}, read noise {images['read']:g}, {images['bits']} bits{shift}. Gradients go through "
        "all of that, rounding as if it were not there, and every figure is of photographs that the attacker did not "
        "see. Restorations are measured against the changed scene, which is what the camera was shown: to restore a "
        "painted poster is no error. How far they are from the scene as it was before is told beside."
    )


def survival_sentence(outcomes: Sequence[Outcome]) -> str:
    """How much of a change of the scene is left in the capture, of the strongest attack and of noise."""
    told = []
    for outcome in outcomes:
        rows = [row for row in outcome.rows if row.get("survives") is not None]
        if rows:
            share, most = (fmean(row[name] for row in rows) for name in ("survives", "capture_linf"))
            left = f"{percent(share)} of the change by {outcome.title} (RMS; at most {number(255 * most, 1)} levels)"
            told.append(left)
    return f"The optics leave {' and '.join(told)} in the capture." if told else ""


def scene_columns() -> list[Column]:
    """What of a change survives the optics, and how far answers are from the scene before it."""

    def share(row: Mapping[str, Any]) -> str:
        return "" if row.get("survives") is None else percent(row["survives"])

    def levels(outcome: Outcome | None) -> str:
        if outcome is None or outcome.summary.get("capture_rms") is None:
            return ""
        return (
            f"rms {number(255 * outcome.summary['scene_rms'])} to {number(255 * outcome.summary['capture_rms'])} levels"
        )

    return [
        Column("Left in the capture", share, levels),
        Column("PSNR to the scene before, dB", lambda row: number(row.get("psnr_to_original")), folded=True),
    ]


GLOSSARY: Mapping[str, str] = {
    "Left in the capture": "Of attacks on the scene: RMS of what the capture changes by, over RMS of what the scene "
    "does, both tone-mapped, without noise and rounding. Fine patterns drown in the blur, smooth ones pass.",
    "PSNR to the scene before": "In dB: how far the restoration of the changed scene is from the scene before "
    "it was changed, which nobody could know. Compare it with the PSNR, which is against what the camera was shown.",
}

"""The victims of several data blocks together: every image once, scenes kept apart."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest
from fake_run import write_fake_run

from udc_robust.report.comparison import comparisons
from udc_robust.report.pooled import pooled, told_together
from udc_robust.report.run_folder import read_run
from udc_robust.tasks import TASKS


@pytest.fixture
def panels(tmp_path):
    write_fake_run(tmp_path / "run", attacks=[{"method": "noise"}, {"method": "pgd"}, {"method": "fgsm"}])
    return list(read_run(tmp_path / "run", TASKS).panels())


def _night(panel, by, **changes):
    """The same on another set, of two images that are worse by so much."""

    def darker(rows):
        return [{**row, "psnr": row["psnr"] - by} for row in rows[:2]]

    outcomes = [replace(o, rows=darker(o.rows)) for o in panel.outcomes]
    return replace(panel, data="night", clean_rows=darker(panel.clean_rows), outcomes=outcomes, **changes)


def test_every_image_counts_once(panels) -> None:
    nights = [_night(panel, 3.0) for panel in panels]
    together = pooled([*panels, *nights])
    assert [panel.label for panel in together] == [panel.label for panel in panels]
    for all_, day, night in zip(together, panels, nights, strict=True):
        figures = [day.figure(row) for row in day.clean_rows] + [night.figure(row) for row in night.clean_rows]
        assert all_.data == "all 2 sets" and all_.clean["psnr"] == pytest.approx(fmean(figures))
        assert len(all_.figures(all_.clean_rows)) == 5 == all_.clean["images"]
        for one, a, b in zip(all_.outcomes, day.outcomes, night.outcomes, strict=True):
            assert one.left == pytest.approx(fmean(row["psnr"] for row in [*a.rows, *b.rows]))
    first = comparisons(together)[0]
    days = comparisons(panels)[0]
    held = [standing.at(0).quality for standing in (first.standings[0], days.standings[0])]
    assert held[0] < held[1] and first.data == "all 2 sets"


def test_the_first_sentence_speaks_of_all_sets_together(panels) -> None:
    """Of the hardest set alone it would say more than the evidence does."""
    nights = [_night(panel, 3.0) for panel in panels]
    lost = {
        (day.label, o.budget, o.cell.label): fmean(r["psnr_clean"] - r["psnr"] for r in [*o.rows, *other.rows])
        for day, night in zip(panels, nights, strict=True)
        for o, other in zip(day.outcomes, night.outcomes, strict=True)
        if o.counts
    }
    for shown in ([*panels, *nights], [*nights, *panels]):  # whichever comes first
        told = TASKS["restoration"].headline(shown, [])
        assert "on all 2 sets" in told and f"takes {max(lost.values()):.1f} dB" in told
    shown = [*panels, *nights]
    only_day = replace(panels[0], label="only by day")
    assert [panel.data for panel in told_together([*shown, only_day])] == ["all 2 sets"] * len(panels) + [only_day.data]


def test_scenes_of_two_sets_are_never_one(panels) -> None:
    names = [row["image"] for row in panels[0].clean_rows]
    day = replace(panels[0], images={**panels[0].images, "scenes": dict.fromkeys(names, "harbour")})
    (together,) = pooled([day, _night(day, 1.0)])
    assert together.scene_count == 2 and day.scene_count == 1
    assert together.interval(together.figures(together.clean_rows)) is None
    (alone,) = pooled([panels[0], _night(panels[0], 1.0)])
    assert alone.scene_count == 5


def test_what_is_not_alike_is_not_put_together(panels) -> None:
    linear = {**panels[0].images, "domain": "linear"}
    without = {**panels[0].images, "truth": False}
    scene = {**panels[0].images, "space": "scene", "scene_domain": "srgb"}
    for images in (linear, without, scene):
        assert pooled([panels[0], _night(panels[0], 1.0, images=images)]) == []
    assert pooled(panels) == []
    other = _night(panels[0], 1.0)
    lacking = replace(other, outcomes=other.outcomes[1:])
    (together,) = pooled([panels[0], lacking])
    assert len(together.outcomes) == len(panels[0].outcomes) - 1


def test_sets_that_met_no_attack_in_common_are_not_put_together(panels) -> None:
    first, night = panels[0], _night(panels[0], 1.0)
    attacks = sorted({outcome.cell.label for outcome in first.outcomes})
    day = replace(first, outcomes=[o for o in first.outcomes if o.cell.label == attacks[0]])
    other = replace(night, outcomes=[o for o in night.outcomes if o.cell.label == attacks[1]])
    assert pooled([day, other]) == [] and len(pooled([day, night])) == 1


def test_victims_that_met_other_sets_are_not_compared(panels) -> None:
    first, second = panels
    nights, dusk = [_night(panel, 1.0) for panel in panels], replace(second, data="dusk")
    together = pooled([first, second, nights[0], dusk])
    assert [panel.data for panel in together] == ["photos and night", "photos and dusk"]

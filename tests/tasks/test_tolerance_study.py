"""The study of tolerances: curves, the worst display, what costs 3 dB, resuming, and what is refused."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

from udc_robust.config_file import check_config
from udc_robust.data.images import write_image
from udc_robust.errors import UserError
from udc_robust.tasks import tolerance_study
from udc_robust.tasks.tolerance_results import Found, Results
from udc_robust.tasks.tolerance_scenes import Bench, Scene
from udc_robust.tasks.tolerance_search import corners
from udc_robust.tasks.tolerance_study import ToleranceConfig, study


@pytest.fixture
def small(tmp_path):
    """A config of two scenes behind a measured PSF: a core, and an order to the right."""
    psf = np.zeros((9, 9))
    psf[4, 4], psf[4, 7] = 0.7, 0.3
    np.save(tmp_path / "psf.npy", psf)
    for name in "ab":
        light = torch.zeros(3, 40, 40) + 0.05
        light[:, 8:30:4, 10:30:3] = 3 * torch.rand(6, 7)
        write_image(tmp_path / "scenes" / f"{name}.npy", light)
    lucy = {"name": "lucy", "network": "richardson_lucy", "options": {"psf": str(tmp_path / "psf.npy")}}
    return {
        "restorers": [lucy], "psf": str(tmp_path / "psf.npy"), "scenes": str(tmp_path / "scenes"), "kind": "hdr",
        "tolerances": {"turn": 5, "shift_x": 0.5}, "limit": 2, "crop": 24, "steps": 3,
    }  # fmt: skip


def run(small, out, **more) -> Results:
    return study(check_config({**small, **more}, ToleranceConfig, "options"), out, "the command")


def test_a_study_finds_the_cliff_and_writes_all_of_it(small, tmp_path) -> None:
    results = run(small, tmp_path / "out")
    curve = dict(results.curve("turn", "lucy"))
    assert list(curve) == [-20, -10, -5, -2.5, 0, 2.5, 5, 10, 20]
    assert curve[0] > curve[5] > curve[20] and curve[0] > curve[-5] > curve[-20]
    corner, climbed = (results.worst("lucy", kind) for kind in ("corner", "gradient"))
    assert corner is not None and climbed is not None
    # All at once is worse than one alone, and the gradient finds what the corners do.
    assert corner.mean("lucy") < min(curve[5], curve[-5])
    assert abs(climbed.mean("lucy") - corner.mean("lucy")) < 0.5
    assert climbed.mean("lucy") == min(one.mean("lucy") for one in results.found if one.kind == "gradient")
    assert results.worst_of_all("lucy").mean("lucy") == min(corner.mean("lucy"), climbed.mean("lucy"))
    rows = list(csv.DictReader((tmp_path / "out" / "tolerance.csv").read_text().splitlines()))
    assert len(rows) == (1 + 8 + 8 + 4 + 2) * 2 * 2 and {row["restorer"] for row in rows} == {"lucy", "capture"}
    summary = json.loads((tmp_path / "out" / "tolerance.json").read_text())
    assert summary["restorers"]["lucy"]["costs_3_db"]["turn"] == results.that_costs("turn", "lucy")
    page = (tmp_path / "out" / "tolerance.html").read_text()
    assert results.told("turn", "lucy") in page and "the command" in page and "://" not in page


def test_it_resumes_with_the_same_figures(small, tmp_path, monkeypatch) -> None:
    whole = run(small, tmp_path / "whole")
    run(small, tmp_path / "out")
    journal = tmp_path / "out" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:6]) + lines[6][:20])
    asked = []
    figures = Bench.figures
    monkeypatch.setattr(Bench, "figures", lambda self, psf, names: asked.append(1) or figures(self, psf, names))
    again = run(small, tmp_path / "out")
    assert again == whole and len(asked) == len(lines) - 6
    with pytest.raises(UserError, match=r"holds a run with another tolerances\.turn"):
        run(small, tmp_path / "out", tolerances={"turn": 4, "shift_x": 0.5})


@pytest.mark.parametrize(
    "more, message",
    [
        ({"tolerances": {"turn": 0}}, "tolerance of turn of 0 leaves nothing to vary"),
        ({"tolerances": {"shift_x": 5}}, "beyond the pupil: at most 4 px"),
        ({"tolerances": {"tilt": 1}}, "unknown tolerance 'tilt'"),
        ({"tolerances": {"opening": 1}}, "name a simulated one"),
        ({"crop": 64}, "smaller than --crop 64"),
        ({"limit": 3}, "has 2 scenes, not 3"),
    ],
)
def test_what_cannot_be_studied_is_refused_before_any_work(small, tmp_path, more, message) -> None:
    with pytest.raises(UserError, match=message):
        run(small, tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


def test_scenes_need_linear_light_and_more_pixels_than_the_psf(small, tmp_path) -> None:
    with pytest.raises(UserError, match=r"PSF .*psf.npy is 41 px, larger than the scene a_000 \(40x40\)"):
        np.save(tmp_path / "psf.npy", np.ones((41, 41)))
        run(small, tmp_path / "out")
    np.save(tmp_path / "psf.npy", np.ones((9, 9)))
    write_image(tmp_path / "scenes" / "a.png", torch.rand(3, 40, 40))
    (tmp_path / "scenes" / "a.npy").unlink()
    with pytest.raises(UserError, match="a photograph without HDR data: use --kind photo"):
        run(small, tmp_path / "out")


def of_curve(*points: tuple[float, float]) -> Results:
    found = [Found("turn" if value else "nominal", {"turn": value} if value else {}, {"net": {"a": figure}})
             for value, figure in points]  # fmt: skip
    return Results("phone", {"turn": 2.0}, {"turn": "°"}, ["net"], found)


def test_what_costs_3_db_lies_between_points_on_the_worse_side() -> None:
    results = of_curve((0, 30), (-2, 29), (-4, 25), (2, 29.5), (4, 28))
    assert results.that_costs("turn", "net") == pytest.approx(3.0) and results.told("turn", "net") == "3 °"
    assert results.cost_of_tolerance("turn", "net") == pytest.approx(1.0)
    mild = of_curve((0, 30), (-2, 29), (2, 29.5), (4, 28))
    assert mild.that_costs("turn", "net") is None and mild.told("turn", "net") == "not within ±4 °"
    assert mild.that_costs("turn", "net", cost=0.5) == pytest.approx(1.0)


def test_corners_are_all_of_them() -> None:
    found = corners({"turn": 1.0, "scale": 2.0})
    assert {tuple(corner.values()) for corner in found} == {(-1, -2), (-1, 2), (1, -2), (1, 2)}


def test_the_same_noise_whatever_the_psf_and_none_of_the_surroundings_is_lost() -> None:
    from udc_robust.optics.two_scenes import Window

    light = torch.rand(3, 30, 30)
    light[:, 2, 2] = 400.0  # far outside the window, within the reach of the PSF
    scene, psf = Scene("a", light, Window(10, 10, 8)), torch.ones(3, 21, 21) / 441
    bench = Bench([scene], {}, shot=0.01, read=0.01)
    assert torch.equal(bench.captured(scene, psf), bench.captured(scene, psf))
    assert not torch.equal(bench.captured(scene, psf), bench.captured(scene, psf, draw=1))
    assert Bench([scene], {}).captured(scene, psf)[0, :, 0, 0].min() > 0.7


def test_named_displays_are_varied_by_wave_optics() -> None:
    from udc_robust.optics.variation import DisplayVariation

    assert isinstance(tolerance_study.variation_of("poled", side=5), DisplayVariation)

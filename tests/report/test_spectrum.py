"""The gain spectrum: a config says how many bands, the report draws what each takes."""

from __future__ import annotations

import fake_run
import pytest
from fake_run import write_fake_run

from udc_robust.config_file import check_config
from udc_robust.errors import UserError
from udc_robust.report.curves import attack_plots
from udc_robust.report.run_folder import read_run
from udc_robust.report.spectrum import edges, spectrum_plots
from udc_robust.tasks import TASKS, write_report
from udc_robust.tasks.restoration_schema import RestorationConfig

BANDS = {"method": "band_pgd", "bands": 4, "steps": 5}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setitem(fake_run.STRENGTH, "band_pgd", 1.0)
    write_fake_run(tmp_path / "run", attacks=[{"method": "pgd"}, BANDS])
    return tmp_path / "run"


def _config(*attacks):
    return check_config({"restorers": ["r"], "attacks": list(attacks)}, RestorationConfig, "test")


def test_bands_of_a_config_are_neighbours_from_0_to_1() -> None:
    blocks = _config("pgd", BANDS, {**BANDS, "name": "by l2", "norm": "l2", "eps": 1}).attacks
    assert [b.label for b in blocks[:5]] == ["pgd", *(f"band {k} of 4" for k in range(1, 5))]
    assert [b.options_at(1.0) for b in blocks[1:5]] == [
        {"steps": 5, "low": k / 4, "high": (k + 1) / 4} for k in range(4)
    ]
    assert blocks[-1].label == "by l2 4 of 4" and blocks[-1].norm == "l2"
    again = _config(*[block.model_dump(exclude_none=True) for block in blocks])
    assert again.attacks == blocks  # a run's config.yaml is a config


@pytest.mark.parametrize(
    "block, message",
    [
        ({**BANDS, "bands": 1}, "bands must be a whole number from 2 to 64"),
        ({**BANDS, "bands": "8"}, "bands must be a whole number"),
        ({**BANDS, "low": 0.5}, "leave them out"),
        ({"method": "pgd", "bands": 4}, "low"),
    ],
)
def test_bands_that_are_none(block, message) -> None:
    with pytest.raises(UserError, match=message):
        _config(block)


def test_each_victim_has_a_curve_over_the_middles_of_its_bands(run) -> None:
    panels = list(read_run(run, TASKS).panels())
    plots = spectrum_plots(panels, "x")
    assert [plot.note.split(",")[0].replace("\xa0", " ") for plot in plots] == ["L∞ 1/255", "L∞ 4/255"]
    assert [label for _, _, label in plots[0].colours] == ["nafnet_mini", "discnet_mini"]
    outcomes = [o for o in panels[0].outcomes if o.cell.attack.method == "band_pgd" and o.cell.eps > 3 / 255]
    assert [edges(o) for o in outcomes] == [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)]
    for middle, outcome in zip(("0.12", "0.38", "0.62", "0.88"), outcomes, strict=True):
        assert f" {outcome.left:.1f} at {middle} of Nyquist" in plots[1].alt


def test_bands_stand_in_their_own_plot_and_in_the_page(run) -> None:
    panels = list(read_run(run, TASKS).panels())
    assert "band" not in attack_plots(panels, "x")[0].alt
    page = write_report([run]).read_text(encoding="utf-8")
    assert "Gain spectrum" in page


def test_two_bands_are_no_spectrum(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(fake_run.STRENGTH, "band_pgd", 1.0)
    write_fake_run(tmp_path / "run", attacks=[{"method": "pgd"}, {**BANDS, "bands": 2}])
    assert spectrum_plots(list(read_run(tmp_path / "run", TASKS).panels()), "x") == []

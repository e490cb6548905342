"""The signs that a figure is not to be trusted, each raised by what breaks its rule."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from fake_run import write_fake_run

from udc_robust.report.flags import red_flags
from udc_robust.report.run_folder import read_run
from udc_robust.tasks import TASKS
from udc_robust.tasks.restoration_schema import RestorationConfig as AttackLines

DEFENDED = {
    "restorers": ["nafnet_mini"],
    "defences": ["none", {"kind": "purifier", "name": "pure", "purifier": "p"}],
    "attacks": [
        {"method": "noise"}, {"method": "fgsm"}, {"method": "square"},
        {"method": "pgd", "access": ["blind", "bpda", "adaptive"]},
        {"method": "pgd", "name": "told", "known_seed": True},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("fake") / "run"
    write_fake_run(out, **DEFENDED)
    return out


def _panels(run):
    return {panel.defence: panel for panel in read_run(run, TASKS).panels()}


def _flags(panel):
    return {flag.name: flag for flag in red_flags(panel)}


def test_flags_of_an_honest_attack_are_clear(run) -> None:
    flags = _flags(_panels(run)["pure"])
    for name in ("single step beats many", "queries beat the gradient", "transfer beats white box"):
        assert flags[name].state == "clear" and "dB" in flags[name].value
    assert flags["not monotone in eps"].state == "clear"
    assert flags["an unbounded attack fails"].state == "not measured"
    assert flags["still falling with more steps"].state == "not measured"


def _edited(panel, label, eps_over, **summary):
    """The panel with other figures for one attack."""
    outcomes = [
        replace(o, summary={**o.summary, **summary}) if o.cell.label == label and o.cell.eps > eps_over else o
        for o in panel.outcomes
    ]
    return replace(panel, outcomes=outcomes)


@pytest.mark.parametrize(
    "label, changes, flag",
    [
        ("fgsm adaptive", {"psnr": 5.0}, "single step beats many"),
        ("square", {"psnr": 5.0}, "queries beat the gradient"),
        ("pgd blind", {"psnr": 5.0}, "transfer beats white box"),
        ("noise", {"psnr": 5.0}, "noise beats white box"),
        ("pgd adaptive", {"psnr": 60.0}, "not monotone in eps"),
        ("pgd adaptive", {"bad_gradients": 500}, "dead or broken gradients"),
        ("told adaptive", {"psnr": 60.0}, "known seed weaker than EOT"),
    ],
)
def test_each_sign_raises_its_flag(run, label, changes, flag) -> None:
    panel = _panels(run)["pure"]
    assert _flags(panel)[flag].state != "raised"
    assert _flags(_edited(panel, label, 2 / 255, **changes))[flag].state == "raised"


@pytest.mark.parametrize(
    "twin, changes, flag",
    [
        ({"steps": 40}, {"psnr": 5.0, "backwards": 40}, "still falling with more steps"),
        ({"eot": 8}, {"psnr": 5.0}, "still falling with more EOT"),
    ],
)
def test_stronger_twins_show_whether_an_attack_had_converged(tmp_path, twin, changes, flag) -> None:
    attacks = [{"method": "pgd", "steps": 20}, {"method": "pgd", "name": "twin", "steps": 20, **twin}]
    write_fake_run(tmp_path / "run", **{**DEFENDED, "attacks": attacks})
    panel = _panels(tmp_path / "run")["pure"]
    panel = replace(panel, outcomes=[replace(o, summary={**o.summary, "draws": 4.0}) for o in panel.outcomes])
    panel = _edited(panel, "pgd adaptive", 0, backwards=20)
    panel = _edited(panel, "twin adaptive", 0, backwards=40)
    assert _flags(panel)[flag].state == "clear"
    assert _flags(_edited(panel, "twin adaptive", 0, **changes))[flag].state == "raised"


@pytest.mark.parametrize("other", [{"against": "clean"}, {"norm": "l2", "eps": 2.0}])
def test_attacks_that_differ_in_more_than_steps_are_no_twins(tmp_path, other) -> None:
    attacks = [{"method": "pgd", "steps": 20}, {"method": "pgd", "name": "twin", "steps": 40, **other}]
    write_fake_run(tmp_path / "run", **{**DEFENDED, "attacks": attacks})
    panel = _edited(_panels(tmp_path / "run")["pure"], "twin adaptive", 0, psnr=5.0, backwards=40)
    assert _flags(panel)["still falling with more steps"].state == "not measured"


def test_an_attack_without_bounds_must_leave_nothing(tmp_path) -> None:
    write_fake_run(tmp_path / "run", **{**DEFENDED, "eps": ["64/255"]})
    panel = _panels(tmp_path / "run")["pure"]
    assert _flags(panel)["an unbounded attack fails"].state == "clear"
    stuck = _edited(
        _edited(_edited(panel, "pgd adaptive", 0, psnr=20.0), "fgsm adaptive", 0, psnr=20.0), "pgd bpda", 0, psnr=20.0
    )
    assert _flags(stuck)["an unbounded attack fails"].state == "raised"


@pytest.mark.parametrize("share, state", [(0.02, "raised"), (0.005, "clear")])
def test_the_share_of_dead_gradients_is_of_gradients_not_of_answers(run, share, state) -> None:
    panel = _panels(run)["pure"]
    images, steps, eot = 3, 100, 8
    dead = {"eot": eot, "backwards": steps * eot, "images": images, "bad_gradients": share * steps * images}
    clear = replace(panel, outcomes=[replace(o, summary={**o.summary, "bad_gradients": 0}) for o in panel.outcomes])
    assert _flags(_edited(clear, "pgd adaptive", 0, **dead))["dead or broken gradients"].state == state


def test_noise_is_measured_wherever_its_figure_stands_beside_an_attack(tmp_path) -> None:
    write_fake_run(tmp_path / "run", **{**DEFENDED, "attacks": [{"method": "pgd"}]})
    panel = _panels(tmp_path / "run")["none"]
    assert _flags(panel)["noise beats white box"].state == "clear"
    outcomes = [replace(o, rows=[{**row, "psnr_noise": 1.0} for row in o.rows]) for o in panel.outcomes]
    loud = replace(panel, outcomes=outcomes)
    assert _flags(loud)["noise beats white box"].state == "raised"


def test_a_flag_that_is_raised_or_not_measured_says_what_to_paste(run) -> None:
    flags = _flags(_panels(run)["pure"])
    assert flags["brightness beats the gradient"].state == "not measured"
    assert flags["brightness beats the gradient"].remedy == "brightness"
    for flag in flags.values():
        AttackLines.model_validate({"attacks": [yaml.safe_load(flag.remedy)], "restorers": ["r"]})


@pytest.mark.parametrize("method", ["brightness", "smooth_field"])
def test_a_shift_or_field_that_beats_the_gradient_raises_its_flag(tmp_path, monkeypatch, method) -> None:
    import fake_run

    for strength, state in ((0.3, "clear"), (9.0, "raised")):
        monkeypatch.setitem(fake_run.STRENGTH, method, strength)
        write_fake_run(tmp_path / state, **{**DEFENDED, "attacks": [{"method": "pgd"}, {"method": method}]})
        assert _flags(_panels(tmp_path / state)["none"])["brightness beats the gradient"].state == state


@pytest.mark.parametrize(
    "steps, step_size, state", [(20, "eps/20", "clear"), (20, "eps/21", "raised"), (8, "1/255", "clear")]
)
def test_steps_that_cannot_reach_the_border_raise_their_flag(tmp_path, steps, step_size, state) -> None:
    attacks = [{"method": "pgd", "steps": steps, "step_size": step_size, "eps": ["8/255"]}]
    write_fake_run(tmp_path / "run", **{**DEFENDED, "attacks": attacks})
    assert _flags(_panels(tmp_path / "run")["none"])["steps too short"].state == state

"""What used to exist for one task alone exists for both: jitter, match, matrix, spread gallery, checks of answers."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from small_study import block, make_workplace
from small_study import values as study_values

from udc_robust.config_file import check_config
from udc_robust.errors import UserError
from udc_robust.grid.units import spread
from udc_robust.networks.weights import read_weights, save_weights
from udc_robust.tasks import evaluate, write_report
from udc_robust.tasks.classification_schema import ClassificationConfig
from udc_robust.tasks.restoration_schema import RestorationConfig

RESTORE = {
    "data": {"kind": "embedded", "limit": 3, "size": 32}, "restorers": ["nafnet_mini", "discnet_mini"], "lpips": None,
    "eps": ["8/255"], "save_images": False, "gallery": 2, "batch_size": 3,
}  # fmt: skip


def _rows(path):
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


def test_restorers_meet_attackers_who_explore_and_stand_in_a_matrix(tmp_path) -> None:
    attacks = [{"method": "pgd", "steps": 2, "eot": 2, "jitter": "4/255", "access": ["bpda"]}, "noise"]
    defences = ["none", {"kind": "bit_depth", "levels": 8}]
    evaluate(
        check_config({**RESTORE, "attacks": attacks, "defences": defences}, RestorationConfig, "t"), tmp_path / "r"
    )
    rows = [
        r for r in _rows(tmp_path / "r" / "results.csv") if r["defence"] == "bit_depth" and r["attack"] == "pgd bpda"
    ]
    assert rows and all(row["eot"] == "2" and float(row["psnr"]) < float(row["psnr_clean"]) for row in rows)
    page = write_report([tmp_path / "r"])
    assert "jitter" in page.read_text() and len(_rows(page.with_suffix(".matrix.csv"))) == 4 * 2 * 3
    kept = sorted(path.parent.name for path in (tmp_path / "r" / "images" / "embedded").glob("*/input.png"))
    assert len(kept) == 2


def test_controls_of_classifiers_are_tuned_to_the_accuracy_that_a_defence_leaves(tmp_path) -> None:
    folder = make_workplace(tmp_path)
    defences = [
        "none",
        {"kind": "noise", "name": "noisy", "sigma": 0.3},
        {"kind": "blur", "role": "control", "match": "noisy"},
    ]
    data = {"source": "digits:train", "limit": 60}
    values = study_values(folder, defences=defences, validation=data, data=data, attacks=["noise"], gallery=0, draws=2)
    evaluate(check_config(values, ClassificationConfig, "t"), folder / "out")
    found = json.loads((folder / "out" / "matched.json").read_text())["blur + tiny"]
    assert found["sigma"] > 0 and found["facts"]["clean"] == pytest.approx(found["facts"]["wanted"], abs=0.06)


def test_pictures_are_kept_evenly_over_a_set() -> None:
    assert spread(4, 12) == {0, 3, 6, 9} and spread(5, 3) == {0, 1, 2} and spread(0, 9) == set()


NAN = """
from torch import nn


class Net(nn.Module):
    def forward(self, x):
        return x / 0 * 0
"""


def test_answers_that_are_not_finite_are_told_before_any_work_in_both_tasks(tmp_path) -> None:
    (tmp_path / "nan.py").write_text(NAN)
    network = f"{tmp_path / 'nan.py'}:Net"
    restore = {**RESTORE, "restorers": [{"name": "n", "network": network}], "attacks": ["fgsm"]}
    with pytest.raises(UserError, match="NaN or infin"):
        evaluate(check_config(restore, RestorationConfig, "t"), tmp_path / "r")
    folder = make_workplace(tmp_path)
    state, _ = read_weights(folder / "tiny.safetensors")
    broken = torch.nn.Module()
    broken.state_dict = lambda: {name: tensor * 1e38 for name, tensor in state.items()}  # type: ignore[method-assign]
    save_weights(folder / "tiny.safetensors", broken, {})
    values = study_values(folder, classifiers=[block(folder)], attacks=["fgsm"])
    with pytest.raises(UserError, match="NaN or infin"):
        evaluate(check_config(values, ClassificationConfig, "t"), folder / "c")
    assert not (tmp_path / "r").exists() and not (folder / "c").exists()


def test_few_images_are_warned_of_in_both_tasks(tmp_path) -> None:
    folder = make_workplace(tmp_path)
    values = study_values(folder, attacks=["fgsm"], defences=["none"], gallery=0)
    evaluate(check_config(values, ClassificationConfig, "t"), folder / "c")
    restore = {**RESTORE, "restorers": ["nafnet_mini"], "attacks": ["fgsm"], "gallery": 0}
    evaluate(check_config(restore, RestorationConfig, "t"), folder / "r")
    page = write_report([folder / "c", folder / "r"], folder / "both.html").read_text()
    assert "twelve: 12 images are few" in page and "embedded: 3 images are few" in page

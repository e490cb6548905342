"""A task of one file runs on the grid, is resumed, and has a report like the others, also beside them."""

from __future__ import annotations

import csv

import pytest
from small_study import make_workplace
from small_study import run as run_classification
from toy_task import TOY

from udc_robust.tasks import SCHEMAS, TASKS, evaluate, task_of, write_report

VALUES = {
    "task": "brightness", "data": "squares", "meters": "meter", "eps": ["2/255", "8/255"],
    "defences": ["none", {"kind": "blur", "sigma": 1.0, "role": "control"}],
    "attacks": ["noise", "fgsm", {"method": "pgd", "steps": 3, "access": ["blind", "adaptive"]}],
}  # fmt: skip


@pytest.fixture
def finished(tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, TOY.name, TOY)
    assert task_of(VALUES) is TOY
    evaluate(TOY.schema.model_validate(VALUES), tmp_path / "toy")
    return tmp_path / "toy"


def test_what_is_known_without_torch_is_what_there_is() -> None:
    assert {name: task.schema for name, task in TASKS.items()} == SCHEMAS


def test_it_runs_and_resumes(finished) -> None:
    before = (finished / "results.csv").read_bytes()
    with open(finished / "summary.csv", newline="") as handle:
        rows = {(r["defence"], r["attack"], r["eps"][:6]): float(r["nearness"]) for r in csv.DictReader(handle)}
    assert rows["none", "pgd", "0.0313"] < rows["none", "noise", "0.0313"] < rows["none", "clean", "0"]
    journal = (finished / "journal.jsonl").read_bytes()
    (finished / "journal.jsonl").write_bytes(journal[: len(journal) // 2])
    evaluate(TOY.schema.model_validate(VALUES), finished)
    assert (finished / "results.csv").read_bytes() == before


def test_it_has_a_report_of_its_own_and_beside_others(finished, tmp_path) -> None:
    page = write_report([finished]).read_text(encoding="utf-8")
    assert "Brightness meters" in page and "blur + meter (control)" in page and "Red flags" in page
    other = run_classification(make_workplace(tmp_path), "digits", attacks=["fgsm"], gallery=1)
    both = write_report([finished, other], tmp_path / "both.html").read_text(encoding="utf-8")
    ids = [part.split('"')[0] for part in both.split(' id="')[1:]]
    assert len(ids) == len(set(ids)) and {"defences", "classification-defences"} <= set(ids)
    assert "toy: meter" in both and "digits study: halftone + tiny" in both

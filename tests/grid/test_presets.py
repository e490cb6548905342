"""Presets: what a name stands for, that it is quoted truly, and that a run's config is a config again."""

from __future__ import annotations

import hashlib
import json

import pytest
import yaml
from small_run import rows_of, run, values

from udc_robust.attacks import METHODS
from udc_robust.config_file import check_config
from udc_robust.errors import UserError
from udc_robust.grid import presets
from udc_robust.tasks import TASKS

RESTORATION, CLASSIFICATION = (TASKS[task].schema for task in ("restoration", "classification"))
TWO = {
    "task": "classification",
    "data": "digits:test",
    "classifiers": ["digits_mini", {"name": "b", "weights": "b.pth"}],
}


def _checked(schema, **values):
    return check_config(values, schema, "test")


@pytest.mark.parametrize("name", presets.names())
@pytest.mark.parametrize("task", ["restoration", "classification"])
def test_every_preset_is_valid_and_has_all_kinds_of_attackers(name, task) -> None:
    values = {"restorers": ["nafnet_mini"]} if task == "restoration" else TWO
    found = check_config({**values, "preset": name}, TASKS[task].schema, "test")
    assert found.preset == name
    accesses = {attack.access[0] if attack.access == ["transfer"] else attack.chosen.access for attack in found.attacks}
    assert {"none", "query", "gradient", "transfer"} <= accesses


@pytest.mark.parametrize(
    "name, digest",
    [
        ("quick-1", "b814fca6889608a8"),
        ("standard-1", "d93358ed8caa412a"),
        ("standard-2", "fe6974200cd3f9f9"),
        ("standard-3", "33315f896f008e99"),
    ],
)
def test_a_published_preset_never_changes(name, digest) -> None:
    """What it says, not how it is written: change nothing here, add a version."""
    said = {task: presets.blocks(name, task, ["a", "b"]) for task in ("restoration", "classification")}
    assert hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize(
    "name, eps, share",
    [
        ("standard-2", ["1/255", "2/255", "4/255", "8/255"], 0.5),
        ("standard-3", ["1/255", "2/255", "4/255", "8/255"], 0.4),
        ("standard-3", ["4/255"], 0.5),
    ],
)
def test_a_later_standard_does_what_the_first_does_for_half_the_gradients(workplace, name, eps, share) -> None:
    """On the white box's part: the rest needs shipped networks (``scripts/bench_preset.py``)."""
    first, second = (_white_box(workplace, preset, eps) for preset in ("standard-1", name))
    assert all(second[0][key] <= first[0][key] + (0.02 if key[0] == "psnr" else 0.002) for key in first[0])
    assert second[1] <= share * first[1]


def _white_box(workplace, name, eps) -> tuple[dict[tuple[str, str], float], int]:
    """The least quality of the white box's attacks, by figure and budget, and their gradients."""
    attacks = [block for block in presets.blocks(name, "restoration", []) if _access(block) == "gradient"]
    assert len(attacks) == 2
    changes = {"data": [{**values(workplace)["data"][0], "limit": 2}], "eps": eps}
    rows = rows_of(run(workplace, f"{name}-{len(eps)}", attacks=attacks, **changes) / "results.csv")
    rows = [row for row in rows if row["method"] != "clean"]
    left = {
        (figure, row["eps"]): min(float(other[figure]) for other in rows if other["eps"] == row["eps"])
        for row in rows
        for figure in ("psnr", "ssim")
    }
    return left, sum(int(row["backwards"]) for row in rows)


def _access(block) -> str:
    method = METHODS[block["method"]]
    return "transfer" if block.get("access") == "transfer" else method.access


def test_the_newest_version_is_meant_and_nothing_means_standard() -> None:
    newest = [name for name in presets.names() if name.startswith("standard-")][-1]
    assert _checked(RESTORATION, restorers=["nafnet_mini"]).preset == newest
    assert _checked(RESTORATION, restorers=["nafnet_mini"], attacks=["fgsm"]).preset is None
    both = _checked(RESTORATION, restorers=["nafnet_mini"], attacks=["fgsm"], preset="quick")
    assert both.preset == "quick-1" and [a.label for a in both.attacks][-1] == "fgsm" and len(both.attacks) > 3


def test_a_written_config_is_the_same_config() -> None:
    for schema, written in ((RESTORATION, {"restorers": ["nafnet_mini"], "attacks": ["cw"]}), (CLASSIFICATION, TWO)):
        whole = {**written, "preset": "standard"} | (
            {"attacks": [{"method": "cw", "norm": "l2"}]} if schema is RESTORATION else {}
        )
        once = check_config(whole, schema, "test")
        again = check_config(yaml.safe_load(yaml.safe_dump(json.loads(once.model_dump_json()))), schema, "test")
        assert again == once


def test_who_quotes_a_preset_ran_it() -> None:
    changed = {"method": "apgd", "name": "apgd", "steps": 1}
    with pytest.raises(UserError, match="preset standard-1 has an attack 'apgd': give yours another name"):
        _checked(RESTORATION, restorers=["nafnet_mini"], preset="standard-1", attacks=[changed])


def test_a_lone_classifier_has_no_transfer_and_its_query_attack_begins_by_itself() -> None:
    alone = check_config({**TWO, "classifiers": "digits_mini"}, CLASSIFICATION, "test")
    assert not any(attack.sources for attack in alone.attacks) and "square" in [a.label for a in alone.attacks]
    both = check_config(TWO, CLASSIFICATION, "test")
    assert {source.name for a in both.attacks for source in a.sources or []} == {"digits_mini", "b"}


def test_unknown_names_are_told() -> None:
    with pytest.raises(UserError, match="did you mean 'standard'"):
        _checked(RESTORATION, restorers=["nafnet_mini"], preset="standart")

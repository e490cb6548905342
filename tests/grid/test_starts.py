"""Attacks that begin where others ended: at the next smaller budget, or on other networks; also after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_run import rows_of, run, values

from udc_robust.attacks import Linf, attack, image_seed, objective
from udc_robust.config_file import check_config
from udc_robust.data.images import read_image
from udc_robust.errors import UserError
from udc_robust.grid.cells import cells
from udc_robust.restorers.zoo import RestorerSpec, load_restorer
from udc_robust.tasks.restoration_schema import RestorationConfig

WARM = {"method": "apgd", "steps": 10, "settle": 0.01, "warm": True, "eot": 2}
SIZES = ["4/255", "1/255", "2/255"]


def _changes(workplace: Path, **more) -> dict:
    return {"data": [{**values(workplace)["data"][0], "limit": 2}], "eps": SIZES, "attacks": [WARM], **more}


def test_a_budget_begins_where_the_next_smaller_one_ended(workplace) -> None:
    out = run(workplace, "out", **_changes(workplace))
    victim = load_restorer(RestorerSpec("tiny", weights=str(workplace / "tiny.safetensors")), "srgb")
    x, gt = (torch.stack([read_image(workplace / part / f"{i}.png").pixels for i in range(2)]) for part in ("lq", "gt"))
    found, start, before = {}, None, 0.0
    for numerator in (1, 2, 4):
        eps, key = numerator / 255, f"apgd-linf-{numerator}_255"
        if start is not None:
            start = x + (start - x) * (eps / before)
        seeds = [image_seed(0, f"five/{i}", key) for i in range(2)]
        made = attack(
            victim, x, objective("mse"), Linf(eps), "apgd", target=gt, seeds=seeds, start=start, steps=10, settle=0.01
        )
        found[numerator], start, before = made, made.x_adv, eps
    for row in (row for row in rows_of(out / "results.csv") if row["attack"] == "apgd"):
        mine, i = found[round(255 * float(row["eps"]))], int(row["image"])
        assert float(row["objective_attacked"]) == pytest.approx(float(mine.adv_values[i]), rel=1e-6)
        assert int(row["backwards"]) == int(mine.meter.backwards[i])


def test_kills_between_two_budgets_change_no_byte(workplace) -> None:
    noisy = {"kind": "noise", "sigma": 0.02}
    attacks = [{**WARM, "steps": 6, "access": ["blind", "adaptive"]}]
    changes = _changes(workplace, defences=["none", noisy], attacks=attacks, eps=["1/255", "2/255"])
    out = run(workplace, "out", **changes)
    whole, lines = (out / "results.csv").read_bytes(), (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    after = [i for i, line in enumerate(lines) if "apgd-linf-2_255" in json.loads(line)["unit"]]
    assert len(lines) == 2 + 1 + 4 + 1 and len(after) == 3
    for kept in after:  # the smaller budget's rows are there, and its images are not
        (out / "journal.jsonl").write_bytes(b"".join(lines[:kept]))
        run(workplace, "out", **changes)
        assert (out / "results.csv").read_bytes() == whole, json.loads(lines[kept])


def test_a_query_attack_begins_at_a_transfer_and_pays_for_no_gradient(workplace) -> None:
    made_on = {"sources": "nafnet_mini"}
    transfer = {"method": "pgd", "name": "transfer", "steps": 2, "access": "transfer", **made_on}
    square = {"method": "square", "steps": 2, "start": "transfer", **made_on}
    changes = {"data": [{**values(workplace)["data"][0], "limit": 2}], "attacks": [transfer, square]}
    out = run(workplace, "out", **changes)
    whole, lines = (out / "results.csv").read_bytes(), (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    rows = {(row["attack"], row["eps"], row["image"]): row for row in rows_of(out / "results.csv")}
    asked = [key for key in rows if key[0].startswith("square")]
    assert len(asked) == 4
    for name, eps, image in asked:
        row, begun = rows[name, eps, image], rows["transfer", eps, image]
        assert (row["backwards"], row["queries"], row["exactness"]) == ("0", "2", "of nafnet_mini alone")
        assert float(row["objective_attacked"]) >= float(begun["objective_attacked"]) * (1 - 1e-6)
    (out / "journal.jsonl").write_bytes(b"".join(lines[:-1]))
    run(workplace, "out", **changes)
    assert (out / "results.csv").read_bytes() == whole


@pytest.mark.parametrize(
    "start, more, message",
    [
        ("transfr", {}, "start of attack 'square from nafnet_mini': unknown 'transfr'|did you mean 'transfer'"),
        ("transfer", {"sources": "discnet_mini"}, "'transfer' need the same sources and eps"),
        ("transfer", {"eps": "8/255"}, "'transfer' need the same sources and eps"),
        ("transfer", {"norm": "l2", "eps": 1}, "start of attack"),
        ("transfer", {"sources": None}, "`start` is for query attacks with `sources`"),
    ],
)
def test_a_start_that_does_not_fit_is_told(workplace, start, more, message) -> None:
    transfer = {"method": "pgd", "name": "transfer", "access": "transfer", "sources": "nafnet_mini"}
    square = {"method": "square", "start": start, "sources": "nafnet_mini", **more}
    with pytest.raises(UserError, match=message) as told:
        check_config(values(workplace, attacks=[transfer, square]), RestorationConfig, "test")
    assert "\n" not in str(told.value)


def test_a_cell_knows_those_of_smaller_budgets_of_its_own_access() -> None:
    attacks = [WARM, {**WARM, "name": "cold", "warm": False}]
    written = {"restorers": ["r"], "eps": ["4/255", 0, "1/255", "2/255"], "attacks": attacks}
    config = check_config(written, RestorationConfig, "test")
    found = cells(config.attacks, config.eps, config.defences[0])
    chain = {cell.key: cell.start.key if cell.start else None for cell in found[:4]}
    assert chain == {
        "apgd-linf-4_255": "apgd-linf-2_255", "apgd-linf-2_255": "apgd-linf-1_255", "apgd-linf-1_255": None,
        "apgd-linf-0": None,
    }  # fmt: skip
    assert not any(cell.start for cell in found[4:])


def test_a_method_that_cannot_be_warm_is_told(workplace) -> None:
    with pytest.raises(UserError, match=r"'fgsm' begins where it does: leave out `warm`; .*pgd, apgd can be warm"):
        check_config(values(workplace, attacks=[{"method": "fgsm", "warm": True}]), RestorationConfig, "test")

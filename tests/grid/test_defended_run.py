"""Runs with defences: what each access sees, judged draws, blind attacks as transfers, tuned controls, shared work."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from small_run import rows_of, run, values

from udc_robust.attacks import Streams, answers, image_seed
from udc_robust.config_file import check_config
from udc_robust.data.images import read_image
from udc_robust.defences.defence import Defended
from udc_robust.defences.registry import build_defence
from udc_robust.errors import UserError
from udc_robust.grid.matching import bisect
from udc_robust.metrics import psnr
from udc_robust.restorers.zoo import RestorerSpec, load_restorer
from udc_robust.tasks.restoration_schema import RestorationConfig

NOISY = {"kind": "noise", "name": "noisy", "sigma": 0.02}
DEFENDED = {
    "eps": ["4/255"],
    "draws": 3,
    "defences": ["none", NOISY, {"kind": "jpeg", "quality": 60}],
    "attacks": [
        "noise",
        {"method": "pgd", "steps": 3, "eot": 2, "access": ["blind", "bpda", "surrogate", "adaptive"]},
        {"method": "pgd", "name": "told", "steps": 3, "known_seed": True, "eot": 2},
        {"method": "square", "steps": 3},
    ],
}


@pytest.fixture
def defended(workplace):
    return workplace, run(workplace, "out", **DEFENDED)


def test_every_victim_meets_the_accesses_it_has(defended) -> None:
    _, out = defended
    met = {}
    for row in rows_of(out / "summary.csv"):
        met.setdefault(row["defence"], []).append((row["attack"], row["access"]))
    gradient = [("pgd blind", "blind"), ("pgd bpda", "bpda"), ("pgd adaptive", "adaptive")]
    others = [("clean", ""), ("noise", "none"), ("square", "query")]
    assert sorted(met["none"]) == sorted([*others, ("pgd", "gradient")])
    assert sorted(met["noisy"]) == sorted([*others, *gradient, ("told adaptive", "adaptive")])
    assert sorted(met["jpeg"]) == sorted([*others, *gradient, ("pgd surrogate", "surrogate")])


def test_a_blind_attack_is_the_bare_one_judged_elsewhere(defended) -> None:
    workplace, out = defended
    restorer = load_restorer(RestorerSpec("tiny", weights=str(workplace / "tiny.safetensors")), "srgb")
    victim = Defended(build_defence("jpeg", {"quality": 60}), restorer)
    blind = [r for r in rows_of(out / "results.csv") if r["defence"] == "jpeg" and r["access"] == "blind"]
    assert len(blind) == 5
    for row in blind:
        x_adv = read_image(out / "images" / "five" / row["image"] / "tiny" / "pgd-linf-4_255.input.png").pixels
        gt = read_image(workplace / "gt" / f"{row['image']}.png").pixels
        with torch.no_grad():
            assert float(row["psnr"]) == pytest.approx(
                psnr(victim(x_adv[None]).double(), gt[None].double()).item(), abs=1e-3
            )


def test_draws_are_judged_with_seeds_that_can_be_drawn_again(defended) -> None:
    workplace, out = defended
    restorer = load_restorer(RestorerSpec("tiny", weights=str(workplace / "tiny.safetensors")), "srgb")
    victim = Defended(build_defence("noise", {"sigma": 0.02}), restorer)
    (row,) = [
        r for r in rows_of(out / "results.csv")
        if (r["defence"], r["attack"], r["image"]) == ("noisy", "pgd adaptive", "3")
    ]  # fmt: skip
    folder = out / "images" / "five" / "3" / "noisy%20%2B%20tiny"
    x_adv = read_image(folder / "pgd-linf-4_255-adaptive.input.png").pixels
    gt = read_image(workplace / "gt" / "3.png").pixels[None].double()
    with torch.no_grad():
        outputs = answers(victim, x_adv[None], [image_seed(0, "five/3", "judge")], 3).double()
    each = torch.stack([psnr(output, gt) for output in outputs])
    assert float(row["psnr"]) == pytest.approx(each.mean().item(), abs=1e-3)
    assert float(row["psnr_worst_draw"]) == pytest.approx(each.min().item(), abs=1e-3)
    assert float(row["psnr_average"]) == pytest.approx(psnr(outputs.mean(0), gt).item(), abs=1e-3)
    assert float(row["psnr_draw_std"]) == pytest.approx(each.std(correction=0).item(), abs=1e-3)
    assert (row["eot"], row["draws"], row["forwards"], row["backwards"]) == ("2", "3", "7", "6")


def test_who_knows_the_seed_meets_one_draw(defended) -> None:
    _, out = defended
    told = [r for r in rows_of(out / "results.csv") if r["attack"] == "told adaptive"]
    assert len(told) == 5 and all(r["draws"] == "1" and r["known_seed"] == "1" for r in told)
    assert all((r["eot"], r["backwards"]) == ("1", "3") for r in told)
    assert all(float(r["psnr_draw_std"]) == 0 for r in told)


def test_knowing_more_hurts_more(defended) -> None:
    _, out = defended
    means = {r["attack"]: float(r["psnr"]) for r in rows_of(out / "summary.csv") if r["defence"] == "noisy"}
    # Three queries do next to nothing, so only the gradient's lead is sure.
    assert all(means["pgd adaptive"] < means[other] - 0.1 for other in ("clean", "noise", "square")), means
    facts = json.loads((out / "run.json").read_text())["defences"]
    gradients = facts["noisy + tiny"].pop("gradients")
    assert list(gradients) == ["bpda", "adaptive"] and gradients["adaptive"]["exactness"] == "exact"
    assert facts["noisy + tiny"] == {
        "kind": "noise", "options": {"sigma": 0.02}, "random": True, "nfe": 0,
    }  # fmt: skip


def test_controls_are_tuned_to_the_clean_psnr_of_what_they_rival(workplace) -> None:
    block = values(workplace)["data"][0]
    out = run(
        workplace, "out", eps=["4/255"], attacks=["noise"], validation=block, draws=2,
        defences=["none", NOISY, {"kind": "blur", "match": "noisy"}, {"kind": "tv", "match": "noisy"}],
    )  # fmt: skip
    matched = json.loads((out / "matched.json").read_text())
    clean = {r["defence"]: float(r["psnr"]) for r in rows_of(out / "summary.csv") if r["attack"] == "clean"}
    for name, option in (("blur", "sigma"), ("tv", "weight")):
        found = matched[f"{name} + tiny"]
        assert found[option] > 0 and found["facts"]["clean"] == pytest.approx(found["facts"]["wanted"], abs=0.1)
        assert clean[name] == pytest.approx(clean["noisy"], abs=0.5) and clean[name] < clean["none"]


@given(st.floats(0.0, 40.0), st.booleans())
def test_bisection_finds_the_nearest_strength(goal, whole) -> None:
    value, reached = bisect(lambda strength: 30 - strength, goal, 0, 10, whole=whole)
    wanted = min(max(30 - goal, 0), 10)
    assert abs(value - wanted) <= (0.5 if whole else 0.01) + 1e-9 and reached == 30 - value


def test_linear_light_has_no_such_defence(workplace) -> None:
    block = {**values(workplace)["data"][0], "domain": "linear"}
    with pytest.raises(UserError, match="defence 'noisy' takes images in"):
        run(workplace, "out", defences=[NOISY], data=[block], round_8_bit=False, eps=[0.1])


def test_two_processes_give_the_same_bytes_as_one(workplace) -> None:
    config = check_config(values(workplace, **DEFENDED), RestorationConfig, "test")
    path = workplace / "test.yaml"
    path.write_text(yaml.safe_dump(json.loads(config.model_dump_json(exclude={"out"}, exclude_none=True))))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    evaluate = ["-m", "udc_robust", "evaluate", str(path), "--out"]
    one = subprocess.run(
        [sys.executable, *evaluate, str(workplace / "one")], env=environment, capture_output=True, text=True
    )
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = subprocess.run(
        [sys.executable, *launch, *evaluate, str(workplace / "two")], env=environment, capture_output=True, text=True
    )
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, two.stderr
    assert (workplace / "two" / "journal.1.jsonl").is_file()
    for name in ("results.csv", "summary.csv"):
        assert (workplace / "one" / name).read_bytes() == (workplace / "two" / name).read_bytes()
    # A rank that died leaves its journal: one process takes up both.
    (workplace / "two" / "results.csv").unlink()
    lines = (workplace / "two" / "journal.1.jsonl").read_bytes()
    (workplace / "two" / "journal.1.jsonl").write_bytes(lines[: len(lines) // 2])
    again = subprocess.run(
        [sys.executable, *evaluate, str(workplace / "two")], env=environment, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert (workplace / "one" / "results.csv").read_bytes() == (workplace / "two" / "results.csv").read_bytes()


def test_a_random_victim_draws_for_each_image_from_its_own_stream() -> None:
    victim = Defended(build_defence("noise", {"sigma": 0.1}), torch.nn.Identity())
    x = torch.full((2, 3, 4, 4), 0.5)
    both, alone = victim(x, Streams([1, 2])), victim(x[1:], Streams([2]))
    assert torch.equal(both[1:], alone) and not torch.equal(both[0], both[1])
    rows = victim(x[:1].repeat(2, 1, 1, 1), Streams([1]).repeat(2))
    assert torch.equal(rows[0], both[0]) and not torch.equal(rows[0], rows[1])

"""A study: right figures, blind attacks that are the bare ones, votes, and the same bytes after a kill."""

from __future__ import annotations

import json
from types import SimpleNamespace
from urllib.parse import quote

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_study import load, rows_of, run

from udc_robust.attacks import Streams, answers, image_seed
from udc_robust.classifiers.data import load_images
from udc_robust.data.images import read_image
from udc_robust.defences.defence import Defended
from udc_robust.defences.halftone.core import LEARNED_INVERSE
from udc_robust.defences.registry import build_defence
from udc_robust.grid.identity import file_digest
from udc_robust.grid.victims import Jittered
from udc_robust.restorers.zoo import shipped_checkpoints
from udc_robust.tasks.classification import score, votes

DEFENCES = {"halftone": ("halftone", {"levels": 4}), "noisy": ("noise", {"sigma": 0.1})}


def victim_of(finished, defence):
    network = load(finished.parent)
    return network if defence == "none" else Defended(build_defence(*DEFENCES[defence]), network)


def picture(finished, row, cell):
    victim = "tiny" if row["defence"] == "none" else f"{row['defence']} + tiny"
    return read_image(finished / "images" / "twelve" / row["image"] / quote(victim, safe="") / cell).pixels[None]


def cell_of(row):
    name = row["attack"].split()[0]
    eps = "free" if row["eps"] == "inf" else f"{round(float(row['eps']) * 255)}_255"
    return f"{name}-{row['norm']}-{eps}" + (f"-{row['access']}" if " " in row["attack"] else "") + ".input.png"


def test_figures_can_be_computed_again_from_the_files(finished) -> None:
    images = load_images("digits:test").spread(12)
    clean = dict(zip(images.keys, images.batch(range(12))[0], strict=True))
    checked = 0
    for row in rows_of(finished / "results.csv"):
        if row["attack"] == "clean" or row["access"] == "blind":
            continue
        x_adv, x = picture(finished, row, cell_of(row)), clean[row["image"]][None]
        seed = image_seed(0, f"twelve/{row['image']}", "judge")
        with torch.no_grad():
            scores = answers(victim_of(finished, row["defence"]), x_adv, [seed], 3)
        label = int(row["label"])
        right = (scores.argmax(2)[:, 0] == label).double()
        assert float(row["top1"]) == float(scores.mean(0).argmax(1) == label)
        assert float(row["top1_one_draw"]) == pytest.approx(right.mean().item(), abs=1e-6)
        assert float(row["top1_worst_draw"]) == right.min() and len(right) == int(row["draws"])
        assert int(row["answer"]) == scores.mean(0).argmax(1)
        others = scores.mean(0)[0].clone()
        others[label] = -torch.inf
        assert float(row["margin"]) == pytest.approx((others.max() - scores.mean(0)[0, label]).item(), abs=1e-4)
        assert float(row["linf"]) == pytest.approx((x_adv - x).abs().max().item(), abs=1e-6)
        assert float(row["linf"]) <= float(row["eps"]) + 1e-6
        checked += 1
    assert checked == 12 * (3 * 2 * 2 + 2 + 6 + 4 + 3 + 1)


def test_a_blind_attack_is_the_bare_one_judged_elsewhere(finished) -> None:
    rows = [r for r in rows_of(finished / "results.csv") if (r["defence"], r["attack"]) == ("halftone", "pgd blind")]
    assert len(rows) == 24
    victim = victim_of(finished, "halftone")
    for row in rows:
        bare = picture(finished, {**row, "defence": "none"}, cell_of({**row, "attack": "pgd"}))
        with torch.no_grad():
            assert int(row["answer"]) == victim(bare).argmax(1)


def test_every_victim_meets_the_accesses_it_has(finished) -> None:
    met: dict[str, set[str]] = {}
    for row in rows_of(finished / "summary.csv"):
        met.setdefault(row["defence"], set()).add(row["access"])
    assert met["none"] == {"", "none", "gradient", "query"}
    assert met["halftone"] == {"", "none", "blind", "bpda", "surrogate", "adaptive", "query"}
    assert met["noisy"] == {"", "none", "blind", "bpda", "adaptive", "query"}


def test_summary_is_the_mean_of_the_rows(finished) -> None:
    results = rows_of(finished / "results.csv")
    for summary in rows_of(finished / "summary.csv"):
        names = ("defence", "attack", "norm", "eps")
        rows = [r for r in results if all(r[n] == summary[n] for n in names)]
        assert len(rows) == 12 == int(summary["images"])
        for column in ("top1", "top5", "top1_clean"):
            assert float(summary[column]) == pytest.approx(sum(float(r[column]) for r in rows) / 12, abs=1e-6)
        assert float(summary["top1_low"]) <= float(summary["top1"]) <= float(summary["top1_high"])
    bare = {r["attack"]: float(r["top1"]) for r in rows_of(finished / "summary.csv") if r["defence"] == "none"}
    assert bare["pgd"] < bare["noise"] <= bare["clean"] and bare["clean"] > 0.7


def test_cutting_the_journal_anywhere_ends_in_the_same_bytes(place) -> None:
    changes = {"attacks": ["noise", {"method": "pgd", "steps": 2, "access": ["blind", "adaptive"]}], "eps": ["8/255"]}
    out = run(place, "out", **changes)
    whole, journal = (out / "results.csv").read_bytes(), (out / "journal.jsonl").read_bytes()
    for share in (0.0, 0.4, 0.93):
        (out / "journal.jsonl").write_bytes(journal[: int(len(journal) * share)])
        (out / "results.csv").unlink()
        run(place, "out", **changes)
        assert (out / "results.csv").read_bytes() == whole


def test_batch_size_changes_nothing_but_rounding(place) -> None:
    a, b = (rows_of(run(place, f"b{n}", batch_size=n, attacks=["noise", "fgsm"]) / "results.csv") for n in (5, 12))
    for five, twelve in zip(a, b, strict=True):
        assert all(five[name] == twelve[name] for name in ("image", "attack", "eps", "answer", "top1", "top1_one_draw"))
        assert float(five["margin"]) == pytest.approx(float(twelve["margin"]), abs=1e-4)


def test_facts_say_what_stands_where(finished) -> None:
    facts = json.loads((finished / "run.json").read_text())
    assert facts["defences"]["halftone + tiny"]["options"] == {"levels": 4}
    assert facts["defences"]["noisy + tiny"]["random"] and facts["networks"]["tiny"]["trained"]
    assert facts["data"]["twelve"]["images"] == 12 and facts["data"]["twelve"]["classes"] == [str(i) for i in range(10)]


@given(st.integers(1, 5), st.integers(6, 12), st.integers(0, 2**31))
def test_the_average_votes_and_single_answers_are_told(draws, classes, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(draws, 4, classes, generator=generator)
    labels = torch.randint(classes, (4,), generator=generator)
    figures = votes(scores, labels)
    right = scores.argmax(2) == labels
    assert figures["top1"] == (scores.mean(0).argmax(1) == labels).double().tolist()
    judged = score(scores, SimpleNamespace(target=labels), scores)
    assert judged.shape == right.shape and judged.mean(0).tolist() == figures["top1"]  # what controls are tuned by
    assert figures["top1_worst_draw"] == right.all(0).double().tolist()
    assert figures["top1_one_draw"] == pytest.approx(right.double().mean(0).tolist())
    assert all((margin < 0) == bool(top1) for margin, top1 in zip(figures["margin"], figures["top1"], strict=True))
    assert all(five >= one for five, one in zip(figures["top5"], figures["top1"], strict=True))


def test_an_attacker_in_jitter_sees_noise_and_is_judged_without(place) -> None:
    network = load(place)
    x = torch.rand(2, 3, 8, 8)
    jittered = Jittered(network, 0.1)
    noisy = x + 0.1 * Streams([3, 4]).normal(x)
    assert torch.equal(jittered(x, Streams([3, 4])), network(noisy))
    attacks = [{"method": "pgd", "steps": 3, "eot": 2, "jitter": "8/255", "eps": "16/255"}]
    out = run(place, "out", attacks=attacks, defences=["none", {"kind": "halftone", "levels": 4}])
    rows = [r for r in rows_of(out / "results.csv") if r["defence"] == "halftone" and r["attack"] == "pgd adaptive"]
    victim = Defended(build_defence("halftone", {"levels": 4}), network)
    for row in rows:
        folder = out / "images" / "twelve" / row["image"] / quote("halftone + tiny", safe="")
        x_adv = read_image(folder / "pgd-linf-16_255-adaptive.input.png").pixels[None]
        with torch.no_grad():
            assert int(row["answer"]) == victim(x_adv).argmax(1) and row["draws"] == "1" and row["eot"] == "2"


def test_a_targeted_attack_wants_the_class_after_the_label(place) -> None:
    attacks = [{"method": "pgd", "steps": 20, "objective": "targeted_margin", "eps": "96/255"}]
    out = run(place, "out", attacks=attacks, defences=["none"])
    rows = [r for r in rows_of(out / "results.csv") if r["method"] == "pgd"]
    hit = [int(r["answer"]) == (int(r["label"]) + 1) % 10 for r in rows]
    assert sum(hit) > 8


def test_weights_of_a_learned_inverse_are_part_of_the_run(place) -> None:
    back = {"kind": "halftone", "name": "back", "inverse": "learned"}
    out = run(place, "out", attacks=["fgsm"], defences=["none", back], gallery=0)
    inputs = json.loads((out / "inputs.json").read_text())
    assert inputs[LEARNED_INVERSE] == file_digest(str(shipped_checkpoints()[LEARNED_INVERSE]))
    assert {row["nfe"] for row in rows_of(out / "results.csv") if row["defence"] == "back"} == {"1"}

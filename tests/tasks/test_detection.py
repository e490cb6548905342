"""Detection as a task: levels on clean images, attackers who know the detector and who do not, and mistakes."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import pytest
import torch
from small_study import make_workplace
from torchvision.utils import save_image

from udc_robust.attacks import Linf, attack, objective
from udc_robust.config_file import check_config
from udc_robust.errors import UserError
from udc_robust.grid.identity import claim_folder
from udc_robust.tasks import TASKS, evaluate, write_report
from udc_robust.tasks import detection_words as words
from udc_robust.tasks import guard as guards
from udc_robust.tasks.detection import SAFE, goal, holds, known_network, load_guards, score, summarise
from udc_robust.tasks.detection_schema import DetectionConfig
from udc_robust.tasks.guard import Guard, Watched, apart
from udc_robust.tasks.restoration_schema import RestorationConfig

NET = {"name": "net", "network": "net.py:Net"}


def values(folder, **changes):
    network = {"name": "tiny", "network": f"{folder}/tiny.py:Tiny", "weights": f"{folder}/tiny.safetensors"}
    return {
        "task": "detection", "data": {"source": "digits:test", "limit": 12}, "eps": ["32/255"], "gallery": 0,
        "clean": {"source": "digits:train", "limit": 40}, "save_images": False,
        "detectors": [{"kind": "none", "classifier": network},
            {"kind": "residual", "defence": "median", "classifier": network}],
        "attacks": ["fgsm", {"method": "pgd", "steps": 5}, {"method": "pgd", "steps": 5, "objective": "undetected"}],
        **changes,
    }  # fmt: skip


def config_of(folder, **changes) -> DetectionConfig:
    return check_config(values(folder, **changes), DetectionConfig, "test")


@pytest.fixture
def workplace(tmp_path):
    return make_workplace(tmp_path)


def test_a_run_says_what_is_seen_and_resumes(workplace) -> None:
    config, out = config_of(workplace), workplace / "run"
    evaluate(config, out)
    before = (out / "results.csv").read_bytes()
    with open(out / "summary.csv", newline="") as handle:
        rows = {(row["detector"], row["attack"]): row for row in csv.DictReader(handle)}
    assert {row["auroc"] for (detector, attack), row in rows.items() if detector == "none"} == {"0.5", "n/a"}
    known, unknown = (rows["residual", name] for name in ("pgd-margin+undetected", "pgd"))
    assert float(known["score"]) < float(unknown["score"]) and float(known["holds"]) < 0.7
    assert float(unknown["auroc_low"]) <= float(unknown["auroc"]) <= float(unknown["auroc_high"])
    # Who knows of no detector makes one attack for all of them.
    assert rows["none", "pgd"]["holds"] == unknown["holds"] and rows["none", "pgd"]["linf"] == unknown["linf"]
    assert rows["residual", "pgd"]["flagged_1"] == "n/a"  # 40 clean images promise no 1 %
    journal = (out / "journal.jsonl").read_bytes()
    (out / "journal.jsonl").write_bytes(journal[: len(journal) // 2])
    evaluate(config, out)
    assert (out / "results.csv").read_bytes() == before
    page = write_report([out]).read_text(encoding="utf-8")
    assert "AUROC" in page and "who know it" in page and "99 held-out clean images" in page


def captures(folder, name: str, count: int) -> dict:
    """A data block of smooth pictures of 16 px, with the same as their truths."""
    made = torch.Generator().manual_seed(count)
    for half in ("lq", "gt"):
        (folder / name / half).mkdir(parents=True)
    for i in range(count):
        ends = torch.rand(1, 3, 4, 4, generator=made)
        picture = torch.nn.functional.interpolate(ends, size=16, mode="bicubic").clamp(0, 1)[0]
        for half in ("lq", "gt"):
            save_image(picture, folder / name / half / f"{i:02}.png")
    return {"kind": "pairs", "name": name, "lq": str(folder / name / "lq"), "gt": str(folder / name / "gt")}


def test_a_restorer_is_watched_too(tmp_path) -> None:
    values = {
        "data": captures(tmp_path, "judged", 3),
        "clean": captures(tmp_path, "clean", 20),
        "detectors": [{"kind": "residual", "defence": {"kind": "blur", "sigma": 0.8}, "restorer": "nafnet_mini"}],
        "eps": ["8/255"], "gallery": 0, "save_images": False,
        "attacks": ["noise", {"method": "pgd", "steps": 3},
            {"method": "pgd", "steps": 3, "objective": "undetected", "evade": 5}],
    }  # fmt: skip
    evaluate(check_config(values, DetectionConfig, "test"), tmp_path / "run")
    with open(tmp_path / "run" / "summary.csv", newline="") as handle:
        rows = {row["attack"]: row for row in csv.DictReader(handle)}
    assert float(rows["pgd-mse+undetected"]["score"]) < float(rows["pgd"]["score"])
    assert 0 <= float(rows["pgd"]["auroc_noise"]) <= 1 and rows["pgd"]["safe"] != "n/a"


def test_the_files_that_a_detectors_defence_reads_by_default_belong_to_the_run(workplace) -> None:
    network = values(workplace)["detectors"][0]["classifier"]
    blocks = [{"kind": "none", "classifier": network}]
    blocks += [{"kind": "residual", "name": str(i), "defence": defence, "classifier": network}
        for i, defence in enumerate(["median", {"kind": "halftone", "inverse": "learned"}])]  # fmt: skip
    claim_folder(TASKS["detection"], config_of(workplace, detectors=blocks), workplace / "run", [], [])
    inputs = json.loads((workplace / "run" / "inputs.json").read_text())
    assert "inverse_halftone_mini" in inputs, sorted(inputs)


class Brightness(torch.nn.Module):
    """A detector of bright images."""

    def forward(self, x):
        return x.mean((1, 2, 3))


def guard_of(scores) -> Guard:
    network = SimpleNamespace(domain="srgb", min_size=1, trained=True, origin="", name="n", network=torch.nn.Identity())
    found = Guard("g", network, "brightness", Brightness())
    found.guarded = lambda x: torch.stack([9 * x[:, 0, 0, 0], 9 * x[:, 1, 0, 0]], 1)
    found.domain = "srgb"
    found.calibrate(torch.tensor(scores).view(-1, 1, 1, 1).expand(-1, 3, 2, 2))
    return found


def test_levels_come_from_clean_images() -> None:
    guard = guard_of([i / 100 for i in range(100)])
    scores = apart(guard(torch.tensor([0.49, 0.951, 0.949, 0.989, 0.991]).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)), None)[
        1
    ]
    assert (scores > 1).tolist() == [False, True, False, True, True] and abs(float(scores[0])) < 1e-5
    assert (scores > guard.rare).tolist() == [False, False, False, False, True]


def test_who_knows_the_detector_stays_under_it_and_still_wins() -> None:
    guard, x = guard_of([0.4 + i / 1000 for i in range(99)]), torch.full((1, 3, 2, 2), 0.449)
    x[0, 0, 0, 0] = 0.55
    label = torch.tensor([0])

    def reached(evade: float) -> tuple[float, bool]:
        climbed = Watched(objective("margin"), None, evade)
        made = attack(guard, x, climbed, Linf(0.1), "pgd", target=label, seeds=[0], steps=20)
        own, score = apart(guard(made.x_adv), None)
        return float(score), int(own.argmax(1)) == 1

    blind, known = reached(0.0), reached(1.0)
    assert blind[1] and known[1] and known[0] < blind[0] and known[0] <= 1


def test_an_attacker_knows_the_detector_only_where_he_says_so(workplace) -> None:
    config = config_of(workplace)
    guard = load_guards(config, "srgb")["residual"]
    assert known_network(config.attacks[0], guard).detector is None
    assert known_network(config.attacks[2], guard) is guard
    batch = SimpleNamespace(target=torch.tensor([1, 2]), x=torch.zeros(2, 3, 8, 8))
    assert [goal(attack, batch, torch.zeros(1, 2, 11))[0].name for attack in config.attacks] == [
        "margin", "margin", "margin+undetected",
    ]  # fmt: skip


def test_safe_is_right_or_flagged_and_caught_counts_what_broke() -> None:
    known = {"score_noise": 0.0, "holds_clean": 1.0}
    rows = [
        {**known, "score": 2.0, "score_clean": 0.0, "flagged_5": 1.0, "holds": 0.0, "safe": 1.0},
        {**known, "score": 0.0, "score_clean": 0.1, "flagged_5": 0.0, "holds": 0.0, "safe": 0.0},
        {**known, "score": 3.0, "score_clean": 0.2, "flagged_5": 1.0, "holds": 1.0, "safe": 1.0},
        {**known, "score": 0.0, "score_clean": 0.2, "flagged_5": 0.0, "holds": 0.0, "holds_clean": 0.0, "safe": 0.0},
    ]
    found = summarise(rows)
    assert found["caught_5"] == 0.5 and found["auroc"] == pytest.approx((4 + 4 + 0.5 + 0.5) / 16)
    assert TASKS["detection"].quality is SAFE


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"clean": None}, "has no `clean` images"),
        ({"clean": {"source": "digits:test"}}, "are among the `clean` images"),
        ({"clean": {"source": "digits:train", "limit": 12}}, "takes 19: give more `clean` images"),
        ({"clean": {"kind": "embedded"}}, "mix labelled images"),
        ({"detectors": {"kind": "residual", "defence": "blur"}}, "give it `classifier` or `restorer`"),
        ({"detectors": {"kind": "explanation", "restorer": "nafnet_mini"}}, "cannot watch a restorer"),
        ({"detectors": {"kind": "residual", "defence": "blur", "restorer": "nafnet_mini"}}, "watches no classifier"),
        ({"attacks": []}, "name its `attacks`"),
        ({"attacks": {"method": "ddn", "norm": "l2", "objective": "undetected"}}, "takes no `\\+undetected`"),
        ({"attacks": {"method": "pgd", "objective": "mse"}}, "did you mean|known are|margin"),
        ({"attacks": {"method": "pgd", "evade": 0}}, "greater than 0"),
        ({"corruptions": {"kind": "fog", "place": "before"}}, "corruptions after the optics only"),
        (
            {
                "detectors": [
                    {"name": "one", "kind": "residual", "defence": "blur", "classifier": {**NET, "weights": "one"}},
                    {"name": "two", "kind": "residual", "defence": "median", "classifier": {**NET, "weights": "two"}},
                ]
            },
            "two different classifiers are called 'net'",
        ),
        ({"defences": ["blur"]}, "make a defence a `residual` detector"),
    ],
)
def test_mistakes_are_told_in_one_line(workplace, changes, told) -> None:
    with pytest.raises(UserError, match=told) as error:
        evaluate(config_of(workplace, **changes), workplace / "run")
    assert "\n" not in str(error.value)


def test_a_restoration_report_says_whether_its_captures_are_seen(tmp_path) -> None:
    values = {
        "data": captures(tmp_path, "judged", 3), "restorers": "nafnet_mini", "eps": ["8/255"],
        "clean": captures(tmp_path, "clean", 20), "lpips": None, "gallery": 0,
        "detectors": [{"kind": "residual", "defence": {"kind": "blur", "sigma": 0.8}}],
        "attacks": ["noise", {"method": "pgd", "steps": 3}], "save_images": False,
    }  # fmt: skip
    evaluate(check_config(values, RestorationConfig, "test"), tmp_path / "run")
    page = write_report([tmp_path / "run"]).read_text(encoding="utf-8")
    assert "Does a detector see the attack?" in page and "residual beside nafnet_mini" in page
    with open(tmp_path / "run" / "report.detectors.csv", newline="") as handle:
        rows = {row["attack"]: row for row in csv.DictReader(handle)}
    # By hand, of one image: what the blur takes away, over its own levels.
    with open(tmp_path / "run" / "results.csv", newline="") as handle:
        seen = {(row["attack"], row["image"]): float(row["seen_residual"]) for row in csv.DictReader(handle)}
    above = [
        seen["pgd", one] > seen["clean", other]
        for one in {image for _, image in seen} for other in {image for _, image in seen}
    ]  # fmt: skip
    assert float(rows["pgd"]["auroc"]) == pytest.approx(sum(above) / 9, abs=1e-6)
    assert float(rows["clean"]["flagged_5"]) == pytest.approx(
        sum(score > 1 for (attack, _), score in seen.items() if attack == "clean") / 3, abs=1e-6
    )


def test_a_restoration_run_needs_clean_captures_for_its_detectors() -> None:
    values = {"restorers": "nafnet_mini", "detectors": [{"kind": "residual", "defence": "blur"}], "attacks": ["noise"]}
    with pytest.raises(UserError, match="no `clean` captures"):
        check_config(values, RestorationConfig, "test")


@pytest.mark.parametrize("learns, held_out", [(True, 40), (False, 80)])
def test_levels_are_set_on_images_that_a_detector_has_not_learnt(monkeypatch, learns, held_out) -> None:
    learnt = []

    def build(kind, options, beside, network, clean, seed):
        learnt.append(clean)
        detector = Brightness()
        detector.learns = learns
        return detector

    monkeypatch.setattr(guards, "build_detector", build)
    clean = torch.arange(80.0).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    network = SimpleNamespace(domain="srgb", min_size=1, trained=True, origin="", name="n", network=torch.nn.Identity())
    block = SimpleNamespace(name="g", kind="brightness", options={}, beside="classifier")
    made = guards.guard(block, network, clean, 0)
    assert torch.equal(learnt[0], clean[::2]) and made.held_out == held_out
    assert made.middle == 39  # of even numbers it would be 38


@pytest.mark.parametrize("second, safe", [(0.0, 0.0), (2.0, 1.0)])
def test_a_restoration_holds_while_it_loses_under_6_db(second, safe) -> None:
    truth = torch.full((2, 3, 4, 4), 0.5)
    batch = SimpleNamespace(target=truth, x=truth, domain="srgb")

    def answer(errors: tuple[float, float], scores: tuple[float, float]) -> torch.Tensor:
        made = truth + torch.tensor(errors).view(2, 1, 1, 1)
        return torch.cat([made.flatten(1), torch.tensor(scores)[:, None]], 1)[None]

    clean, attacked = answer((0.1, 0.1), (0.0, 0.0)), answer((0.19, 0.21), (0.0, second))
    assert holds(attacked, batch, clean).tolist() == [[True, False]]
    assert score(attacked, batch, clean).tolist() == [[1.0, safe]]


def test_a_detector_is_judged_by_the_attack_that_it_sees_least(monkeypatch) -> None:
    monkeypatch.setattr(words, "_interval", lambda *_: "")

    def panel(label: str, *areas: float) -> SimpleNamespace:
        attack = SimpleNamespace(attack=SimpleNamespace(objective="margin+undetected"))
        outcomes = [
            SimpleNamespace(counts=True, cell=attack, summary={"auroc": a, "caught_5": None}, title=f"at {a}")
            for a in areas
        ]
        return SimpleNamespace(
            label=label, outcomes=outcomes, clean_rows=[{"score": 0.1}], clean={"flagged_5": 0.05}
        )  # fmt: skip

    told = words.headline([panel("blind one", 0.95, 0.3), panel("keen one", 0.7, 0.9)], [])
    assert "sees most is keen one: AUROC 0.70 under at 0.7;" in told
    assert "it sees at 0.7 least: AUROC 0.70" in words.verdict(panel("keen one", 0.7, 0.9))

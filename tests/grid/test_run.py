"""A run: right figures, flat in memory, safe against kills, strict about what it is given."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from small_run import OPTIONS, rows_of, run, values

from udc_robust.attacks import Linf, attack, image_seed, objective
from udc_robust.config_file import check_config, load_config
from udc_robust.data.images import read_image, write_image
from udc_robust.errors import UserError
from udc_robust.grid.attacking import _noise
from udc_robust.grid.identity import claim_folder
from udc_robust.grid.images import Batch, Images
from udc_robust.grid.run import dealt
from udc_robust.metrics import psnr, ssim
from udc_robust.networks.weights import save_weights
from udc_robust.restorers.zoo import RestorerSpec, build_network, load_restorer
from udc_robust.tasks import evaluate
from udc_robust.tasks.restoration import RESTORATION, open_images
from udc_robust.tasks.restoration_schema import RestorationConfig


def test_figures_can_be_computed_again_from_the_files(workplace) -> None:
    out = run(workplace, "out")
    rows = rows_of(out / "results.csv")
    assert len(rows) == 5 * (1 + 2 + 2 + 1)
    restorer = load_restorer(RestorerSpec("tiny", weights=str(workplace / "tiny.safetensors")), "srgb")
    for row in rows:
        if row["method"] not in ("pgd", "cw"):
            continue
        cell = f"{row['method']}-{row['norm']}-" + (
            "free" if row["eps"] == "inf" else f"{round(float(row['eps']) * 255)}_255"
        )
        x_adv, x, gt = (
            read_image(path).pixels[None]
            for path in (
                out / "images" / "five" / row["image"] / "tiny" / f"{cell}.input.png",
                workplace / "lq" / f"{row['image']}.png",
                workplace / "gt" / f"{row['image']}.png",
            )
        )
        with torch.no_grad():
            output = restorer(x_adv).double()
        assert float(row["psnr"]) == pytest.approx(psnr(output, gt.double()).item(), abs=1e-3)
        assert float(row["ssim"]) == pytest.approx(ssim(output, gt.double()).item(), abs=1e-4)
        assert float(row["linf"]) == pytest.approx((x_adv - x).abs().max().item(), abs=1e-6)
        if row["method"] == "pgd":
            assert float(row["linf"]) <= float(row["eps"]) + 1e-6 and row["forwards"] == "4" and row["backwards"] == "3"
            assert float(row["psnr"]) < float(row["psnr_noise"]) < float(row["psnr_clean"]) + 0.5


def test_summary_is_the_mean_of_the_rows(workplace) -> None:
    out = run(workplace, "out")
    rows = [r for r in rows_of(out / "results.csv") if r["attack"] == "pgd" and float(r["eps"]) > 0.01]
    (summary,) = [r for r in rows_of(out / "summary.csv") if r["attack"] == "pgd" and float(r["eps"]) > 0.01]
    assert float(summary["psnr"]) == pytest.approx(np.mean([float(r["psnr"]) for r in rows]), abs=1e-4)
    drops = [float(r["psnr_clean"]) - float(r["psnr"]) for r in rows]
    assert float(summary["drop"]) == pytest.approx(np.mean(drops), abs=1e-4)
    worse = np.mean([float(r["psnr"]) < float(r["psnr_input"]) for r in rows])
    assert float(summary["worse_than_input"]) == pytest.approx(worse)
    assert summary["gmsd"] != "n/a" and summary["images"] == "5"


def test_an_image_alone_gets_the_same_attack(workplace) -> None:
    out = run(workplace, "out")
    x, gt = (read_image(workplace / part / "2.png").pixels[None] for part in ("lq", "gt"))
    restorer = load_restorer(RestorerSpec("tiny", weights=str(workplace / "tiny.safetensors")), "srgb")
    seed = image_seed(0, "five/2", "pgd-linf-4_255")
    result = attack(restorer, x, objective("mse"), Linf(4 / 255), "pgd", target=gt, seeds=[seed], steps=3)
    (row,) = [
        r for r in rows_of(out / "results.csv") if (r["attack"], r["image"]) == ("pgd", "2") and float(r["eps"]) > 0.01
    ]
    assert psnr(result.adv_output.double(), gt.double()).item() == pytest.approx(float(row["psnr"]), abs=1e-3)


def test_cutting_the_journal_anywhere_ends_in_the_same_bytes(workplace) -> None:
    out = run(workplace, "out")
    whole, journal = (out / "results.csv").read_bytes(), (out / "journal.jsonl").read_bytes()
    for share in (0.0, 0.3, 0.77, 0.999):
        (out / "journal.jsonl").write_bytes(journal[: int(len(journal) * share)])
        (out / "results.csv").unlink()
        run(workplace, "out")
        assert (out / "results.csv").read_bytes() == whole


def test_a_killed_run_resumes_to_the_same_bytes(workplace) -> None:
    whole = (run(workplace, "whole") / "results.csv").read_bytes()
    config = workplace / "run.yaml"
    config.write_text(yaml.safe_dump(values(workplace)))
    command = [sys.executable, "-m", "udc_robust", "evaluate", str(config), "--out", str(workplace / "killed")]
    journal = workplace / "killed" / "journal.jsonl"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (journal.is_file() and journal.read_bytes().count(b"\n") >= 4):
        assert process.poll() is None and time.monotonic() < deadline, "the run ended before it could be killed"
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = journal.read_bytes().count(b"\n")
    assert not (workplace / "killed" / "results.csv").exists()
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert (workplace / "killed" / "results.csv").read_bytes() == whole
    assert done < len(journal.read_bytes().splitlines())
    assert (workplace / "killed" / "report.html").is_file()


@pytest.mark.parametrize("names", ["ab", "abc", "abcd"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_process_gets_as_much_of_each_network(names, count) -> None:
    shares = [SimpleNamespace(batch=batch, victims=[SimpleNamespace(network=SimpleNamespace(name=name))])
        for batch in range(6) for name in names]  # fmt: skip
    parts = [dealt(shares, rank, count) for rank in range(count)]
    assert sorted(id(share) for part in parts for share in part) == sorted(map(id, shares))
    for part in parts:
        of = [share.victims[0].network.name for share in part]
        assert {of.count(name) for name in names} == {6 // count}
        assert [share.batch for share in part] == sorted(share.batch for share in part)
    assert len(set(map(len, parts))) == 1
    alone = [share for share in shares if share.victims[0].network.name == "a"][:1] + shares[1:2]
    if count > 1:  # one batch of two networks: two processes have something to do
        assert [len(dealt(alone, rank, count)) for rank in range(2)] == [1, 1]


def test_batch_size_changes_nothing_but_rounding(workplace) -> None:
    a, b = (rows_of(run(workplace, f"b{n}", batch_size=n) / "results.csv") for n in (1, 3))
    for one, three in zip(a, b, strict=True):
        assert (one["image"], one["attack"], one["eps"]) == (three["image"], three["attack"], three["eps"])
        assert float(one["psnr"]) == pytest.approx(float(three["psnr"]), abs=1e-3)


def test_a_folder_without_ground_truth_is_measured_against_the_clean_restoration(workplace) -> None:
    data = [{"kind": "folder", "lq": str(workplace / "lq")}]
    out = run(workplace, "out", data=data, attacks=[{"method": "pgd", "steps": 3}])
    for row in rows_of(out / "results.csv"):
        assert row["reference"] == "clean"
        assert row["attack"] == "clean" or (row["against"] == "clean" and float(row["psnr"]) < 60)
    assert {row["drop"] for row in rows_of(out / "summary.csv")} == {"n/a"}
    with pytest.raises(UserError, match="use `against: clean`"):
        run(workplace, "out2", data=data, attacks=[{"method": "pgd", "against": "gt"}])


def test_linear_light(workplace) -> None:
    scene = torch.rand(3, 24, 24) * 3
    for part, factor in (("lin_lq", 0.9), ("lin_gt", 1.0)):
        write_image(workplace / part / "0.npy", scene * factor)
    data = [{"kind": "pairs", "name": "lin", "lq": str(workplace / "lin_lq"), "gt": str(workplace / "lin_gt")}]
    changes = {"data": [{**data[0], "domain": "linear"}], "attacks": [{"method": "pgd", "steps": 3, "eps": 0.1}]}
    with pytest.raises(UserError, match="round_8_bit: false"):
        run(workplace, "no", **changes)
    out = run(workplace, "out", round_8_bit=False, **changes)
    x_adv = np.load(out / "images" / "lin" / "0" / "tiny" / "pgd-linf-0.1.input.npy")
    row = next(r for r in rows_of(out / "results.csv") if r["attack"] == "pgd")
    assert float(row["linf"]) == pytest.approx(0.1, rel=1e-3) and x_adv.max() > 1


def test_a_run_folder_of_another_config_is_left_alone(workplace) -> None:
    out = run(workplace, "out")
    before = (out / "results.csv").read_bytes()
    with pytest.raises(
        UserError,
        match=r"run with another attacks \(\d there, 1 here\); seed \(0 there, 5 here\): choose another `out`",
    ):
        run(workplace, "out", seed=5, attacks=["fgsm"])
    assert (out / "results.csv").read_bytes() == before
    (workplace / "full").mkdir()
    (workplace / "full" / "diary.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty and holds no run"):
        run(workplace, "full")


def test_other_weights_under_the_same_name_are_anotherrun(workplace) -> None:
    out = run(workplace, "out")
    network = build_network("NAFNet", OPTIONS)
    save_weights(workplace / "tiny.safetensors", network, {"network": "NAFNet", "options": OPTIONS, "domain": "srgb"})
    with pytest.raises(UserError, match=r"run of other inputs \(.*tiny.safetensors changed\)"):
        run(workplace, "out")
    assert (out / "results.csv").is_file()


def test_the_config_of_a_run_makes_the_same_run_again(workplace) -> None:
    first = run(workplace, "first")
    config = load_config(first / "config.yaml", RestorationConfig)
    evaluate(config, workplace / "again")
    assert (workplace / "again" / "results.csv").read_bytes() == (first / "results.csv").read_bytes()


def test_untrained_networks_are_marked(workplace) -> None:
    restorers = [{"name": "random", "network": "NAFNet", "options": OPTIONS}]
    out = run(workplace, "out", restorers=restorers, attacks=["fgsm"])
    facts = json.loads((out / "run.json").read_text())
    assert facts["networks"]["random"]["trained"] is False


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data": [{"kind": "folder", "lq": "nowhere"}]}, "nowhere"),
        ({"device": "tpu9"}, "device"),
        ({"data": [{"kind": "embedded", "size": 32, "limit": 1, "crop": 64}]}, "smaller than crop 64"),
        ({"attacks": [{"method": "pgd", "objective": "lpips"}]}, "an attack on LPIPS needs its weights"),
        (
            {
                "attacks": [{"method": "ppgd", "norm": "lpips_squeeze", "eps": 0.1}],
                "data": [{"kind": "embedded", "size": 32, "limit": 1}],
            },
            "an attack on LPIPS needs its weights",
        ),
        ({"attacks": [{"method": "ppgd", "norm": "lpips_squeeze"}]}, "has a scale of its own"),
    ],
)
def test_mistakes_are_told_before_any_work(workplace, changes, message, monkeypatch) -> None:
    if "LPIPS" in message:
        from udc_robust import metrics
        from udc_robust.metrics import records

        def missing(*args):
            raise metrics.LpipsUnavailable("not here")

        monkeypatch.setattr(records, "load_lpips", missing)
    with pytest.raises(UserError, match=message):
        run(workplace, "out", **changes)
    assert not (workplace / "out").exists()


def test_a_full_disk_keeps_what_was_computed(workplace, monkeypatch) -> None:
    import errno

    from udc_robust.grid import journal as module

    true_fsync, calls = os.fsync, []

    def full(descriptor):
        calls.append(1)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        true_fsync(descriptor)

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        run(workplace, "out", save_images=False, gallery=0)
    monkeypatch.setattr(module.os, "fsync", true_fsync)
    kept = len((workplace / "out" / "journal.jsonl").read_bytes().splitlines())
    assert kept >= 1
    run(workplace, "out", save_images=False, gallery=0)
    whole = run(workplace, "whole", save_images=False, gallery=0)
    assert (workplace / "out" / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()


def test_noise_has_the_norm_of_each_images_own_change() -> None:
    x = torch.full((2, 3, 8, 8), 0.5)
    images = Images("two", ["a", "b"], [(8, 8)] * 2, "srgb", lambda i: (x[i], None), lambda: "", truth=False)
    adv = x + torch.tensor([0.01, 0.03]).view(2, 1, 1, 1)
    victim, result = SimpleNamespace(deployed=torch.nn.Identity()), SimpleNamespace(x_adv=adv, adv_outputs=adv[None])
    cell = SimpleNamespace(attack=SimpleNamespace(norm="l2"), eps=math.inf, seed_key="cw-l2-free")
    (noisy,) = _noise(Batch(images, [0, 1], x, None, 0, 1), victim, cell, result)
    found, wanted = ((y - x).flatten(1).norm(dim=1) for y in (noisy, adv))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=0)


def test_other_pixels_of_one_name_and_size_are_other_images(workplace) -> None:
    config = check_config(values(workplace), RestorationConfig, "test")
    images = open_images(config.data[0])
    told = []
    for name, sets in (("one", images), ("two", replace(images, digest=lambda: "others"))):
        claim_folder(RESTORATION, config, workplace / name, [sets], [])
        told.append(yaml.safe_load((workplace / name / "config.yaml").read_text())["fingerprint"]["images"])
    assert told[0] != told[1]

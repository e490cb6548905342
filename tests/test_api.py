"""The public face: light to import, five lines to an attack, a benchmark of one's own module, code of one's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import udc_robust
from udc_robust.errors import UserError
from udc_robust.metrics import ssim


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, udc_robust; print(sorted({'torch', 'diffusers', 'basicsr', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in udc_robust.__all__:
        assert getattr(udc_robust, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'atack'"):
        udc_robust.atack  # noqa: B018
    assert "pgd" in udc_robust.METHODS and "jpeg" in udc_robust.DEFENCES and "mse" in udc_robust.OBJECTIVES


class Contrast(nn.Module):
    """Sharpens contrast, so that perturbations grow."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (0.5 + 1.5 * (x - 0.5)).clamp(0, 1)


def test_tensors_are_attacked_with_ones_own_network() -> None:
    x = torch.rand(2, 3, 8, 8)
    result = udc_robust.attack(Contrast(), x, x, method="pgd", eps="4/255", steps=3)
    assert 0 < (result.x_adv - x).abs().max() <= 4 / 255 + 0.5 / 255 and result.adv_values.min() > 0
    free = udc_robust.attack(Contrast(), x, x, method="cw", norm="l2", eps=float("inf"), steps=3)
    assert free.x_adv.shape == x.shape
    with pytest.raises(UserError, match="unknown attack method 'pdg': did you mean 'pgd'"):
        udc_robust.attack(Contrast(), x, method="pdg")


def test_the_same_call_attacks_a_classifier() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    x, labels = torch.rand(2, 3, 8, 8), torch.tensor([1, 3])
    result = udc_robust.attack(network, x, labels, method="pgd", eps=8 / 255, steps=5)
    assert (result.adv_values > result.clean_values).all() and result.adv_output.shape == (2, 4)


def test_loss_and_seed_are_those_that_were_said() -> None:
    x = 0.2 + 0.6 * torch.rand(1, 3, 12, 12)
    by_loss = {loss: udc_robust.attack(Contrast(), x, x, method="fgsm", loss=loss) for loss in ("mse", "ssim")}
    made = by_loss["ssim"]
    assert made.adv_values.item() == pytest.approx(1 - ssim(made.adv_output, x).item(), abs=1e-5)
    assert by_loss["mse"].adv_values.item() != pytest.approx(made.adv_values.item())
    first, again, other = (udc_robust.attack(Contrast(), x, x, method="noise", seed=seed).x_adv for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_folders_and_keys_of_a_benchmark_reach_its_run(tmp_path, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr("udc_robust.api.run_task", lambda task, config, folder: seen.append((config, folder)))
    quick = {"attacks": ["fgsm"], "lpips": None, "out": tmp_path / "run", "seed": 7}
    udc_robust.benchmark(Contrast(), "captures", "clean", **quick)
    udc_robust.benchmark("nafnet_mini", "captures", **quick)
    udc_robust.benchmark("digits_mini", "digits:train", task="classification", attacks=["fgsm"], seed=7)
    pairs, folder, classes = (config for config, _ in seen)
    assert (pairs.data[0].kind, pairs.data[0].lq, pairs.data[0].gt) == ("pairs", [Path("captures")], Path("clean"))
    assert (folder.data[0].kind, folder.data[0].lq) == ("folder", [Path("captures")])
    assert classes.data[0].source == "digits:train" and {config.seed for config, _ in seen} == {7}
    assert seen[0][1] == tmp_path / "run"


def test_an_attack_is_made_on_other_networks_in_one_line() -> None:
    x, other = 0.2 + 0.6 * torch.rand(2, 3, 8, 8), nn.Conv2d(3, 3, 1)
    made = udc_robust.attack(Contrast(), x, x, method="ifgsm", eps=4 / 255, steps=3, sources=[other])
    alone = udc_robust.attack(other, x, x, method="ifgsm", eps=4 / 255, steps=3)
    assert torch.equal(made.x_adv, alone.x_adv) and torch.equal(made.adv_output, Contrast()(made.x_adv))
    asked = udc_robust.attack(Contrast(), x, x, method="prgf", queries=30, samples=5, sources=[other])
    assert (asked.meter.queries <= 30).all() and (asked.adv_values >= 0.9 * made.adv_values).all()


def test_a_benchmark_of_ones_own_module_takes_sources_that_ship(tmp_path) -> None:
    attacks = [{"method": "fgsm", "access": "transfer", "sources": "nafnet_mini"}]
    data = {"data": {"kind": "embedded", "size": 24, "limit": 1}, "gallery": 0, "save_images": False, "lpips": None}
    found = udc_robust.benchmark(Contrast(), attacks=attacks, eps=["4/255"], out=tmp_path / "run", **data)
    assert {row["exactness"] for row in found.results()} == {"n/a", "of nafnet_mini alone"}


def test_a_function_of_ones_own_is_a_method() -> None:
    def upwards(oracle, x, threat, *, share: float = 1.0):
        oracle.values(x + share * threat.eps)
        return x

    x = 0.2 + 0.6 * torch.rand(1, 3, 8, 8)
    result = udc_robust.attack(Contrast(), x, x, method=upwards, eps=0.1, share=0.5, round_8_bit=False)
    assert torch.allclose(result.x_adv, x + 0.05)


def test_a_module_is_benchmarked_and_the_run_is_kept(tmp_path) -> None:
    quick = {"data": {"limit": 2, "size": 32}, "attacks": ["noise", {"method": "pgd", "steps": 2}], "eps": ["4/255"]}
    found = udc_robust.benchmark(Contrast(), out=tmp_path / "run", lpips=None, **quick)
    (row,) = found.table
    assert row["victim"] == "Contrast" and row["held"] < row["clean"] and row["strongest"] == "pgd"
    assert len(list(found.results())) == 2 * 3
    page = found.report(tmp_path / "mine.html")
    assert page == tmp_path / "mine.html" and "Contrast" in page.read_text()
    other = Contrast()
    other.register_buffer("gain", torch.ones(1))
    with pytest.raises(UserError, match="holds a run"):
        udc_robust.benchmark(other, out=tmp_path / "run", lpips=None, **quick)
    with pytest.raises(UserError, match="unknown preset 'qick': did you mean 'quick'"):
        udc_robust.benchmark(Contrast(), preset="qick")


def test_a_classifier_is_benchmarked_too(tmp_path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 10))
    data = {"source": "digits:test", "limit": 10}
    found = udc_robust.benchmark(network, task="classification", out=tmp_path / "run", data=data, attacks=["fgsm"])
    assert {row["budget"].split("\N{NO-BREAK SPACE}")[1] for row in found.table} == {"2/255", "4/255", "8/255"}

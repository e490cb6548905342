"""A run in tiles: the figures of whole images where the restorer is local, what it says beforehand, and bad tiles."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from torch import nn

from udc_robust.config_file import check_config
from udc_robust.data.images import write_image
from udc_robust.errors import UserError
from udc_robust.tasks import evaluate, write_report
from udc_robust.tasks.restoration_schema import RestorationConfig

NETS = """
from torch import nn

class Local(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 6, 3, padding=1), nn.GELU(), nn.Conv2d(6, 3, 5, padding=2))

class Global(Local):
    def forward(self, x):
        y = super().forward(x)
        return y + 0.2 * y.mean((2, 3), keepdim=True)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    gt = nn.functional.interpolate(torch.rand(1, 3, 5, 5), (70, 120), mode="bicubic")[0].clamp(0, 1)
    write_image(tmp_path / "gt" / "a.png", gt)
    write_image(tmp_path / "lq" / "a.png", 0.9 * gt)
    return tmp_path


def run(out: str, network: str = "Local", **changes) -> list[dict[str, str]]:
    values = {
        "name": "tiles", "lpips": None, "eps": ["4/255"], "data": {"kind": "pairs", "lq": "lq", "gt": "gt"},
        "restorers": [{"name": "net", "network": f"nets.py:{network}", "domain": "srgb"}],
        "attacks": [{"method": "pgd", "steps": 3}], **changes,
    }  # fmt: skip
    evaluate(check_config(values, RestorationConfig, "test"), out)
    with open(out / "results.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def test_tiles_change_nothing_where_the_restorer_is_local(place, capsys, monkeypatch) -> None:
    from udc_robust.grid import check

    monkeypatch.setattr(check, "_ENOUGH", 32)  # px: what is larger is a large image
    whole, tiled = run(place / "whole"), run(place / "tiles", tile=48)
    told = capsys.readouterr().err
    for one, other in zip(whole, tiled, strict=True):
        assert float(one["psnr"]) == pytest.approx(float(other["psnr"]), abs=1e-3)
    assert "memory for restorer 'net' on 1 image of 70 x 120 px: up to" in told
    assert "exact, it looks 3 px to every side" in told
    facts = json.loads((place / "tiles" / "run.json").read_text())["networks"]["net"]
    assert "tiles of 48 px that overlap by 16" in facts["told"]


def test_what_tiles_change_is_measured_and_stands_in_the_report(place) -> None:
    run(place / "out", "Global", tile=48)
    page = write_report([place / "out"]).read_text()
    assert "NOT exact, its answer is" in page and "dB PSNR from that to a whole image" in page


def test_a_data_block_meets_only_what_it_names(place) -> None:
    data = [
        {"kind": "pairs", "name": name, "lq": "lq", "gt": "gt", "attacks": [attack]}
        for name, attack in (("one", "pgd"), ("two", "fgsm"))
    ]
    rows = run(place / "out", data=data, attacks=[{"method": "pgd", "steps": 1}, "fgsm"])
    assert {(row["data"], row["attack"]) for row in rows} == {
        ("one", "clean"), ("one", "pgd"), ("two", "clean"), ("two", "fgsm"),
    }  # fmt: skip
    assert "fgsm" in write_report([place / "out"]).read_text()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"tile": 16, "network": "Local"}, r"`tile` 16 is too small, net looks 3 px .*: set `tile` to 48 or more"),
        ({"tile": 48, "overlap": 24}, "tile 48 must be more than twice the overlap"),
        ({"tile": -1}, "tile"),
    ],
)
def test_tiles_that_cannot_be(changes, message, place) -> None:
    with pytest.raises(UserError, match=message) as caught:
        run(place / "out", **changes)
    assert "\n" not in str(caught.value) and not (place / "out").exists()

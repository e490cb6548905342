"""A small run: five pairs, a tiny network, and an evaluation of them."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from torch import nn

from udc_robust.config_file import check_config
from udc_robust.data.images import write_image
from udc_robust.networks.weights import save_weights
from udc_robust.restorers.zoo import build_network
from udc_robust.tasks import evaluate
from udc_robust.tasks.restoration_schema import RestorationConfig

OPTIONS = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}


def make_workplace(tmp_path: Path) -> Path:
    """Five pairs of two sizes and a small network with weights."""
    generator = torch.Generator().manual_seed(0)
    for i in range(5):
        size = (24, 32) if i < 3 else (36, 28)
        gt = nn.functional.interpolate(torch.rand(1, 3, 5, 5, generator=generator), size, mode="bicubic")[0].clamp(0, 1)
        write_image(tmp_path / "gt" / f"{i}.png", gt)
        write_image(
            tmp_path / "lq" / f"{i}.png", (0.9 * gt + 0.02 * torch.rand(gt.shape, generator=generator)).clamp(0, 1)
        )
    torch.manual_seed(1)
    network = build_network("NAFNet", OPTIONS)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.15)
    save_weights(tmp_path / "tiny.safetensors", network, {"network": "NAFNet", "options": OPTIONS, "domain": "srgb"})
    return tmp_path


def values(workplace: Path, **changes) -> dict:
    return {
        "name": "test", "batch_size": 2, "gallery": 2, "lpips": None, "eps": ["2/255", "4/255"],
        "data": [{"kind": "pairs", "name": "five", "lq": str(workplace / "lq"), "gt": str(workplace / "gt")}],
        "restorers": [{"name": "tiny", "weights": str(workplace / "tiny.safetensors")}],
        "attacks": [
            "noise",
            {"method": "pgd", "steps": 3},
            {"method": "cw", "norm": "l2", "steps": 4, "search_steps": 3},
        ],
        **changes,
    }  # fmt: skip


def run(workplace: Path, out: str, **changes) -> Path:
    evaluate(check_config(values(workplace, **changes), RestorationConfig, "test"), workplace / out)
    return workplace / out


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))

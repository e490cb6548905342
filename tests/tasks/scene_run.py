"""A small run on scenes: two HDR files, a small display and a network of the user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from udc_robust.config_file import check_config
from udc_robust.data.images import write_image
from udc_robust.tasks import evaluate
from udc_robust.tasks.restoration_schema import RestorationConfig

SIZE = 24
SOURCE = """
import torch
from torch import nn


class Sharpen(nn.Module):
    domain = "tonemapped"

    def __init__(self):
        super().__init__()
        self.amount = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        blurred = nn.functional.avg_pool2d(nn.functional.pad(x, [1] * 4, mode="replicate"), 3, 1)
        return x + self.amount * (x - blurred)
"""


def make_workplace(folder: Path) -> Path:
    """Two stills of 32 px with a lamp each, a PSF of 7 px, and code of a network."""
    generator = torch.Generator().manual_seed(0)
    (folder / "hdr").mkdir()
    for name in ("one", "two"):
        rough = torch.rand(1, 3, 9, 9, generator=generator)
        scene = nn.functional.interpolate(rough, (32, 32), mode="bicubic")[0].clamp(0, 1) * 0.8
        scene[:, 14:17, 14:17] = 20.0
        write_image(folder / "hdr" / f"{name}.npy", scene)
    psf = torch.rand(3, 7, 7, generator=generator) + 8 * torch.eye(7).roll(3, 0)[3][:, None] * torch.eye(7)[3]
    np.save(folder / "psf.npy", (psf / psf.sum((1, 2), keepdim=True)).numpy())
    (folder / "sharpen.py").write_text(SOURCE)
    return folder


def block(folder: Path, **changes) -> dict:
    """The scenes in a config."""
    return {
        "kind": "scenes", "name": "lamps", "hdr": str(folder / "hdr"), "psf": str(folder / "psf.npy"), "size": SIZE,
        "space": "scene", "shot": 1e-4, "read": 1e-3, "shift_px": 0.5, **changes,
    }  # fmt: skip


def values(folder: Path, data: dict | None = None, **changes) -> dict:
    return {
        "name": "scenes", "batch_size": 2, "gallery": 1, "lpips": None, "draws": 3, "eps": ["4/255"],
        "data": [block(folder, **(data or {}))],
        "restorers": [{"name": "sharpen", "network": f"{folder / 'sharpen.py'}:Sharpen"}],
        "attacks": ["noise", {"method": "pgd", "steps": 4, "eot": 2}],
        **changes,
    }  # fmt: skip


def config(folder: Path, data: dict | None = None, **changes) -> RestorationConfig:
    return check_config(values(folder, data, **changes), RestorationConfig, "test")


def run(folder: Path, out: str, data: dict | None = None, **changes) -> Path:
    evaluate(config(folder, data, **changes), folder / out)
    return folder / out

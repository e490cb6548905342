"""A finished run folder without a run: figures from a formula, pictures from numpy."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import yaml
from PIL import Image

from udc_robust.config_file import check_config
from udc_robust.defences.config import DefenceConfig
from udc_robust.grid.cells import Cell, cells
from udc_robust.grid.sources import made_on
from udc_robust.grid.tables import write_tables
from udc_robust.grid.victims import victim_label
from udc_robust.metrics import records
from udc_robust.tasks.restoration import RESTORATION
from udc_robust.tasks.restoration_schema import RestorationConfig

HOSTILE = "<img src=x onerror=alert(1)>&\"'"
# dB lost per level of Linf 1/255, or per unit of L2, for each method.
STRENGTH = {
    "noise": 0.05,
    "fgsm": 0.9,
    "ifgsm": 1.5,
    "pgd": 1.8,
    "apgd": 1.9,
    "square": 0.6,
    "brightness": 0.4,
    "cw": 3.0,
}

# For each kind of defence: gradients, model calls, clean dB that it costs, and how much of the damage it lets through.
WAYS = {"none": [], "purifier": ["bpda", "adaptive"], "blur": ["bpda", "adaptive"]}
NFE = {"none": 0, "purifier": 4, "blur": 0}
COST = {"none": 0.0, "purifier": 1.0, "blur": 1.0}
FRAGILITY = {"none": 1.0, "purifier": 0.7, "blur": 0.8}


def photo(seed: int, side: int = 40) -> np.ndarray:
    """A smooth colour picture ``(H,W,3)`` of levels."""
    y, x = np.mgrid[:side, :side] / side
    waves = [np.sin(2 * np.pi * (x * (seed + c + 1) + y * (c + 1))) for c in range(3)]
    return (128 + 90 * np.stack(waves, -1)).astype(np.uint8)


def write_fake_run(
    out: Path,
    photos: Mapping[str, np.ndarray] | None = None,
    *,
    truth: bool = True,
    trained: bool = True,
    **config: Any,
) -> RestorationConfig:
    """Write the folder of a run over ``photos`` and return its config; further keys go into the config."""
    photos = photos or {name: photo(i) for i, name in enumerate(["harbour.png", "street.png", HOSTILE])}
    block = {"kind": "pairs", "lq": "lq", "gt": "gt"} if truth else {"kind": "folder", "lq": "lq"}
    values = {
        "name": "study",
        "data": [{"name": "photos", **block}],
        "restorers": ["nafnet_mini", "discnet_mini"],
        "attacks": [
            {"method": "noise"}, {"method": "fgsm"}, {"method": "pgd"},
            {"method": "pgd", "norm": "l2", "eps": [0.5, 1]}, {"method": "cw", "norm": "l2"},
        ],
        "eps": ["1/255", "4/255"],
        "gallery": 2,
        "lpips": None,
        **config,
    }  # fmt: skip
    checked = check_config(values, RestorationConfig, "fake")
    resolved = json.loads(checked.model_dump_json(exclude={"out"}))
    out.mkdir(parents=True)
    resolved["fingerprint"] = {"images": f"{sorted(photos)}", "weights": {"nafnet_mini": "0123456789abcdef"}}
    (out / "config.yaml").write_text(yaml.safe_dump(resolved, sort_keys=False))
    (out / "run.json").write_text(json.dumps(_facts(checked, len(photos), trained)))
    units = []
    for victim, restorer, block in _victims(checked):
        met = cells(checked.attacks, checked.eps, block, WAYS[block.kind], block.kind == "purifier")
        for cell in [None, *(cell for cell in met if not cell.attack.sources or _sources(cell, restorer))]:
            key = "/".join(quote(part, safe="") for part in (checked.data[0].label, next(iter(photos)), victim))
            rows = [
                _row(checked, i, name, restorer, cell, truth, img.shape, block)
                for i, (name, img) in enumerate(photos.items())
            ]
            cost = {"images": len(photos)} | ({"seconds": 1.5, "peak_bytes": 3 * 2**20} if cell else {})
            unit = {"unit": f"{key}/{quote(cell.key, safe='') if cell else 'clean'}", "rows": rows, "cost": cost}
            units.append(unit | ({"queries": _asked(rows)} if cell and cell.access == "query" else {}))
            for i, (name, pixels) in enumerate(photos.items()):
                if i < checked.gallery:
                    folder = out / "images" / quote(checked.data[0].label, safe="") / quote(name, safe="")
                    _pictures(folder, quote(victim, safe=""), pixels, cell, truth)
    write_tables(RESTORATION, [records.LPIPS[backbone] for backbone in checked.lpips], out, units)
    return checked


def _sources(cell: Cell, restorer: str) -> list[str]:
    """A network is never its own source."""
    return [source.name for source in cell.attack.sources or [] if source.name != restorer]


def _asked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The damage grows with the logarithm of the queries; the last image takes twice as many."""
    return [
        {"image": row["image"], "queries": n, "psnr": row["psnr_clean"] + share * (row["psnr"] - row["psnr_clean"])}
        for i, row in enumerate(rows)
        for n, share in [(10, 0.5), (100, 1.0)] if i + 1 < len(rows) or n == 10
    ] + [{"image": rows[-1]["image"], "queries": 200, "psnr": rows[-1]["psnr"]}]  # fmt: skip


def _victims(config: RestorationConfig) -> list[tuple[str, str, DefenceConfig]]:
    return [
        (victim_label(r.name, "none" if d.kind == "none" else d.label), r.name, d)
        for r in config.restorers
        for d in config.defences
    ]


def _facts(config: RestorationConfig, images: int, trained: bool) -> dict[str, Any]:
    described = {
        restorer.name: {
            "network": "NAFNet", "parameters": 123456, "trained": trained or i > 0, "origin": "weights.safetensors",
            "domain": "tonemapped",
        }
        for i, restorer in enumerate(config.restorers)
    }  # fmt: skip
    return {
        "name": config.name, "task": "restoration", "command": "udc-robust evaluate study.yaml", "seed": 3,
        "device": "cpu", "threads": 1,
        "versions": {"udc_robust": "0.1.0", "python": "3.11", "torch": "2", "torchvision": "0"},
        "data": {
            block.label: {"images": images, "domain": "tonemapped", "truth": block.kind != "folder"}
            for block in config.data
        },
        "networks": described, "defences": {
            victim: {
                "kind": d.kind, "options": {}, "random": d.kind == "purifier", "nfe": NFE[d.kind],
                "gradients": {way: {"exactness": "exact", "memory": "all"} for way in WAYS[d.kind]},
            }
            for victim, _, d in _victims(config)
        }, "missing": "weights of alex are not on this machine",
    }  # fmt: skip


def _row(
    config: RestorationConfig, i: int, image: str, restorer: str, cell: Cell | None, truth: bool,
    shape: tuple[int, ...], block: DefenceConfig,
) -> dict[str, Any]:  # fmt: skip
    height, width = shape[:2]
    clean = 30.0 + i % 5 + (restorer != config.restorers[0].name) - COST[block.kind]
    row = {
        "data": config.data[0].label, "image": image, "height": height, "width": width,
        "reference": "gt" if truth else "clean", "restorer": restorer, "draws": 1,
        "nfe": NFE[block.kind], "defence": "none" if block.kind == "none" else block.label,
    }  # fmt: skip
    if cell is None:
        clean = clean if truth else math.inf
        names = {"attack": "clean", "method": "clean", "norm": "", "eps": 0.0}
        return (
            row
            | names
            | _quality(clean)
            | _opinions(config, clean, ())
            | {"psnr_clean": clean, "psnr_input": 22.0 + i % 3}
        )
    method, norm = cell.attack.method, cell.attack.norm
    size = 0.7 if math.isinf(cell.eps) else cell.eps
    fragility = (1.0 if restorer == config.restorers[0].name else 0.8) * FRAGILITY[block.kind]
    fragility *= 0.5 if cell.access in ("blind", "transfer") else 1
    exactness = made_on(_sources(cell, restorer)) if cell.attack.sources else "exact"
    damage = fragility * STRENGTH[method] * (size * 255 if norm == "linf" else 8 * size) * (1 + 0.1 * (i % 4))
    start = clean if truth else 42.0
    linf, l2 = (size, size * math.sqrt(3 * height * width)) if norm == "linf" else (size / 8, size)
    return row | _quality(start - damage) | _opinions(config, start - damage, cell.attack.climbs) | {
        "attack": cell.label, "eot": 1, "known_seed": False, "exactness": exactness,
        "method": method, "norm": norm, "eps": cell.eps, "objective": cell.attack.objective,
        "against": "gt" if truth else "clean", "access": cell.access,
        "psnr_clean": clean if truth else math.inf, "psnr_noise": start - 0.1 * damage, "psnr_input": 22.0 + i % 3,
        "psnr_to_clean_output": 42.0 - damage, "psnr_of_attacked_input": 40.0, "objective_clean": 0.001,
        "objective_attacked": 0.1, "broken": damage >= 6, "linf": linf, "l2": l2, "forwards": 41, "backwards": 40,
        "queries": 30 if cell.access == "query" else 0, "bad_gradients": int(method == "pgd" and norm == "l2"),
    }  # fmt: skip


def _quality(psnr: float) -> dict[str, float]:
    quality = 1.0 if math.isinf(psnr) else min(psnr / 36, 1.0)
    draws = {"psnr_worst_draw": psnr, "psnr_average": psnr, "psnr_draw_std": 0.0}
    return {"psnr": psnr, **draws, "ssim": quality, "ms_ssim": quality, "gmsd": 1 - quality}


def _opinions(config: RestorationConfig, psnr: float, climbed: tuple[str, ...]) -> dict[str, float]:
    """LPIPS that falls with PSNR; an attack on a backbone makes it say five times as much."""
    plain = 0.0 if math.isinf(psnr) else max(0.5 - psnr / 80, 0.0)
    names = [records.LPIPS[backbone].name for backbone in config.lpips]
    return {name: plain * (5 if name in climbed else 1) for name in names}


def _pictures(folder: Path, restorer: str, pixels: np.ndarray, cell: Cell | None, truth: bool) -> None:
    """The PNG files that a run keeps; the attack is a checkerboard of one level, the damage one of twenty."""
    board = (np.indices(pixels.shape[:2]).sum(0) % 2 * 2 - 1)[..., None]
    given = pixels // 2 + 40
    if cell is None:
        _save(folder / "input.png", given)
        _save(folder / restorer / "clean.output.png", pixels)
        if truth:
            _save(folder / "gt.png", pixels)
        return
    size = 1 if math.isinf(cell.eps) else max(round(cell.eps * (255 if cell.attack.norm == "linf" else 2)), 1)
    _save(folder / restorer / f"{cell.key}.input.png", given + size * board)
    _save(folder / restorer / f"{cell.key}.output.png", pixels + 20 * size * board)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)

"""The study behind a purifier's noise level: one ordinary run with a defence a level, then distances of features.

The images must be tested nowhere else: the level that comes out is then fixed for every later table.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from udc_robust.attacks import frozen, image_seed
from udc_robust.config_file import check_config
from udc_robust.data.images import read_image
from udc_robust.defences.purifier.core import Purifier
from udc_robust.defences.purifier.level import (
    NO_PURIFIER,
    LevelFigures,
    PooledFeatures,
    coarsest_module,
    frechet_distance,
    purified_features,
)
from udc_robust.errors import UserError
from udc_robust.files import atomic_path, disk_errors, write_text
from udc_robust.grid.cells import cells
from udc_robust.grid.images import Images
from udc_robust.grid.journal import Journal
from udc_robust.grid.run import run
from udc_robust.grid.tables import to_csv
from udc_robust.grid.units import image_folder
from udc_robust.limits import usable_device
from udc_robust.lock import sole_writer
from udc_robust.progress import progress
from udc_robust.restorers.zoo import Restorer
from udc_robust.tasks.restoration import RESTORATION, load_restorers, open_images
from udc_robust.tasks.restoration_schema import RestorationConfig

_DRAWS = 2  # as in tuning: the PSNR of whole images differs little from draw to draw
COLUMNS = ("level", "sigma", "psnr_clean", "psnr_blind", "psnr_adaptive", "psnr_attacked", "frechet")


def parse_levels(text: str) -> list[int]:
    """Rising noise levels from ``5,10,20``; 0 (no purifier) is measured in any case and left out here.

    Raises:
        UserError: not whole numbers from 0, or none but 0.
    """
    try:
        levels = sorted({int(part) for part in text.split(",")})
    except ValueError:
        levels = []
    if not levels or levels[0] < 0 or levels == [NO_PURIFIER]:
        raise UserError(f"levels {text!r} must be timesteps such as 5,10,20,50 (0 stands for no purifier)")
    return [level for level in levels if level != NO_PURIFIER]


def study(
    restorer: Mapping[str, Any], purifier: str, data: Mapping[str, Any], levels: Sequence[int], out: Path, *,
    attack: Mapping[str, Any], samples: int = 1, module: str | None = None, seed: int = 0, device: str = "cpu",
    command: str = "",
) -> list[LevelFigures]:  # fmt: skip
    """Measure a restorer behind a purifier at each level, and bare; write ``levels.csv`` and ``levels.png``.

    The same call resumes. ``out`` is a run folder like that of `evaluate`, so it has a report too.

    Args:
        restorer, data: blocks of an `RestorationConfig`.
        levels: timesteps, see `parse_levels`.
        attack: an attack's block without ``access``: it is made blind to the purifier and adaptive, at each level.
        samples: purified draws that are averaged.
        module: part of the restorer whose pooled answers are the features; None: see `coarsest_module`.

    Returns:
        One entry a level, rising; the first is that without a purifier.

    Raises:
        UserError: a level that the model was not trained on, images without ground truth or in linear light, unknown
            names, or ``out`` holds another run.
    """
    from udc_robust.defences.purifier.pipeline import load_purifier  # imports diffusers, which is slow

    same = {"kind": "purifier", "purifier": purifier, "samples": samples}
    config = check_config(
        {
            "name": "noise-level", "seed": seed, "device": device, "data": [data], "restorers": [restorer],
            "defences": ["none", *({**same, "name": _name(level), "noise_level": level} for level in levels)],
            "attacks": [{**attack, "access": ["blind", "adaptive"], "against": "gt"}],
            "draws": _DRAWS, "lpips": None,
        },
        RestorationConfig,
        "options",
    )  # fmt: skip
    usable_device(device)
    inputs = _checked_images(config)  # everything that can be wrong is asked before the folder is claimed
    pipeline = load_purifier(purifier)
    defences = {level: pipeline.purifier(pipeline.plan(noise_level=level, samples=samples)) for level in levels}
    loaded = load_restorers(config, inputs.domain)[config.restorers[0].name]
    example = inputs.load(0)[0][None].to(device)
    part = module or coarsest_module(loaded.network, loaded, example)
    features = PooledFeatures(loaded.network, part, loaded)

    with sole_writer(out):
        run(RESTORATION, config, out, command)
        psnrs = _psnrs(out)
        distances = _distances(config, inputs, loaded, features, {NO_PURIFIER: None, **defences}, out)
    sigmas = {NO_PURIFIER: 0.0} | {level: pipeline.schedule.sigma(level) for level in levels}
    figures = [_figures(level, sigmas[level], psnrs, distances[level]) for level in (NO_PURIFIER, *levels)]
    write_text(out / "levels.csv", to_csv(COLUMNS, [{name: getattr(f, name) for name in COLUMNS} for f in figures]))
    _plot(figures, part, out / "levels.png")
    return figures


def _checked_images(config: RestorationConfig) -> Images:
    """Pairs that a level can be chosen on."""
    inputs = open_images(config.data[0])
    if inputs.domain == "linear":
        raise UserError(f"a purifier takes images in [0,1], data {inputs.label!r} is linear light: tone-map it first")
    if not inputs.truth:
        raise UserError(f"data {inputs.label!r} has no ground truth: a level is chosen by PSNR, which needs pairs")
    if len(inputs.keys) < 2:
        raise UserError(f"data {inputs.label!r} has one image: distances of features need two or more (`limit`)")
    return inputs


def _name(level: int) -> str:
    return f"level {level}" if level != NO_PURIFIER else "none"


def _psnrs(out: Path) -> dict[tuple[str, str], list[float]]:
    """PSNR of each image in dB, in the order of their names, by defence and access (``clean``: unattacked)."""
    found: dict[tuple[str, str], list[float]] = {}
    with open(out / "results.csv", newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            seen = "clean" if row["method"] == "clean" else row["access"]
            found.setdefault((row["defence"], seen), []).append(float(row["psnr"]))
    return found


def _figures(
    level: int, sigma: float, psnrs: Mapping[tuple[str, str], Sequence[float]], frechet: float
) -> LevelFigures:  # fmt: skip
    blind, adaptive = (
        psnrs[_name(level), "gradient" if level == NO_PURIFIER else seen] for seen in ("blind", "adaptive")
    )
    return LevelFigures(
        level=level, sigma=sigma, psnr_clean=fmean(psnrs[_name(level), "clean"]), psnr_blind=fmean(blind),
        psnr_adaptive=fmean(adaptive), psnr_attacked=fmean(map(min, blind, adaptive)), frechet=frechet,
    )  # fmt: skip


def _distances(
    config: RestorationConfig, inputs: Images, restorer: Restorer, features: PooledFeatures,
    defences: Mapping[int, Purifier | None], out: Path,
) -> dict[int, float]:  # fmt: skip
    """Frechet distance of each level, between unattacked captures (never truths) and purified blind attacks.

    All levels meet the same images and the same seeds; finished levels are kept in a journal, a line each.
    """
    with disk_errors(out):
        (out / "frechet").mkdir(exist_ok=True)
    journal = Journal(out / "frechet", holds={"frechet": float})
    attacked = f"{cells(config.attacks, config.eps, config.defences[0])[0].key}.input.png"
    with progress("features of levels", len(defences)) as tick, frozen(restorer), torch.no_grad():
        clean = None
        for level, defence in defences.items():
            unit = f"{_name(level)}/{features.module}"
            if unit not in journal.units:
                if clean is None:
                    pictures = [inputs.load(i)[0][None].to(config.device) for i in range(len(inputs.keys))]
                    clean = torch.cat([features(x) for x in pictures])
                rows = []
                for key in inputs.keys:
                    path = image_folder(out, inputs.label, key, restorer.name) / attacked
                    x_adv = read_image(path).pixels[None].to(config.device)
                    seed = image_seed(config.seed, f"{inputs.label}/{key}", "judge")
                    purifier = None if defence is None else defence.to(config.device)
                    rows.append(purified_features(features, purifier, x_adv, [seed], config.draws))
                journal.add(unit, frechet=frechet_distance(clean, torch.cat(rows)))
            tick(_name(level))
    return {level: journal.units[f"{_name(level)}/{features.module}"]["frechet"] for level in defences}


def _plot(figures: Sequence[LevelFigures], module: str, path: Path) -> None:
    """PSNR on clean images and under both attacks over the levels, and the Frechet distance on an axis of its own."""
    import matplotlib
    from matplotlib.figure import Figure

    places, ticks = range(len(figures)), ["none", *(str(f.level) for f in figures[1:])]
    with matplotlib.rc_context({"font.size": 10}):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        # Okabe and Ito's colours: told apart by the colour-blind; markers tell them apart in print.
        for name, label, colour, marker in (
            ("psnr_clean", "not attacked", "#0072B2", "o"),
            ("psnr_blind", "attack blind to the purifier", "#E69F00", "s"),
            ("psnr_adaptive", "adaptive attack", "#D55E00", "^"),
        ):
            axes.plot(places, [getattr(f, name) for f in figures], color=colour, marker=marker, label=label)
        axes.set(xticks=list(places), xticklabels=ticks, xlabel="noise level (timestep)", ylabel="PSNR (dB)")
        other = axes.twinx()
        other.plot(
            places, [f.frechet for f in figures], color="#666666", linestyle="--", marker="D", markersize=4,
            label=f"features of {module}",
        )  # fmt: skip
        other.set_ylabel("Frechet distance")
        axes.grid(axis="y", color="#dddddd")
        lines = [*axes.get_lines(), *other.get_lines()]
        figure.legend(lines, [str(line.get_label()) for line in lines], loc="outside upper center", ncols=2)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=150)

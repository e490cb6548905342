"""How far restorers fall when the display is not mounted or made quite as it should be.

Each parameter by itself along a grid, all of them together at the corners of their tolerances, and by gradient.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from udc_robust.config_file import Number, Strict
from udc_robust.data.psf_files import check_tolerances, variation_of
from udc_robust.errors import UserError
from udc_robust.files import disk_errors
from udc_robust.grid.identity import claim, file_digest
from udc_robust.grid.journal import Journal
from udc_robust.limits import Count, CountOrNone, Device, Seed, Side, usable_device
from udc_robust.lock import sole_writer
from udc_robust.optics.psf import named_display
from udc_robust.optics.variation import Variation
from udc_robust.progress import note, progress
from udc_robust.restorers.zoo import RestorerSpec, load_restorer
from udc_robust.tasks.restoration_schema import RestorerConfig
from udc_robust.tasks.tolerance_page import write_results
from udc_robust.tasks.tolerance_results import Found, Results
from udc_robust.tasks.tolerance_scenes import Bench, Scene, check_fits, digest_of, embedded_scenes, scenes_in
from udc_robust.tasks.tolerance_search import ascent, corners, psf_at

MULTIPLES = (0.5, 1.0, 2.0, 4.0)
"""Of a tolerance, on either side: the curve goes past it, to where the restorer falls."""
_HOLDS: Mapping[str, type] = {"values": dict, "figures": dict, "seconds": float}


class ToleranceConfig(Strict):
    """A study.

    Attributes:
        psf: display: a name, or a measured PSF's file.
        scenes: folder of linear light; None: the photographs that ship. ``kind``: as of ``udc-robust synth``.
        tolerances: by parameter, in its unit; empty: the usual ones of all.
        limit, crop: number of scenes, and the side of the part that is restored and judged.
        steps, restarts: of the gradient's search; 0 steps for none.
        draws: of noise averaged for a gradient.
        corners: whether to try all corners of the tolerances.
        shot, read: noise of captures, see `optics.capture`.
    """

    restorers: list[RestorerConfig] = Field(min_length=1)
    psf: str = "phone"
    scenes: Path | None = None
    kind: Literal["panorama", "hdr", "photo"] = "panorama"
    tolerances: dict[str, Number] = Field(default_factory=dict)
    limit: Count = 4
    crop: Annotated[Side, Field(ge=2)] = 128
    steps: CountOrNone = 8
    restarts: Count = 2
    draws: Count = 1
    corners: bool = True
    shot: Annotated[Number, Field(ge=0)] = 0.0
    read: Annotated[Number, Field(ge=0)] = 0.0
    seed: Seed = 0
    device: Device = "cpu"


def study(config: ToleranceConfig, out: Path, command: str = "") -> Results:
    """Measure, and write ``tolerance.csv``, ``.json``, ``.html`` and pictures; the same call resumes.

    Raises:
        UserError: a tolerance of nothing or beyond the pupil, scenes without linear light or smaller than the PSF, or
            ``out`` holds another study.
    """
    usable_device(config.device)
    variation = variation_of(config.psf)
    tolerances = dict(config.tolerances or variation.usual)
    check_tolerances(tolerances, variation)
    scenes = _scenes(config)
    check_fits(scenes, variation.side, config.psf)
    restorers = {
        block.name: load_restorer(RestorerSpec(**block.model_dump()), "tonemapped", config.device, config.seed)
        for block in config.restorers
    }
    for name, one in restorers.items():
        if not one.trained:
            note(f"restorer {name} has random weights: give it `weights`, or what falls here is no restoration")
    bench = Bench(scenes, restorers, config.shot, config.read, config.seed, config.device)
    with sole_writer(out):
        weights = {name: file_digest(one.origin) for name, one in restorers.items()}
        claim(out, config, {"scenes": digest_of(scenes), "weights": weights})
        results = _measured(config, bench, variation, tolerances, out)
        write_results(results, bench, lambda values: psf_at(variation, values), out, command)
    return results


def _scenes(config: ToleranceConfig) -> list[Scene]:
    if config.scenes is None:
        return embedded_scenes(config.limit, config.crop, config.psf)
    return scenes_in(config.scenes, config.kind, config.limit, config.crop, config.seed)


def _along(variation: Variation, name: str, tolerance: float) -> list[float]:
    """The values of a curve, those that cannot be computed left out."""
    found = []
    for multiple in MULTIPLES:
        try:
            variation.check(name, multiple * tolerance)
        except UserError:
            break
        found += [-multiple * tolerance, multiple * tolerance]
    return sorted(found)


def _measured(
    config: ToleranceConfig, bench: Bench, variation: Variation, tolerances: Mapping[str, float], out: Path
) -> Results:
    """All PSFs, one after the other; what is finished is kept in a journal."""
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    journal, names = Journal(out, holds=_HOLDS), list(bench.restorers)
    plan: dict[str, Callable[[], tuple[Mapping[str, float], list[str]]]] = {"nominal": lambda: ({}, names)}
    for name, tolerance in tolerances.items():
        for value in _along(variation, name, tolerance):
            plan[f"{name} {value:g}"] = lambda name=name, value=value: ({name: value}, names)  # type: ignore[misc]
    for number, corner in enumerate(corners(tolerances) if config.corners else []):
        plan[f"corner {number}"] = lambda corner=corner: (corner, names)  # type: ignore[misc]
    for restorer in names if config.steps else []:
        for restart in range(config.restarts):

            def climb(restorer: str = restorer, restart: int = restart) -> tuple[Mapping[str, float], list[str]]:
                values = ascent(bench, restorer, variation, tolerances, steps=config.steps, draws=config.draws,
                                restart=restart)  # fmt: skip
                return values, [restorer]

            plan[f"gradient {restart} {restorer}"] = climb
    with progress("displays within tolerance", len(plan), done=sum(unit in journal.units for unit in plan)) as tick:
        for unit, values_of in plan.items():
            if unit not in journal.units:
                begun = time.monotonic()
                values, judged = values_of()
                psf: Tensor = psf_at(variation, values)
                journal.add(unit, values=dict(values), figures=bench.figures(psf, judged),
                            seconds=time.monotonic() - begun)  # fmt: skip
                tick(unit)
    found = [Found(unit.split()[0], journal.units[unit]["values"], journal.units[unit]["figures"]) for unit in plan]
    if named_display(config.psf) is None:
        note(f"PSF {config.psf}: measured, so its picture is turned, stretched and moved, and blurred for defocus")
    return Results(Path(config.psf).name, tolerances, dict(variation.units), names, found)

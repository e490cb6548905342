"""What is possible: how much of its quality any restorer of a camera could keep under a budget.

Caps come from an ordinary run with attacks that no restorer faithful to brightness can refuse; the ceiling of every
restorer comes from pairs of scenes that an attacker can make look the same, see `optics.two_scenes`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from udc_robust.attacks import frozen
from udc_robust.config_file import check_config
from udc_robust.data.embedded import EmbeddedPairs
from udc_robust.data.samples import PairedFolders
from udc_robust.data.scene_sets import SceneSet
from udc_robust.errors import UserError
from udc_robust.files import atomic_path, write_text
from udc_robust.grid.budget import eps_text
from udc_robust.grid.images import Images
from udc_robust.grid.run import run
from udc_robust.grid.tables import to_csv
from udc_robust.limits import usable_device
from udc_robust.lock import sole_writer
from udc_robust.networks.lipschitz import lipschitz_bound
from udc_robust.portable import portable
from udc_robust.progress import note, progress
from udc_robust.report.comparison import CAPS
from udc_robust.report.panel import Outcome, Panel
from udc_robust.report.run_folder import read_run
from udc_robust.report.worst import attacked_at, worst_by_image
from udc_robust.restorers.zoo import Restorer
from udc_robust.tasks.limits_floor import median_floor
from udc_robust.tasks.limits_page import write_limits_page
from udc_robust.tasks.limits_pairs import Scenes, find_pairs, levels_of
from udc_robust.tasks.limits_words import COLUMNS, Limits, floors, limits_page
from udc_robust.tasks.restoration import RESTORATION, load_restorers, open_images
from udc_robust.tasks.restoration_schema import RestorationConfig


def study(
    restorer: Mapping[str, Any], data: Mapping[str, Any], eps: str, out: Path, *, steps: int = 20,
    search_steps: int = 400, scenes: Path | None = None, l2: float = 0.1, tile: int = 0, overlap: int | None = None,
    seed: int = 0, device: str = "cpu", command: str = "",
) -> list[Limits]:  # fmt: skip
    """Measure caps and ceilings, write ``limits.csv``, ``.png``, ``.md`` and ``.html``; the same call resumes.

    ``out/run`` is a run folder like that of `evaluate`, ``out/pairs`` has the pictures of all pairs.

    Args:
        restorer, data: blocks of a `RestorationConfig`.
        eps: Linf budget, such as ``4/255``.
        steps: of PGD; ``search_steps``: of the search for second scenes, 0 for none.
        scenes: the sources of a set that `synthesise` made, where ``data`` are its pairs; None: of built-in images.
        l2: Euclidean budget of a whole image for which a certified floor is computed; 0 for none.
        tile, overlap: see `RestorationConfig`.

    Returns:
        One entry an image.

    Raises:
        UserError: images without ground truth or in linear light, a budget of less than one 8-bit level, or ``out``
            holds another run.
    """
    options = {"tile": tile, "overlap": overlap, "seed": seed, "device": device}
    config = _config(restorer, data, eps, steps, options)
    usable_device(device)
    inputs = _checked_images(config)
    loaded = load_restorers(config, inputs.domain)[config.restorers[0].name]
    known = _scenes(config, inputs, scenes) if search_steps else None
    budget = config.eps[0]
    with sole_writer(out):
        run(RESTORATION, config, out / "run", command)
        (panel,) = read_run(out / "run", {"restoration": RESTORATION}).panels()
        found = caps(panel, mean_errors(inputs, loaded, device), budget)
        if known is not None:
            pairs = find_pairs(known, loaded, out / "pairs", eps=budget, steps=search_steps, device=device)
            found = [replace(one, **asdict(pairs[one.image])) for one in found]
        rows = [{name: getattr(one, name) for name in COLUMNS} for one in found]
        write_text(out / "limits.csv", to_csv(COLUMNS, rows))
        _plot(found, eps_text(budget), out / "limits.png")
        told = _floors(inputs, loaded, found, budget, l2, device, seed)
        write_text(out / "limits.md", portable(limits_page(found, eps_text(budget), loaded.name, command, told)))
        write_limits_page(found, out, eps=eps_text(budget), restorer=loaded.name, command=command, floors=told)
    return found


def _config(
    restorer: Mapping[str, Any], data: Mapping[str, Any], eps: str, steps: int, options: Mapping[str, Any]
) -> RestorationConfig:
    attacks = ["noise", {"method": "pgd", "steps": steps}, *CAPS]
    values = {
        "name": "limits", "data": [data], "restorers": [restorer], "eps": [eps], "attacks": attacks, "lpips": None,
        **options,
    }  # fmt: skip
    config = check_config(values, RestorationConfig, "options")
    if not levels_of(config.eps[0]):
        raise UserError(f"--eps {eps} is less than one level of 8-bit pictures (1/255): no attack fits in it")
    return config


def _checked_images(config: RestorationConfig) -> Images:
    """Pairs whose captures an attacker can change by a budget."""
    inputs = open_images(config.data[0])
    if not inputs.truth:
        raise UserError(
            f"data {inputs.label!r} has no ground truth: a cap is a PSNR against it, which needs pairs (--gt)"
        )
    if inputs.domain == "linear":
        raise UserError(f"data {inputs.label!r} is linear light, where eps has no common unit: tone-map it first")
    return inputs


def caps(panel: Panel, errors: Mapping[str, float], eps: float) -> list[Limits]:
    """What attacks leave of each image, and what the mean error of its clean restoration lets a shift do."""
    (budget,) = attacked_at(panel)

    def left(wanted: str | None) -> dict[str, float]:
        def counts(outcome: Outcome) -> bool:
            return wanted is None or outcome.cell.attack.method == wanted

        return {image: one.figure for image, one in worst_by_image(panel, budget, counts).items()}

    noise = {row["image"]: panel.figure(row) for o in panel.outcomes if o.is_noise for row in o.rows}
    shifts, undefended = {name: left(name) for name in CAPS}, left(None)
    found = []
    for row in panel.clean_rows:
        image, clean = row["image"], panel.figure(row)
        shifted = {name: shifts[name][image] for name in CAPS}
        found.append(Limits(
            image=image, clean=clean, noise=noise[image], **shifted, cap=min(shifted.values()),
            faithful_cap=faithful_cap(clean, errors[image], eps), undefended=undefended[image],
            kappa=(_rmse(undefended[image]) - _rmse(clean)) / eps,
        ))  # fmt: skip
    return found


def faithful_cap(clean: float, mean_error: float, eps: float) -> float:
    """PSNR that a constant shift of the better sign leaves where ``R(y + eps) = R(y) + eps``, and nothing clips.

    The error ``e`` of the answer becomes ``e + eps`` or ``e - eps``, whose mean square is ``mean(e^2) + eps^2`` plus or
    minus ``2 eps mean(e)``: the attacker takes the larger.
    """
    return -10 * math.log10(_rmse(clean) ** 2 + eps**2 + 2 * eps * abs(mean_error))


def _rmse(psnr: float) -> float:
    return 10 ** (-psnr / 20)


def mean_errors(inputs: Images, restorer: Restorer, device: str) -> dict[str, float]:
    """By image, the mean over all values of the clean restoration less the truth: how much too bright it is."""
    found = {}
    with progress("clean restorations", len(inputs.keys), brief=True) as tick, frozen(restorer), torch.no_grad():
        for i, key in enumerate(inputs.keys):
            x, truth = inputs.load(i)
            assert truth is not None
            found[key] = (restorer(x[None].to(device))[0].cpu() - truth).double().mean().item()
            tick(key)
    return found


def _scenes(config: RestorationConfig, inputs: Images, sources: Path | None) -> Scenes | None:
    """Where the light of the scenes is, or None and a line that says why it is not known.

    Raises:
        UserError: sources of images that are no set of ours, or that have scenes of their own.
    """
    block = config.data[0]
    if block.kind == "embedded":
        if sources is not None:
            raise UserError("--scenes goes with --images: the built-in images have scenes of their own")
        return EmbeddedPairs(count=block.limit or len(inputs.keys), size=block.size, psf=block.psf)
    if sources is not None:
        assert block.lq is not None and block.gt is not None
        pairs = PairedFolders(block.lq, block.gt, domain=block.domain)
        return SceneSet(pairs, sources, crop=block.crop, limit=block.limit)
    note(f"data {inputs.label}: no ceiling over two scenes, which needs the light of scenes and the display's PSF; "
         "built-in images have both, and sets of `udc-robust synth` with --scenes, the folder that they were made "
         "of")  # fmt: skip
    return None


def _floors(
    inputs: Images, restorer: Restorer, found: Sequence[Limits], eps: float, l2: float, device: str, seed: int
) -> list[str]:  # fmt: skip
    """What is certain from below, in words."""
    floor, numbers = None, 3 * math.prod(inputs.sizes[0])
    if l2:
        images = [(x, truth) for x, truth in map(inputs.load, range(len(inputs.keys))) if truth is not None]
        with frozen(restorer):
            floor = median_floor(lambda x: restorer(x.to(device)), images, l2, seed=seed)
    return floors(found, eps, numbers, lipschitz_bound(restorer.network), floor)


def _plot(found: Sequence[Limits], eps: str, path: Path) -> None:
    """Per image what is clean, possible and left; the easiest image on top."""
    import matplotlib
    from matplotlib.figure import Figure

    found = sorted(found, key=lambda one: one.clean)
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(7.2, 1.6 + 0.26 * len(found)), layout="constrained")
        axes = figure.add_subplot()
        axes.hlines(range(len(found)), [one.undefended for one in found], [one.cap for one in found], color="#bbbbbb")
        for name, label, colour, marker in (
            ("undefended", "undefended", "#D55E00", "v"), ("cap", "cap, if faithful to brightness", "#0072B2", "s"),
            ("ceiling", "ceiling of any, on two scenes", "#009E73", "D"), ("clean", "not attacked", "#000000", "o"),
        ):  # fmt: skip
            values = [getattr(one, name) for one in found]
            if None not in values:
                axes.plot(values, range(len(found)), color=colour, marker=marker, linestyle="", label=label)
        axes.set(yticks=range(len(found)), yticklabels=[one.image for one in found], xlabel=f"PSNR (dB), budget {eps}")
        axes.grid(axis="x", color="#dddddd")
        figure.legend(loc="outside upper center", ncols=2)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=150)

"""Between a network and its hardened child: weights mixed at several shares, and the best that a clean budget keeps.

A mixture ``(1 - share) * parent + share * hardened`` costs no training and no time at run time. It trades clean quality
for robustness smoothly where the child was fine-tuned from the parent (model soups, Wortsman et al. 2022; for
adversarially trained networks Croce et al. 2023).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor

from udc_robust.config_file import check_config
from udc_robust.errors import UserError
from udc_robust.files import atomic_path, sha256_of, write_text
from udc_robust.grid.run import run
from udc_robust.grid.tables import to_csv
from udc_robust.limits import usable_device
from udc_robust.lock import sole_writer
from udc_robust.networks.weights import save_weights
from udc_robust.portable import portable
from udc_robust.report.run_folder import read_run
from udc_robust.report.worst import attacked_at, held, worst_by_image
from udc_robust.restorers.zoo import Restorer, RestorerSpec, load_restorer
from udc_robust.tasks.restoration import RESTORATION, open_images
from udc_robust.tasks.restoration_schema import RestorationConfig, RestorerConfig
from udc_robust.training.card import table
from udc_robust.training.grown import faded_in, lost_of

COLUMNS = ("share", "clean", "attacked", "cost", "kept")


@dataclass(frozen=True)
class Point:
    """One mixture, in dB of PSNR: unattacked, under the worst of the study's attacks, and what of the clean it lost.

    Attributes:
        kept: whether it is the one that the clean budget chooses.
    """

    share: float
    clean: float
    attacked: float
    cost: float
    kept: bool = False


def parse_shares(text: str) -> list[float]:
    """Rising shares from ``0.25,0.5,1``; 0 (the parent) is measured in any case.

    Raises:
        UserError: not numbers from 0 to 1.5 (a little past the child is a mixture too).
    """
    try:
        shares = sorted({0.0, *(float(part) for part in text.split(","))})
    except ValueError:
        shares = []
    if len(shares) < 2 or not (shares[0] == 0 and shares[-1] <= 1.5):
        raise UserError(f"shares {text!r} must be numbers from 0 to 1.5 such as 0.25,0.5,0.75,1")
    return shares


def study(
    parent: Mapping[str, Any], hardened: Mapping[str, Any], data: Mapping[str, Any], shares: Sequence[float], out: Path,
    *, name: str, clean_budget: float, attack: Mapping[str, Any], seed: int = 0, device: str = "cpu", command: str = "",
) -> list[Point]:  # fmt: skip
    """Measure every mixture, write ``frontier.csv`` and ``frontier.png``, and keep the best as ``NAME.safetensors``.

    The same call resumes; ``out/run`` is a run folder like that of `evaluate`, ``out/mixtures`` has all weights.

    Args:
        parent, hardened: blocks of restorers; the hardened one may have more blocks, see `training.grown.faded_in`.
        data: a block of pairs that are tested nowhere else.
        shares: see `parse_shares`.
        clean_budget: clean PSNR in dB that may be lost.
        attack: an attack's block.

    Returns:
        One entry a share, rising.

    Raises:
        UserError: weights of different networks, images without ground truth, no mixture but the parent that keeps the
            budget, or ``out`` holds another run.
    """
    usable_device(device)
    # Before mixtures are written: what says that there is nothing to choose them by.
    judged = check_config({"data": data, "restorers": "none", "attacks": [attack]}, RestorationConfig, "options")
    if not any(judged.attacks[0].eps or judged.eps):
        raise UserError("--eps must be above 0: a mixture is chosen by what it holds under attack")
    images = open_images(judged.data[0])
    if not images.truth:
        raise UserError(f"data {images.label!r} has no ground truth: a mixture is chosen by PSNR, which needs pairs")
    ends = [_loaded(block, images.domain) for block in (parent, hardened)]
    if _has_grown(*ends):
        ends[0] = faded_in(*ends)
    states = [_floating(end) for end in ends]
    _check_same(ends, states)
    own_class = {key: parent[key] for key in ("network", "options") if parent.get(key)}
    files = {share: out / "mixtures" / f"{_label(share)}.safetensors" for share in shares}
    with sole_writer(out):
        for share, file in files.items():
            _save_mixture(ends, states, share, file)
        blocks = [{"name": _label(share), **own_class, "weights": str(file)} for share, file in files.items()]
        config = check_config(
            {
                "name": name, "seed": seed, "device": device, "data": [data], "restorers": blocks, "attacks": [attack],
                "lpips": None,
            },
            RestorationConfig,
            "options",
        )  # fmt: skip
        run(RESTORATION, config, out / "run", command)
        points = _points(out / "run", files)
        _save_frontier(points, out)  # before one is chosen: where none keeps the budget it shows what would
        points = chosen(points, clean_budget)
        _save_frontier(points, out)
        write_text(out / f"{name}.md", portable(_card(name, ends, points, images.label, attack, command)))
        with atomic_path(out / f"{name}.safetensors") as temporary:
            shutil.copyfile(files[next(point.share for point in points if point.kept)], temporary)
    return points


def _save_frontier(points: Sequence[Point], out: Path) -> None:
    rows = [{column: getattr(point, column) for column in COLUMNS} for point in points]
    write_text(out / "frontier.csv", to_csv(COLUMNS, rows))
    _plot(points, out / "frontier.png")


def chosen(points: Sequence[Point], clean_budget: float) -> list[Point]:
    """The points, with the one marked that holds most of those that keep the budget.

    Raises:
        UserError: none but the parent keeps it.
    """
    able = [point for point in points if point.cost <= clean_budget and point.share > 0]
    if not able:
        cheapest = min((point for point in points if point.share > 0), key=lambda point: point.cost)
        raise UserError(
            f"no mixture keeps a clean budget of {clean_budget:g} dB: the cheapest, {cheapest.share:g} of the way, "
            f"costs {cheapest.cost:.2f} dB; allow more, or try smaller shares"
        )
    best = max(able, key=lambda point: point.attacked)
    return [replace(point, kept=point is best) for point in points]


def _label(share: float) -> str:
    return f"{share:g} of the way"


def _loaded(block: Mapping[str, Any], domain: str) -> Restorer:
    return load_restorer(RestorerSpec(**RestorerConfig(**block).model_dump()), domain)


def _floating(restorer: Restorer) -> dict[str, Tensor]:
    state = restorer.network.state_dict()
    return {name: tensor.clone() for name, tensor in state.items() if tensor.is_floating_point()}


def _has_grown(parent: Restorer, hardened: Restorer) -> bool:
    """Whether the hardened network is the parent's with more blocks, as ``grow`` of a fine-tuning makes it."""
    before, after = parent.network.state_dict(), hardened.network.state_dict()
    return not lost_of(before, after) and len(after) > len(before)


def _check_same(ends: Sequence[Restorer], states: Sequence[Mapping[str, Tensor]]) -> None:
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    names = [f"{end.name} ({type(end.network).__name__})" for end in ends]
    if shapes[0] != shapes[1]:
        raise UserError(f"{names[0]} and {names[1]} are not the same network: only weights of one network can be mixed")
    if ends[0].network_domain != ends[1].network_domain:
        domains = " and ".join(f"{end.name} in {end.network_domain}" for end in ends)
        raise UserError(f"{domains}: only networks of one colour domain can be mixed")


def _save_mixture(
    ends: Sequence[Restorer], states: Sequence[Mapping[str, Tensor]], share: float, file: Path
) -> None:  # fmt: skip
    """Write the weights of a mixture, which know their parent.

    Raises:
        UserError: another study's mixture is there.
    """
    before, after = states
    mixed = {name: before[name].lerp(after[name], share) for name in before}
    network, parent = ends[1].network, ends[0]
    network.load_state_dict({**network.state_dict(), **mixed})
    facts = {
        **ends[1].architecture, "domain": parent.network_domain, "parent": parent.name, "parent_sha256": parent.sha256,
        "ancestors": parent.line, "finetuning": f"interpolated, {_label(share)} to {ends[1].name}",
    }  # fmt: skip
    with atomic_path(file) as temporary:
        save_weights(temporary, network, {key: value for key, value in facts.items() if value is not None})
        if file.exists() and sha256_of(file) != sha256_of(temporary):
            raise UserError(f"{file} is of other weights than these: choose another --out, or delete that folder")


def _points(out: Path, files: Mapping[float, Path]) -> list[Point]:
    panels = {panel.network: panel for panel in read_run(out, {"restoration": RESTORATION}).panels()}
    found: list[Point] = []
    for share in files:
        panel = panels[_label(share)]
        (budget,) = attacked_at(panel)
        clean = fmean(panel.figure(row) for row in panel.clean_rows)
        before = found[0].clean if found else clean
        found.append(Point(share, clean, held(worst_by_image(panel, budget)), before - clean))
    return found


def _card(
    name: str, ends: Sequence[Restorer], points: Sequence[Point], data: str, attack: Mapping[str, Any], command: str
) -> str:  # fmt: skip
    """The card that travels with the weights."""
    kept = next(point for point in points if point.kept)
    head = ["share of the way", "clean", "under attack", "clean cost"]
    rows = [[f"{p.share:g}", f"{p.clean:.2f}", f"{p.attacked:.2f}", f"{p.cost:.2f}"] for p in points]
    settings = ", ".join(f"{key} {value}" for key, value in attack.items())
    return f"""# {name}

Weights {_label(kept.share)} from `{ends[0].name}` to `{ends[1].name}`, which was fine-tuned from it. No training; the
licence is that of both.

PSNR in dB on {data}, attacked with {settings}:

{table(head, rows)}

Made by `{command}`
"""


def _plot(points: Sequence[Point], path: Path) -> None:
    """Clean against attacked PSNR, the way from the parent to the child, and the point that is kept, if any is."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 10}):
        figure = Figure(figsize=(6.0, 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([p.clean for p in points], [p.attacked for p in points], color="#0072B2", marker="o")
        for point in points:
            axes.annotate(f"{point.share:g}", (point.clean, point.attacked), (4, 5), textcoords="offset points")
        for kept in (point for point in points if point.kept):
            axes.plot(kept.clean, kept.attacked, color="#D55E00", marker="*", markersize=15, linestyle="", label="kept")
            axes.legend()
        axes.set(xlabel="PSNR, unattacked (dB)", ylabel="PSNR under attack (dB)")
        axes.grid(color="#dddddd")
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=150)

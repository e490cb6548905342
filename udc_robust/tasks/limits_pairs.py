"""Pairs of scenes with one capture, for every crop of the embedded set: searched, rendered, checked, drawn."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from udc_robust.data.embedded import EmbeddedPairs
from udc_robust.data.images import write_image
from udc_robust.data.scenes import make_pair
from udc_robust.files import atomic_path, disk_errors, file_part
from udc_robust.grid.journal import Journal
from udc_robust.metrics import psnr
from udc_robust.metrics.fidelity import mse
from udc_robust.optics.capture import inverse_tone_map
from udc_robust.optics.two_scenes import View, Window, ceiling, held_pair, second_scenes
from udc_robust.progress import progress
from udc_robust.restorers.zoo import Restorer

_SHARES = (1.0, 0.99, 0.98, 0.96, 0.92, 0.84, 0.68, 0.36)  # of a change, until it holds
FIGURES = ("ceiling", "reference_first", "reference_second", "reference_shown")
_HOLDS = dict.fromkeys((*FIGURES, "seconds"), float)


@dataclass(frozen=True)
class Pair:
    """Two scenes that an attacker can make look the same, ``(3,side,side)`` in 8-bit levels of tone-mapped values.

    Attributes:
        first, second: the scenes; ``captures``: of both.
        shown: what the attacker makes of either capture.
    """

    first: Tensor
    second: Tensor
    captures: tuple[Tensor, Tensor]

    @property
    def ceiling(self) -> float:
        """See `two_scenes.ceiling`."""
        return ceiling(self.first, self.second)

    @property
    def shown(self) -> Tensor:
        """The middle of both captures, on 8-bit levels: as far from one as from the other, or a level nearer."""
        return torch.floor((self.captures[0] + self.captures[1]) * 255 / 2 + 0.25) / 255


def levels_of(eps: float) -> int:
    """How many 8-bit levels a budget allows each value to change by."""
    return math.floor(eps * 255 + 1e-6)


def find_pair(scene: Tensor, psf: Tensor, window: Window, eps: float, *, steps: int) -> Pair:
    """The most different second scene that the search finds and that holds when it is rendered again.

    A candidate that does not hold (8-bit rounding can raise its total variation) is made smaller until it does; at
    worst both scenes are the same and the ceiling is infinite.

    Args:
        scene: radiance (3,H,W) of a whole photograph; ``psf``: (3,k,k); ``window``: what may change of it.
    """
    budget = levels_of(eps) / 255
    view, first = View(scene, psf, window), make_pair(scene, psf)
    found = Pair(window.of(first[1]), window.of(first[1]), (window.of(first[0]),) * 2)
    for change in second_scenes(view, budget, steps=steps):
        for share in _SHARES:
            toned = view.toned + share * change
            if ceiling(view.toned, toned) >= found.ceiling:
                break  # no better than what is there, and it will only be smaller
            other = scene.clone()
            window.of(other).copy_(torch.where(change == 0, window.of(scene), inverse_tone_map(toned)))
            second = make_pair(other, psf)
            if held_pair(first, second, window, 2 * budget):
                pair = Pair(found.first, window.of(second[1]), (found.captures[0], window.of(second[0])))
                found = min(found, pair, key=lambda one: one.ceiling)
                break
    return found


def find_pairs(
    data: EmbeddedPairs, restorer: Restorer, out: Path, *, eps: float, steps: int, device: str = "cpu"
) -> dict[str, dict[str, float]]:  # fmt: skip
    """By crop its ceiling, and the PSNR that a reference restorer has.

    ``reference_first`` and ``reference_second`` are of both captures, unattacked; ``reference_shown`` is of the mean
    squared error over both scenes of its answer to what is shown for both, which no restorer has above the ceiling.
    Pictures go to ``out/KEY``; what is finished is kept in a journal.
    """
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    journal = Journal(out, holds=_HOLDS)
    keys = data.keys()
    units = [f"{key}/{levels_of(eps)} levels/{steps} steps" for key in keys]
    with progress("two scenes, one capture", len(units), done=sum(unit in journal.units for unit in units)) as tick:
        for i, (key, unit) in enumerate(zip(keys, units, strict=True)):
            if unit in journal.units:
                continue
            begun = time.monotonic()
            pair = find_pair(*_placed(data, i), eps, steps=steps)
            _write(pair, out / file_part(key))
            figures = dict(zip(FIGURES, (pair.ceiling, *_reference(pair, restorer, device)), strict=True))
            journal.add(unit, **figures, seconds=time.monotonic() - begun)
            tick(key)
    return {key: {name: journal.units[unit][name] for name in _HOLDS} for key, unit in zip(keys, units, strict=True)}


def _placed(data: EmbeddedPairs, index: int) -> tuple[Tensor, Tensor, Window]:
    scene, window = data.scene(index)
    return scene, data.psf, window


@torch.no_grad()
def _reference(pair: Pair, restorer: Restorer, device: str) -> tuple[float, float, float]:
    """PSNR on either capture, and of the mean squared error of the one answer that it has for both."""
    inputs, scenes = torch.stack([*pair.captures, pair.shown]), torch.stack([pair.first, pair.second]).double()
    answers = torch.cat([restorer(x[None].to(device)).cpu() for x in inputs]).double()
    apart = mse(answers[2:].expand(2, -1, -1, -1), scenes).mean()
    first, second = psnr(answers[:2], scenes).tolist()
    return first, second, -10 * torch.log10(apart).item()


def _write(pair: Pair, folder: Path) -> None:
    """The pictures of a pair, and all of them side by side."""
    pictures = {
        "scene_1": pair.first, "scene_2": pair.second, "capture_1": pair.captures[0], "capture_2": pair.captures[1],
        "shown": pair.shown,
    }  # fmt: skip
    for name, picture in pictures.items():
        write_image(folder / f"{name}.png", picture)
    _draw(pair, folder / "pair.png")


def _draw(pair: Pair, path: Path) -> None:
    """Scenes and captures side by side, a scene a row; on the right what differs, and what is shown for both."""
    import matplotlib
    from matplotlib.figure import Figure

    apart = 4 * (pair.second - pair.first).abs()
    columns: Sequence[Sequence[tuple[str, Tensor]]] = (
        (("scene 1", pair.first), ("its capture", pair.captures[0]), ("what differs, four times", apart)),
        (("scene 2", pair.second), ("its capture", pair.captures[1]), ("what is shown for both", pair.shown)),
    )
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(7.2, 5.2), layout="constrained")
        for axes, (title, picture) in zip(
            figure.subplots(2, 3).flat, (one for row in columns for one in row), strict=True
        ):
            axes.imshow(picture.permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
            axes.set_title(title)
            axes.set_axis_off()
        figure.suptitle(f"Once attacked, no restorer does better than {pair.ceiling:.1f} dB over these two")
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=150)

"""Pairs of scenes with one capture, for every image of a set whose scenes are known: searched, rendered, checked."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from udc_robust.attacks import Linf, attack, frozen, image_seed, objective
from udc_robust.data.images import write_image
from udc_robust.data.scenes import make_pair
from udc_robust.files import atomic_path, disk_errors, file_part
from udc_robust.grid.journal import Journal
from udc_robust.metrics import psnr
from udc_robust.metrics.fidelity import mse
from udc_robust.optics.capture import inverse_tone_map
from udc_robust.optics.two_scenes import View, Window, ceiling, held_pair, second_scenes, total_variation
from udc_robust.progress import progress
from udc_robust.restorers.zoo import Restorer

_SHARES = (1.0, 0.99, 0.98, 0.96, 0.92, 0.84, 0.68, 0.5, 0.36, 0.2, 0.1)  # of a change, until it holds
USUAL = 0.5
"""dB by which a restorer may do worse on a second scene than on the first, and still know such scenes."""
GRID = 8
"""px between the points of a smooth change."""


class Scenes(Protocol):
    """Images whose scenes are known, such as `EmbeddedPairs` and `scene_sets.SceneSet`."""

    def keys(self) -> Sequence[str]:
        """Their names."""
        ...

    def placed(self, index: int) -> tuple[Tensor, Tensor, Window]:
        """The light of a whole scene, the display's PSF, and what of the scene an image shows."""
        ...


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


@dataclass(frozen=True)
class PairFigures:
    """What is known of the pairs of one image, in dB where nothing else is said.

    Attributes:
        ceiling: of the pair whose second scene has no more total variation than the first; those of smaller sets of
            scenes are ``ceiling_restored`` (the reference restorer does as well on the second, less `USUAL`) and
            ``ceiling_smooth`` (the change is smooth, drawn between points `GRID` px apart); ``inf``: none was found.
        reference_first, reference_second: PSNR of the reference restorer on either capture of the first, unattacked.
        reference_shown: of its mean squared error over both scenes, on what is shown for both: at most the ceiling.
        levels: the largest difference of both captures in 8-bit levels; ``tight``: the share of their values that
            differ by nine tenths of what the attacker may mend or more.
        variation: total variation of the second scene as a share of the first's.
    """

    ceiling: float
    ceiling_restored: float
    ceiling_smooth: float
    reference_first: float
    reference_second: float
    reference_shown: float
    levels: float
    tight: float
    variation: float


_HOLDS = dict.fromkeys((*(one.name for one in fields(PairFigures)), "seconds"), float)


def levels_of(eps: float) -> int:
    """How many 8-bit levels a budget allows each value to change by."""
    return math.floor(eps * 255 + 1e-6)


def best_pair(
    view: View, scene: Tensor, psf: Tensor, window: Window, eps: float, changes: Tensor,
    accept: Callable[[Pair], bool] = lambda pair: True,
) -> Pair:  # fmt: skip
    """The most different second scene of some changes that holds when it is rendered again, and is accepted.

    A candidate that does not hold (8-bit rounding can raise its total variation) is made smaller until it does; at
    worst both scenes are the same and the ceiling is infinite.

    Args:
        scene: radiance (3,H,W) of a whole photograph; ``psf``: (3,k,k); ``window``: what may change of it.
        eps: a whole number of 8-bit levels.
    """
    first = make_pair(scene, psf)
    found = Pair(window.of(first[1]), window.of(first[1]), (window.of(first[0]),) * 2)
    for change in changes:
        for share in _SHARES:
            toned = view.toned + share * change
            if ceiling(view.toned, toned) >= found.ceiling:
                break  # no better than what is there, and it will only be smaller
            other = scene.clone()
            window.of(other).copy_(torch.where(change == 0, window.of(scene), inverse_tone_map(toned)))
            second = make_pair(other, psf)
            if held_pair(first, second, window, 2 * eps):
                pair = Pair(found.first, window.of(second[1]), (found.captures[0], window.of(second[0])))
                if pair.ceiling < found.ceiling and accept(pair):
                    found = pair
                    break
    return found


def find_pairs(
    data: Scenes, restorer: Restorer, out: Path, *, eps: float, steps: int, device: str = "cpu"
) -> dict[str, PairFigures]:
    """By image the figures of its pairs.

    Pictures of the first pair go to ``out/KEY``; what is finished is kept in a journal.

    Raises:
        UserError: a full disk, or a scene that does not look like its capture.
    """
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    journal = Journal(out, holds=_HOLDS)
    keys = data.keys()
    units = [f"{key}/{levels_of(eps)} levels/{steps} steps/of {len(_HOLDS)} figures" for key in keys]
    with progress("two scenes, one capture", len(units), done=sum(unit in journal.units for unit in units)) as tick:
        for i, (key, unit) in enumerate(zip(keys, units, strict=True)):
            if unit in journal.units:
                continue
            begun = time.monotonic()
            pair, figures = _search(*data.placed(i), restorer, eps, steps=steps, device=device)
            _write(pair, out / file_part(key))
            journal.add(unit, **asdict(figures), seconds=time.monotonic() - begun)
            tick(key)
    names = [one.name for one in fields(PairFigures)]
    return {
        key: PairFigures(**{name: journal.units[unit][name] for name in names})
        for key, unit in zip(keys, units, strict=True)
    }


def _search(
    scene: Tensor, psf: Tensor, window: Window, restorer: Restorer, eps: float, *, steps: int, device: str
) -> tuple[Pair, PairFigures]:
    """The pair of the largest set of scenes, and the figures of all sets."""
    budget, view = levels_of(eps) / 255, View(scene, psf, window)
    answer = _answers(restorer, device)

    def usual(pair: Pair) -> bool:
        before, after = psnr(answer(torch.stack(pair.captures)), torch.stack([pair.first, pair.second]).double())
        return bool(after >= before - USUAL)

    start = _mistaken(view, window.of(make_pair(scene, psf)[0]), restorer, budget, device)
    changes = second_scenes(view, budget, steps=steps, starts=start)
    pair = best_pair(view, scene, psf, window, budget, changes)
    restored = pair if usual(pair) else best_pair(view, scene, psf, window, budget, changes, usual)
    smooth = best_pair(view, scene, psf, window, budget, second_scenes(view, budget, steps=steps // 2, grid=GRID))
    inputs, scenes = torch.stack([*pair.captures, pair.shown]), torch.stack([pair.first, pair.second]).double()
    answers = answer(inputs)
    first, second = psnr(answers[:2], scenes).tolist()
    apart = (pair.captures[1] - pair.captures[0]).abs() * 255
    return pair, PairFigures(
        ceiling=pair.ceiling, ceiling_restored=restored.ceiling, ceiling_smooth=smooth.ceiling, reference_first=first,
        reference_second=second,
        reference_shown=-10 * math.log10(mse(answers[2:].expand(2, -1, -1, -1), scenes).mean().item()),
        levels=float(apart.max().round()), tight=float((apart >= 0.9 * 2 * levels_of(eps)).double().mean()),
        variation=float(total_variation(scenes[1]) / total_variation(scenes[0]).clamp_min(1e-6)),
    )  # fmt: skip


def _answers(restorer: Restorer, device: str) -> Callable[[Tensor], Tensor]:
    @torch.no_grad()
    def answer(inputs: Tensor) -> Tensor:
        with frozen(restorer):
            return torch.cat([restorer(x[None].to(device)).cpu() for x in inputs]).double()

    return answer


def _mistaken(view: View, capture: Tensor, restorer: Restorer, eps: float, device: str) -> Tensor:
    """What PGD makes the restorer answer, less the scene: another scene that it takes for one of this capture."""
    x, truth = capture[None].to(device), view.toned[None].to(device)
    seeds = [image_seed(0, "pair")]
    result = attack(restorer, x, objective("mse"), Linf(eps), "pgd", target=truth, seeds=seeds, steps=10)
    return result.adv_output.cpu().float() - view.toned[None]


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

"""Two scenes, one capture: how near a display brings two different scenes, as a ceiling for every restorer.

If the captures of two scenes differ by at most 2 eps everywhere, an attacker of budget eps makes one and the same
picture of both: their midpoint. Whatever a restorer answers to it, its mean squared errors on the two scenes add up to
at least ``|x1 - x2|^2 / 2n`` (the parallelogram law), so their mean is at least ``|x1 - x2|^2 / 4n``. The argument is
that of Gottschling et al., "The troublesome kernel" (SIAM Review 67(1), 2025), for a camera and a budget.

The search is no part of the proof: what it finds counts once it is rendered again and the captures are compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from udc_robust.optics.capture import capture, inverse_tone_map, tone_map

HIGHLIGHT = 0.95
"""Tone-mapped values above it stay as they are: a changed highlight moves light over the whole frame."""
_BLURS = (1.0, 2.0, 4.0)  # px; detail finer than this is turned round in the scenes from which the search starts
_STEP_SIZE = 0.02  # of Adam, in tone-mapped values; it falls to a twentieth
_ROUND = 20  # steps between updates of the multipliers
_PENALTY, _RISE = 10.0, 200.0  # of what is too much at first, and how many times more at the end
_OF_VARIATION = 100.0  # penalty of the total variation, which is one number, beside that of each value
_LOCAL_TRIES, _SCALINGS = 200, 10
# To make a change fit leaves room that a further climb takes: so often, from so many, begun so much too large.
_AGAIN, _KEPT, _LARGER = 2, 2, 1.1


@dataclass(frozen=True)
class Window:
    """A square of a photograph: its corner and side in px."""

    top: int
    left: int
    side: int

    def of(self, image: Tensor) -> Tensor:
        """The square of ``(...,H,W)``."""
        return image[..., self.top : self.top + self.side, self.left : self.left + self.side]


def ceiling(first: Tensor, second: Tensor) -> float:
    """PSNR in dB that the mean squared error over two scenes of one capture cannot beat; ``inf`` for equal scenes.

    Whatever ``R`` answers, ``|R - x1|^2 + |R - x2|^2 >= |x1 - x2|^2 / 2``, with equality for the mean of both.
    """
    mean = (first - second).double().square().mean().item() / 4
    return -10 * math.log10(mean) if mean else math.inf


def total_variation(image: Tensor) -> Tensor:
    """The sum of absolute differences of neighbours, along rows and columns, of ``(...,3,H,W)``."""
    down, across = image.diff(dim=-2).abs(), image.diff(dim=-1).abs()
    return down.flatten(-3).sum(-1) + across.flatten(-3).sum(-1)


class View:
    """A window of a scene behind a display, as far as its light reaches.

    Changes are stated in tone-mapped values of the window, ``(B,3,side,side)``; outside of it nothing changes.
    """

    def __init__(self, scene: Tensor, psf: Tensor, window: Window) -> None:
        """Prepare.

        Args:
            scene: radiance (3,H,W) of the whole photograph.
            psf: (3,k,k), see `capture.convolve`.
        """
        height, width = scene.shape[-2:]
        reach, (top, left, side) = psf.shape[-1] // 2, (window.top, window.left, window.side)
        rows, columns = (slice(max(at - reach, 0), at + side + reach) for at in (top, left))
        linear = capture(scene[None], psf)[..., rows, columns]
        self._seen = linear
        self._before = tone_map(linear)
        # The spread of a window's light, of which the photograph shows these rows and columns.
        self._grid = [side + 2 * reach] * 2
        self._shown = [
            slice(shown.start - at + reach, shown.start - at + reach + length)
            for shown, at, length in zip((rows, columns), (top, left), linear.shape[-2:], strict=True)
        ]
        self._reach = reach
        self._kernel = torch.fft.rfft2(psf, s=self._grid)
        self.toned = tone_map(window.of(scene))
        around = [min(1, top), min(1, height - top - side), min(1, left), min(1, width - left - side)]
        self._pads = [around[2], around[3], around[0], around[1]]
        self.with_rim = tone_map(
            scene[..., top - around[0] : top + side + around[1], left - around[2] : left + side + around[3]]
        )
        # The outermost pixels of a photograph stand for all that lies beyond: they stay.
        inner = torch.zeros(height, width, dtype=torch.bool)
        inner[1:-1, 1:-1] = True
        self.free = (self.toned <= HIGHLIGHT) & window.of(inner)

    def allowed(self, change: Tensor) -> Tensor:
        """The change, of free pixels only and within the range of scenes."""
        return ((self.toned + change).clamp(0, HIGHLIGHT) - self.toned) * self.free

    def capture_change(self, change: Tensor) -> Tensor:
        """What the tone-mapped capture ``(B,3,h,w)`` changes by, over all that the window's light reaches."""
        light = inverse_tone_map(self.toned + change) - inverse_tone_map(self.toned)
        spread = torch.fft.irfft2(torch.fft.rfft2(light, s=self._grid) * self._kernel, s=self._grid)
        return tone_map((self._seen + spread[..., self._shown[0], self._shown[1]]).clamp(min=0)) - self._before

    def inside(self, image: Tensor) -> Tensor:
        """What of an image of the captures ``(B,1,h,w)`` lies in the window."""
        top, left = (self._reach - shown.start for shown in self._shown)
        side = self.toned.shape[-1]
        return image[..., top : top + side, left : left + side]

    def variation(self, change: Tensor) -> Tensor:
        """Total variation ``(B,)`` of the changed window, its rim against the surroundings counted."""
        return total_variation(self.with_rim + F.pad(change, self._pads))


def second_scenes(
    view: View, eps: float, *, steps: int = 400, grid: int = 1, starts: Tensor | None = None
) -> Tensor:  # fmt: skip
    """Changes ``(B,3,side,side)`` of a scene that keep its capture within ``2 * eps``, the largest one first.

    Adam climbs the size of the change within an augmented Lagrangian (Nocedal & Wright, Numerical Optimization, section
    17.3): a multiplier for every value of the capture, and one for the total variation, which is not to rise. It starts
    from scenes whose fine detail is turned round, for that is what a display loses. What it ends at is made to fit, and
    the best are climbed from again: fitting leaves room.

    Args:
        eps: budget of the attacker, of tone-mapped values.
        steps: of the search; each costs two FFTs and their gradients.
        grid: a change is drawn smoothly between points so many px apart; 1: every pixel is free.
        starts: further changes ``(B,3,side,side)`` to start from; a search on a grid starts from noise as large.
    """
    free = _starts(view) if starts is None else torch.cat([_starts(view), starts])
    free = _uneven(view, grid, free) if grid > 1 else free
    with torch.no_grad():
        still = view.variation(torch.zeros_like(_drawn(view, free)))[:1]
    found = _fitted(view, _climbed(view, free, eps, still, steps), eps)
    for _ in range(_AGAIN):
        best = found[_order(view, _drawn(view, found), still)[:_KEPT]]
        found = torch.cat([best, _fitted(view, _climbed(view, best * _LARGER, eps, still, steps // 2), eps)])
    return _largest_first(view, _drawn(view, found), still)


def _climbed(view: View, start: Tensor, eps: float, still: Tensor, steps: int) -> Tensor:
    """Where the climb of `second_scenes` ends; ``still`` is the total variation that is not to rise."""
    free, penalty = start.clone().requires_grad_(True), _PENALTY
    with torch.no_grad():
        free.copy_(_within(view, free))
        change = _drawn(view, free)
        of_capture, of_variation = torch.zeros_like(view.capture_change(change)), torch.zeros(len(change))
    optimiser = torch.optim.Adam([free], lr=_STEP_SIZE)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = _STEP_SIZE * (1.05 - step / steps)
        change = _drawn(view, free)
        over = view.capture_change(change).abs() / (2 * eps) - 1
        rise = view.variation(change) / still.clamp_min(1e-6) - 1
        size = change.square().flatten(1).mean(1).clamp_min(1e-12).sqrt() / eps
        held = F.relu(of_capture + penalty * over).square().flatten(1).sum(1) / (2 * penalty * change[0].numel())
        calm = F.relu(of_variation + _OF_VARIATION * penalty * rise).square() / (2 * _OF_VARIATION * penalty)
        optimiser.zero_grad()
        (held + calm - size).sum().backward()
        optimiser.step()
        with torch.no_grad():
            free.copy_(_within(view, free))
            if step % _ROUND == _ROUND - 1:
                of_capture = F.relu(of_capture + penalty * over)
                of_variation = F.relu(of_variation + _OF_VARIATION * penalty * rise)
                penalty *= _RISE ** (_ROUND / steps)
    return free.detach()


def _uneven(view: View, grid: int, changes: Tensor) -> Tensor:
    """Noise on the points of a grid, as large as changes that on average over its cells are nothing."""
    points = max(view.toned.shape[-1] // grid, 1)
    drawn = torch.randn(len(changes), 3, points, points, generator=torch.Generator().manual_seed(0))
    return drawn * changes.flatten(1).std(1)[:, None, None, None]


def _drawn(view: View, free: Tensor) -> Tensor:
    """The change whose values at the points of a grid, or at every pixel, are free."""
    side = view.toned.shape[-1]
    if free.shape[-1] == side:
        return free
    return view.allowed(F.interpolate(free, (side, side), mode="bicubic", align_corners=False))


def _within(view: View, free: Tensor) -> Tensor:
    """Values that are allowed: of pixels; what lies between the points of a grid is cut where it is drawn."""
    return view.allowed(free) if free.shape[-1] == view.toned.shape[-1] else free


def _starts(view: View) -> Tensor:
    """Changes that turn detail round, one for each size of detail."""
    from kornia.filters import gaussian_blur2d

    scene = view.toned[None]
    found = []
    for blur in _BLURS:
        side = 2 * min(round(3 * blur), scene.shape[-1] - 1) + 1
        found.append(2 * (gaussian_blur2d(scene, (side, side), (blur, blur), border_type="replicate") - scene))
    return torch.cat(found)


@torch.no_grad()
def _fitted(view: View, free: Tensor, eps: float) -> Tensor:
    """Values that keep the capture: made smaller round the places where they do not, and then as a whole."""
    side, points = view.toned.shape[-1], free.shape[-1]
    reach, soft = (7, 5) if points == side else (3, 1)
    share = torch.ones_like(free[:, :1])
    for _ in range(_LOCAL_TRIES):
        over = (view.capture_change(_drawn(view, free * share)).abs() / (2 * eps) - 1).amax(1, keepdim=True)
        places = F.max_pool2d(F.adaptive_max_pool2d(view.inside(over.clamp(0, 1)), points), reach, 1, reach // 2)
        if not places.any():
            break
        share = share * (1 - 0.1 * F.avg_pool2d(places, soft, 1, soft // 2))
    free = free * share
    for _ in range(_SCALINGS):  # tone curves are no straight lines: one is not enough
        worst = view.capture_change(_drawn(view, free)).abs().flatten(1).amax(1) / (2 * eps)
        free = free / worst.clamp_min(1)[:, None, None, None]
    return free


@torch.no_grad()
def _order(view: View, change: Tensor, still: Tensor) -> Tensor:
    """Places of those that do not raise the total variation before those that do, each by size."""
    calm = (view.variation(change) <= still).float()
    return (calm + change.square().flatten(1).mean(1)).argsort(descending=True)


def _largest_first(view: View, change: Tensor, still: Tensor) -> Tensor:
    """The best first, see `_order`."""
    return change[_order(view, change, still)]


def held_pair(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], window: Window, most: float) -> bool:
    """Whether two rendered photographs are a proof: (capture, scene), each tone-mapped ``(3,H,W)``.

    The captures must differ by at most ``most`` at every value of the whole photograph, the scenes in the window only,
    and the second must not have more total variation.
    """
    rounding = 1e-6  # of float32; captures have 8-bit levels
    if (second[0] - first[0]).abs().max() > most + rounding:
        return False
    elsewhere = (second[1] - first[1]).abs()
    window.of(elsewhere).zero_()
    calm = total_variation(second[1].double()) <= total_variation(first[1].double()) + rounding
    return bool(calm and not elsewhere.any())

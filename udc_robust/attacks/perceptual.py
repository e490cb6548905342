"""Attacks whose budget is a perceptual distance: LPIPS of the attacked image to the image itself (Laidlaw et al. 2021).

After "Perceptual Adversarial Robustness", ICLR 2021: PPGD (section 4, algorithm 1), LPA (4, algorithm 2) and Fast-LPA.
Theirs measures AlexNet's own features without LPIPS' weights; here the distance is LPIPS itself, so that a budget means
what a table says. LPIPS is a squared length in feature space: a budget ``eps`` is a radius of ``sqrt(eps)`` there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from udc_robust.attacks.methods import method
from udc_robust.attacks.oracle import Oracle
from udc_robust.attacks.streams import Streams
from udc_robust.attacks.threat import THREATS, Threat, dot, unit
from udc_robust.metrics.perceptual import load_lpips, lpips_features
from udc_robust.names import PERCEPTUAL

_TINY = 1e-12
_HALVINGS = 12
_PROBE = 1e-3
"""Root mean square of the step that tells how fast features change along a direction: shorter ones drown in float32."""


@dataclass(frozen=True)
class Perceptual:
    """LPIPS between the image and the attacked image stays within ``eps``; images are in [0,1], 32 px or more."""

    eps: float
    low: float = 0.0
    high: float = 1.0
    norm: ClassVar[str]
    backbone: ClassVar[str]

    def __post_init__(self) -> None:
        if (self.low, self.high) != (0.0, 1.0):
            raise ValueError("LPIPS is of images in [0,1], not of linear light")

    def features(self, x: Tensor) -> Tensor:
        """Features ``(B,n)`` whose squared Euclidean distance is LPIPS."""
        return lpips_features(load_lpips(self.backbone, x.device), x)

    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """LPIPS of each image."""
        with torch.no_grad():
            return (self.features(x) - self.features(x_adv)).square().sum(1)

    def start(self, x: Tensor, streams: Streams) -> Tensor:
        """Gaussian noise of deviation 0.01, brought into the budget (theirs)."""
        return self.project(x, x + 0.01 * streams.normal(x))

    def noise(self, x: Tensor, streams: Streams) -> Tensor:
        """Gaussian noise as strong as the budget allows."""
        return self.project(x, x + 0.5 * streams.normal(x))

    def step(self, x_adv: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """Along the gradient until the features have moved by ``size / eps`` of the budget's radius."""
        direction = unit(gradient)
        probe = _PROBE * math.sqrt(x_adv[0].numel())
        speed = self.distance(x_adv, x_adv + probe * direction).sqrt().clamp_min(_TINY) / probe
        radius = math.sqrt(self.eps)
        return x_adv + (radius * size / self.eps / speed).view(-1, 1, 1, 1) * direction if self.eps else x_adv

    def project(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Box first; then the change of each image that is out of the budget is shrunk until it fits, by bisection."""
        x_adv = x_adv.clamp(self.low, self.high)
        out = (self.distance(x, x_adv) > self.eps).nonzero()[:, 0]
        if len(out):
            fits, origin = torch.zeros(len(out), 1, 1, 1).to(x), x[out]
            too_far, delta = torch.ones_like(fits), x_adv[out] - origin
            for _ in range(_HALVINGS):
                trial = (fits + too_far) / 2
                inside = (self.distance(origin, origin + trial * delta) <= self.eps).view(-1, 1, 1, 1)
                fits, too_far = torch.where(inside, trial, fits), torch.where(inside, too_far, trial)
            x_adv = x_adv.index_copy(0, out, origin + fits * delta)
        return x_adv


class LpipsAlex(Perceptual):
    """LPIPS of AlexNet."""

    norm, backbone = "lpips_alex", "alex"


class LpipsSqueeze(Perceptual):
    """LPIPS of SqueezeNet."""

    norm, backbone = "lpips_squeeze", "squeeze"


THREATS |= {kind.norm: kind for kind in (LpipsAlex, LpipsSqueeze)}


def _sizes(size: tuple[int, int]) -> None:
    if min(size) < 32:
        raise ValueError(f"LPIPS needs images of 32 px or more, not {size[0]}x{size[1]}")


@method("gradient", norms=PERCEPTUAL, check=_sizes)
def ppgd(oracle: Oracle, x: Tensor, threat: Threat, *, steps: int = 5, solver_steps: int = 5) -> Tensor:
    """PPGD: each step goes where the damage grows fastest for the feature distance travelled; back into the budget.

    The direction solves ``J^T J d = g`` with ``solver_steps`` of conjugate gradient, ``J`` the Jacobian of the features
    and ``g`` the objective's gradient: steepest ascent in feature space. A step is two radii over ``steps`` (theirs).
    """
    assert isinstance(threat, Perceptual)
    x_adv = threat.start(x, oracle.streams)
    for _ in range(steps):
        direction = _natural(threat, x_adv, oracle.gradient(x_adv), solver_steps)
        x_adv = threat.project(x, threat.step(x_adv, direction, 2 * threat.eps / steps))
    oracle.values(x_adv)
    return oracle.best_x


def _natural(threat: Perceptual, x: Tensor, gradient: Tensor, steps: int) -> Tensor:
    """An approximate solution of ``J^T J d = gradient`` for each image, by conjugate gradient from zero."""
    product = _gram(threat, x)
    solution, rest = torch.zeros_like(gradient), gradient.clone()
    along, size = rest.clone(), dot(rest, rest)
    for _ in range(steps):
        moved = product(along)
        alpha = size / dot(along, moved).clamp_min(_TINY)
        solution, rest = solution + alpha * along, rest - alpha * moved
        before, size = size, dot(rest, rest)
        along = rest + size / before.clamp_min(_TINY) * along
    return solution


@torch.enable_grad()
def _gram(threat: Perceptual, x: Tensor) -> Callable[[Tensor], Tensor]:
    """The product with ``J^T J`` at ``x``, image by image.

    ``J d`` is the derivative of ``J^T u`` along ``d`` with respect to ``u``: two backward passes. PyTorch's forward
    mode crashes on these networks.
    """
    x = x.detach().requires_grad_(True)
    features = threat.features(x)
    u = torch.zeros_like(features, requires_grad=True)
    (back,) = torch.autograd.grad(features, x, u, create_graph=True)

    def product(direction: Tensor) -> Tensor:
        (moved,) = torch.autograd.grad(back, u, direction, retain_graph=True)
        return torch.autograd.grad(features, x, moved, retain_graph=True)[0]

    return product


@method("gradient", norms=PERCEPTUAL, keeps_best=False, check=_sizes)
def lpa(oracle: Oracle, x: Tensor, threat: Threat, *, steps: int = 20, search_steps: int = 5) -> Tensor:
    """LPA: climb the damage less a penalty on leaving the budget; the penalty is raised tenfold until it is kept.

    Theirs subtracts ``penalty * max(0, distance - eps)``; here both gradients are brought to length one first, because
    a restorer's objective has no fixed scale. Steps decay to a tenth; what is still outside is brought back.
    """
    assert isinstance(threat, Perceptual)
    penalty = torch.full((len(x), 1, 1, 1), 0.01).to(x)
    best, most = x.clone(), torch.full((len(x),), -torch.inf).to(x)
    for _ in range(search_steps):
        x_adv = x + 0.01 * oracle.streams.normal(x)
        for i in range(steps):
            x_adv = _penalised(oracle, threat, x, x_adv, penalty, 0.1 ** (i / steps))
        outside = threat.distance(x, x_adv) > threat.eps
        best, most = _better(oracle, threat.project(x, x_adv), best, most)
        penalty = torch.where(outside.view(-1, 1, 1, 1), 10 * penalty, penalty / 10)
    return best


@method("gradient", norms=PERCEPTUAL, keeps_best=False, check=_sizes)
def fast_lpa(oracle: Oracle, x: Tensor, threat: Threat, *, steps: int = 20) -> Tensor:
    """Fast-LPA: one climb whose penalty grows from 0.1 to 10 as it goes, after theirs for trainings."""
    assert isinstance(threat, Perceptual)
    x_adv = x + 0.01 * oracle.streams.normal(x)
    for i in range(steps):
        penalty = torch.full((len(x), 1, 1, 1), 0.1 * 100 ** (i / max(steps - 1, 1))).to(x)
        x_adv = _penalised(oracle, threat, x, x_adv, penalty, 0.1 ** (i / steps))
    return threat.project(x, x_adv)


def _penalised(oracle: Oracle, threat: Perceptual, x: Tensor, x_adv: Tensor, penalty: Tensor, share: float) -> Tensor:
    """One step of a share of the radius, back towards the budget where it was left."""
    x_adv = x_adv.detach().requires_grad_(True)
    with torch.enable_grad():
        distance = (threat.features(x) - threat.features(x_adv)).square().sum(1)
        (away,) = torch.autograd.grad(distance.sum(), x_adv)
    outside = (distance.detach() > threat.eps).view(-1, 1, 1, 1)
    x_adv = x_adv.detach()
    direction = unit(oracle.gradient(x_adv)) - penalty * outside * unit(away)
    return threat.step(x_adv, direction, share * threat.eps).clamp(threat.low, threat.high)


def _better(oracle: Oracle, trial: Tensor, best: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
    """The more damaging of two images, and its value."""
    values = oracle.values(trial)
    better = values > most
    return torch.where(better.view(-1, 1, 1, 1), trial, best), torch.where(better, values, most)

"""Choosing a purifier's noise level, in two ways: by features that look clean again, and by what restoration keeps.

The level belongs to the defence: it is fixed ONCE, on images that are tested nowhere else, and every attack of a table
then meets the same one. Choosing it for each attack would need to know the attack; choosing it on test images would
flatter the defence.

A level is a timestep of the model's own schedule: the image is noised to it and the first denoising step starts at it.
Level 0 stands for no purifier at all (timestep 0 itself, half a grey level of noise, cannot be studied).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from udc_robust.attacks import Victim, answers, frozen
from udc_robust.defences.defence import Defence, Defended
from udc_robust.errors import UserError, unknown_name

NO_PURIFIER = 0


@dataclass(frozen=True)
class LevelFigures:
    """What was measured at one noise level; `NO_PURIFIER` is the bare network.

    Attributes:
        sigma: the level's noise in [0,1] image units; 0 without a purifier.
        psnr_clean: of unattacked images restored behind the purifier, in dB.
        psnr_blind: of images attacked on the bare network.
        psnr_adaptive: of images attacked through the purifier.
        psnr_attacked: image by image the worse of the two: an attacker may send either.
        frechet: between the network's features of clean images and of purified blind attacks.
    """

    level: int
    sigma: float
    psnr_clean: float
    psnr_blind: float
    psnr_adaptive: float
    psnr_attacked: float
    frechet: float


@dataclass(frozen=True)
class Choice:
    """A level, and in words why."""

    level: int
    reason: str


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Frechet distance of the Gaussians that fit two sets of features ``(N,D)`` and ``(M,D)``; 0 for equal sets.

    ``|mean_a - mean_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))`` (Dowson & Landau 1982; "FID", Heusel et al. 2017), in
    float64. The last trace is the sum of the singular values of ``A B^T``, A and B being the centred features over
    ``(N - 1)^(1/2)``: so no square root of a covariance is taken, and the singular covariances of fewer images than
    features need no regularisation. Few images still bias it: compare distances of the same images only.

    Raises:
        ValueError: fewer than two rows, or sets of different width.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"need two sets (N,D) of 2 or more features, not {tuple(a.shape)} and {tuple(b.shape)}")
    a, b = a.double(), b.double()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    a, b = ((rows - rows.mean(0)) / (len(rows) - 1) ** 0.5 for rows in (a, b))
    spread = a.square().sum() + b.square().sum() - 2 * torch.linalg.svdvals(a @ b.T).sum()
    return float((apart + spread).clamp_min(0))  # rounding may take equal sets below 0


def coarsest_module(network: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> str:
    """Name of the deepest part of a network: of all that answer in maps of the fewest pixels, the largest one.

    That is the middle of the U-shaped restorers, the colour branch of those that have one, and the last stage of a
    ResNet. Maps of a single row or column (pooled ones) do not count.

    Args:
        forward: runs the network; it may convert or pad ``x`` first.
        x: ``(B,C,H,W)`` example images.

    Raises:
        UserError: no part answers with a map.
    """
    pixels: dict[str, int] = {}
    parts = {name: part for name, part in network.named_modules() if name and "parametrizations" not in name}

    def noting(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(part: nn.Module, arguments: Any, y: Any) -> None:
            if isinstance(y, Tensor) and y.ndim == 4 and len(y) == len(x) and min(y.shape[-2:]) > 1:
                pixels[name] = y.shape[-2] * y.shape[-1]

        return note

    hooks = [part.register_forward_hook(noting(name)) for name, part in parts.items()]
    try:
        with frozen(network), torch.no_grad():
            forward(x)
    finally:
        for hook in hooks:
            hook.remove()
    if not pixels:
        raise UserError(f"no part of {type(network).__name__} answers with a map: name a module to take features from")
    deepest = [name for name in parts if pixels.get(name) == min(pixels.values())]
    return max(deepest, key=lambda name: sum(p.numel() for p in parts[name].parameters()))


class PooledFeatures:
    """The mean over pixels of what one module of a network answers: images ``(B,C,H,W)`` in, ``(B,D)`` out.

    Args:
        network: holds the module.
        module: its name, as ``named_modules`` tells it.
        forward: runs the network; None: the network itself.

    Raises:
        UserError: no module of that name; on a call, one that answers with neither maps, tokens nor rows of features.
    """

    def __init__(
        self, network: nn.Module, module: str, forward: Callable[[Tensor], Tensor] | None = None
    ) -> None:  # fmt: skip
        parts = dict(network.named_modules())
        if module not in parts or not module:
            raise unknown_name(f"module of {type(network).__name__}", module, (name for name in parts if name))
        self.module, self._part, self._forward = module, parts[module], forward or network

    def __call__(self, x: Tensor) -> Tensor:
        """Features of these images."""
        seen: list[Any] = []
        hook = self._part.register_forward_hook(lambda part, arguments, y: seen.append(y))
        try:
            self._forward(x)
        finally:
            hook.remove()
        y = seen[-1] if seen else None
        if not isinstance(y, Tensor) or len(y) != len(x) or not 2 <= y.ndim <= 4:
            raise UserError(f"module {self.module!r} answers with no features of each image: name another one")
        if y.ndim == 3:  # tokens (B,N,D)
            return y.mean(1)
        return y.flatten(2).mean(2) if y.ndim == 4 else y


@torch.no_grad()
def purified_features(
    features: Callable[[Tensor], Tensor], defence: Defence | None, x: Tensor, seeds: Sequence[int], draws: int
) -> Tensor:
    """Features ``(N,D)`` of images behind a purifier, all its draws as rows; None: of the images as they are.

    Not clamped or rounded between the purifier and the network: what is measured is what is deployed.
    """
    victim: Victim = features if defence is None else Defended(defence, features)
    return answers(victim, x, seeds, draws).flatten(0, 1)


def anls_level(figures: Sequence[LevelFigures]) -> Choice:
    """UAD-RS's adaptive noise level selection: the level of the smallest Frechet distance; on a tie the lower one.

    It asks whether a perturbation is gone from the features, not what of the image is left: behind
    our mini purifier the mini NAFNet's distance falls up to level 75, its attacked PSNR only rises up to level 10.

    Raises:
        ValueError: no purifying level among them, or none without a purifier.
    """
    bare, purified = _split(figures)
    best = min(purified, key=lambda f: (f.frechet, f.level))
    doubt = "" if best.frechet < bare.frechet else "; no level comes nearer to clean images"
    if len(purified) > 1 and best.level == max(f.level for f in purified):
        doubt += "; the highest measured: the smallest distance may lie above it"
    return Choice(best.level, f"Frechet distance {best.frechet:.4g}, {bare.frechet:.4g} without a purifier{doubt}")


def restoration_level(figures: Sequence[LevelFigures], max_cost: float) -> Choice:
    """The level that holds most PSNR under attack, of those that cost at most ``max_cost`` dB of clean PSNR.

    On a tie the lower level. Where every level costs more, it is the one that costs least, and the reason says so.

    Raises:
        ValueError: no purifying level among them, or none without a purifier.
    """
    bare, purified = _split(figures)
    cost = {f.level: bare.psnr_clean - f.psnr_clean for f in purified}
    affordable = [f for f in purified if cost[f.level] <= max_cost]
    if affordable:
        best = max(affordable, key=lambda f: (f.psnr_attacked, -f.level))
        why = f"at a clean cost of {cost[best.level]:.2f} dB (at most {max_cost:g})"
    else:
        best = min(purified, key=lambda f: (cost[f.level], f.level))
        why = f"but every level costs more than {max_cost:g} dB: this one least, {cost[best.level]:.2f} dB"
    doubt = "" if best.psnr_attacked > bare.psnr_attacked else "; it does not protect"
    held = f"{best.psnr_attacked:.2f} dB attacked, {bare.psnr_attacked:.2f} dB without a purifier{doubt}"
    return Choice(best.level, f"{held}, {why}")


def _split(figures: Sequence[LevelFigures]) -> tuple[LevelFigures, list[LevelFigures]]:
    bare = [f for f in figures if f.level == NO_PURIFIER]
    purified = [f for f in figures if f.level != NO_PURIFIER]
    if len(bare) != 1 or not purified:
        raise ValueError("need the figures without a purifier, once, and those of a level or more")
    return bare[0], purified

"""An explanation that looks unlike those of clean images: which pixels an answer rests on.

After "Attack-agnostic adversarial detection on medical data using explainable machine learning" (arXiv 2105.01959),
which scores anomalies of explanations; attribution, features and one-class model here are ours, as its are not known.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from udc_robust.defences.transforms import require
from udc_robust.detectors.detector import Detector, in_parts
from udc_robust.detectors.one_class import OneClass


class Explanation(Detector):
    """Mahalanobis distance of integrated gradients of the answer (Sundararajan et al. 2017, eq. 1), by captum.

    Attributions of the predicted class from a black image are pooled to ``grid x grid`` places, their positive and
    their negative part and every channel apart, and their total is the last feature.

    Args:
        steps: of the integral.
        grid: places along a side.
    """

    beside = ("classifier",)

    def __init__(self, steps: int = 8, grid: int = 4) -> None:
        super().__init__()
        require(1 <= steps <= 256, "steps", "in 1..256", steps)
        require(1 <= grid <= 32, "grid", "in 1..32", grid)
        self.steps, self.grid, self.usual = steps, grid, OneClass()

    def fit(self, network: nn.Module, clean: Tensor, seed: int) -> None:
        """Learn the explanations of clean images."""
        self.network = network
        self.usual.fit(in_parts(self._described, clean))

    def forward(self, x: Tensor) -> Tensor:
        """Distance from clean explanations ``(B,)``."""
        return self.usual(self._described(x))

    def _described(self, x: Tensor) -> Tensor:
        made = self.attributions(x)
        parts = torch.cat([made.clamp_min(0), (-made).clamp_min(0)], 1)
        places = adaptive_avg_pool2d(parts, self.grid).flatten(1)
        return torch.cat([(places + 1e-6).log(), (made.abs().mean((1, 2, 3)) + 1e-6).log()[:, None]], 1)

    def attributions(self, x: Tensor) -> Tensor:
        """What each value adds to the score of the answer ``(B,3,H,W)``; with a gradient where ``x`` has one."""
        from captum.attr import IntegratedGradients

        known = torch.is_grad_enabled() and x.requires_grad
        with torch.enable_grad():
            given = x if known else x.detach().requires_grad_(True)
            answer = self.network(given).argmax(1).detach()
            explained = IntegratedGradients(self.network, multiply_by_inputs=True)
            # captum's own drops the graph, and with it what a knowing attacker follows.
            explained.gradient_func = partial(_slopes, keep=known)
            made = explained.attribute(given, target=answer, n_steps=self.steps, method="riemann_middle")
        return made if known else made.detach()


def _slopes(
    forward_fn: Callable[..., Tensor], inputs: tuple[Tensor, ...], target_ind: Tensor, keep: bool, **unused: object
) -> tuple[Tensor, ...]:
    """Gradients of the scores of classes, called as captum calls its own: a class alone is that of all inputs."""
    classes = target_ind.expand(len(inputs[0])) if target_ind.numel() == 1 else target_ind
    chosen = forward_fn(*inputs).gather(1, classes[:, None]).sum()
    return torch.autograd.grad(chosen, inputs, create_graph=keep)

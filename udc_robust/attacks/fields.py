"""Attacks in two passes, without a gradient: they look at an answer once, and push where it is off."""

from __future__ import annotations

import torch
from torch import Tensor

from udc_robust.attacks.gradient import begin
from udc_robust.attacks.methods import method
from udc_robust.attacks.oracle import Oracle
from udc_robust.attacks.threat import Threat


@method("output", images_only=True)
def smooth_field(oracle: Oracle, x: Tensor, threat: Threat, *, blur: float = 16.0) -> Tensor:
    """Brighten where the answer is too bright, darken where it is too dark, smoothly: three queries, no gradient.

    Which way an objective rises with each pixel of the answer is averaged over each channel, or blurred; its sign at
    full budget is tried once. This needs the answer itself and what it ought to be, and of the network only that more
    light in is more light out. Beside `brightness` it bounds what a faithful restorer can hold.

    Args:
        blur: deviation of the Gaussian, in px.
    """
    from kornia.filters import gaussian_blur2d

    answer = oracle.outputs(begin(oracle, x, threat)).requires_grad_(True)
    with torch.enable_grad():
        (rise,) = torch.autograd.grad(oracle.objective.values(answer, oracle.target).sum(), answer)
    rise = rise.unflatten(1, (-1, x.shape[1])).sum(1)  # of answers that bring their truth along: more light in both
    side = 2 * round(3 * blur) + 1
    for field in (
        rise.mean((2, 3), keepdim=True).expand_as(x),
        gaussian_blur2d(rise, (side, side), (blur, blur), border_type="replicate"),
    ):
        oracle.values(threat.project(x, threat.step(x, field, threat.eps)))
    return oracle.best_x

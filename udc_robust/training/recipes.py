"""The fine-tuning recipes: each is one function from a batch to its loss.

A row's randomness comes from its own stream and a step's from the step, so resuming and sharing out over processes give
the same training. The network is in evaluation mode throughout, as it will be deployed (and attacked); its output is
not clamped, as that would stop the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from udc_robust.attacks import (
    THREATS,
    Linf,
    Objective,
    Streams,
    Threat,
    Victim,
    frozen,
    image_seed,
    objective,
    perturb,
    round_to_8_bits,
)
from udc_robust.attacks.channels import Jammer, find_channel
from udc_robust.defences.defence import Defended, fresh
from udc_robust.defences.purifier.core import Purifier
from udc_robust.metrics import mse
from udc_robust.names import LEARNT
from udc_robust.restorers.zoo import Restorer
from udc_robust.training.finetune_config import FinetuneConfig
from udc_robust.training.focal import focal_mean
from udc_robust.training.restorer import loss_of, losses_of

T = TypeVar("T")
SLOPE_STEP = 1 / 8
"""Of the budget: how far a slope is measured. The error is nearly straight there, and float32 still sees the rise."""


@dataclass(frozen=True)
class FinetuneSetup:
    """What a recipe works with.

    Attributes:
        restorer: the very weights that train, without the wrapper of several processes: inner attacks go through it.
        purifiers: the purifier at each noise level that a step may draw.
        perceptual: a distance of features, or None.
        teacher: a robust restorer whose answers are learnt, or None.
    """

    config: FinetuneConfig
    restorer: Restorer
    purifiers: list[Purifier]
    perceptual: nn.Module | None
    teacher: nn.Module | None = None

    def between(self, low: float, high: float, step: int, what: str) -> float:
        """A uniform number for this step, the same on every process."""
        streams = Streams([image_seed(self.config.seed, str(step), what)])
        return low + (high - low) * float(streams.uniform(torch.empty(1)))

    def threat(self, step: int) -> Threat:
        """The attacker's budget in this step."""
        return THREATS[self.config.norm](self.between(*self.config.eps, step, "eps"))

    def purifier(self, step: int) -> Purifier:
        """The purifier at the noise level of this step."""
        return self.one_of(self.purifiers, step, "level")

    def objective(self, step: int) -> Objective:
        """What the inner attack of this step climbs."""
        return objective(self.one_of(self.config.objectives, step, "objective"))

    def one_of(self, choices: Sequence[T], step: int, what: str) -> T:
        """One of several for this step, the same on every process."""
        return choices[min(int(self.between(0, len(choices), step, what)), len(choices) - 1)]

    def behind(self, purifier: Purifier) -> Defended:
        """The restorer behind the purifier, as the inner attack differentiates it."""
        assert self.config.purifier is not None
        return Defended(purifier, self.restorer, purifier.gradients[self.config.purifier.access])

    def distance(self, output: Tensor, target: Tensor) -> Tensor:
        """How far attacked answers are from what they should be, weighted by that where ``focal`` says so."""
        if not self.config.focal:
            return loss_of(output, target, self.config.loss)
        return focal_mean(losses_of(output, target, self.config.loss), self.config.focal)

    def loss(self, output: Tensor, target: Tensor, *, attacked: bool = True) -> Tensor:
        """The restoration loss, with the perceptual one where it is wanted."""
        loss = self.distance(output, target) if attacked else loss_of(output, target, self.config.loss)
        return loss if self.perceptual is None else loss + self.config.perceptual * self.perceptual(output, target)


Recipe = Callable[[FinetuneSetup, nn.Module, Tensor, Tensor, Streams, int], Tensor]
"""``(setup, network, lq, gt, streams, step) -> loss``"""


def attacked(setup: FinetuneSetup, victim: Victim, lq: Tensor, target: Tensor, streams: Streams, step: int) -> Tensor:
    """The batch after the inner attack of this step; ``plain_share`` of the rows stay as they are."""
    config, threat = setup.config, setup.threat(step)

    def change(rows: Tensor) -> Tensor:
        with frozen(nn.ModuleList([setup.restorer.network, *setup.purifiers])):
            return perturb(
                victim, lq[rows], setup.objective(step), threat, target=target[rows], streams=streams.of(rows),
                steps=config.inner_steps, step_size=config.step_size,
            )  # fmt: skip

    return mixed(lq, streams, config.plain_share, change)


def mixed(lq: Tensor, streams: Streams, plain_share: float, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The batch with ``change(rows)`` in place of some rows; each stays as it is with probability ``plain_share``."""
    rows = (streams.uniform(lq[:, 0, 0, 0]) >= plain_share).nonzero()[:, 0]
    x = lq.clone()
    if len(rows):
        x[rows] = change(rows)
    return x


def jittered(lq: Tensor, gt: Tensor, streams: Streams, amount: float) -> tuple[Tensor, Tensor]:
    """A pair with its colour channels scaled by the same ``1 - amount .. 1 + amount``."""
    if not amount:
        return lq, gt
    gains = 1 + amount * (2 * streams.uniform(lq[:, :, :1, :1]) - 1)
    return (lq * gains).clamp(0, 1), (gt * gains).clamp(0, 1)


def optics(setup: FinetuneSetup, network: nn.Module, lq: Tensor, gt: Tensor, streams: Streams, step: int) -> Tensor:
    """Captures through displays that are all a little off, which the renders of ``train.tolerances`` are: no attack."""
    return setup.loss(network(lq), gt)


def noise(setup: FinetuneSetup, network: nn.Module, lq: Tensor, gt: Tensor, streams: Streams, step: int) -> Tensor:
    """Random noise of the attack's norm: what robustness costs nothing clever."""
    threat = setup.threat(step)
    x = mixed(lq, streams, setup.config.plain_share, lambda rows: threat.noise(lq[rows], streams.of(rows)))
    return setup.loss(network(x), gt)


def adversarial(
    setup: FinetuneSetup, network: nn.Module, lq: Tensor, gt: Tensor, streams: Streams, step: int
) -> Tensor:
    """The worst images within the budget (Madry et al. 2018, eq. 2.1)."""
    x = attacked(setup, setup.restorer, lq, gt, streams, step)
    return setup.loss(network(x), gt)


def distilled(setup: FinetuneSetup, network: nn.Module, lq: Tensor, gt: Tensor, streams: Streams, step: int) -> Tensor:
    """The worst images within the budget, answered as a teacher answers the clean ones (ARD, Goldblum et al. 2020)."""
    assert setup.teacher is not None
    with torch.no_grad():
        taught = setup.teacher(lq)
    restored = network(attacked(setup, setup.restorer, lq, gt, streams, step))
    return setup.loss(restored, gt) + setup.config.beta * setup.distance(restored, taught)


def trades(setup: FinetuneSetup, network: nn.Module, lq: Tensor, gt: Tensor, streams: Streams, step: int) -> Tensor:
    """Clean loss, and how far an attack can move the restoration (Zhang et al. 2019, eq. 5)."""
    with torch.no_grad():
        clean = setup.restorer(lq)
    x = attacked(setup, setup.restorer, lq, clean, streams, step)
    restored, moved = network(torch.cat([lq, x])).chunk(2)  # one call: a wrapper for processes expects one a step
    return setup.loss(restored, gt, attacked=False) + setup.config.beta * setup.distance(moved, restored)


def gradient_norm(
    setup: FinetuneSetup, network: nn.Module, lq: Tensor, gt: Tensor, streams: Streams, step: int
) -> Tensor:
    """The log of clean error plus the budget's first-order damage, without an inner attack.

    Within a small budget the error rises by at most ``eps`` times the dual norm of its gradient (L1 for Linf): what
    double backpropagation makes small (Drucker & Le Cun 1992; for classifiers Simon-Gabriel et al. 2019). That norm is
    the error's slope along its steepest direction, so two forwards a small step apart give it, at 0.6 of the cost.
    """
    threat, x = setup.threat(step), lq.detach().requires_grad_(True)
    with frozen(nn.ModuleList([setup.restorer.network])):
        (slope,) = torch.autograd.grad(mse(setup.restorer(x), gt).sum(), x)
    apart = threat.eps * SLOPE_STEP
    near = threat.step(lq, slope, apart)
    errors, beyond = mse(network(torch.cat([lq, near])), torch.cat([gt, gt])).chunk(2)  # one call, as in `trades`
    damage = threat.eps * (beyond - errors) / apart
    return 10 * torch.log10(errors + setup.config.beta * damage.clamp_min(0) + 1e-8).mean()


def purified(setup: FinetuneSetup, network: nn.Module, lq: Tensor, gt: Tensor, streams: Streams, step: int) -> Tensor:
    """What the purifier makes of the captures, drawn anew each time (Sensors 2025, 25(11), 3386)."""
    purifier = setup.purifier(step)
    x = mixed(lq, streams, setup.config.plain_share, lambda rows: fresh(purifier, lq[rows], streams.of(rows)))
    return setup.loss(network(x), gt)


def both(setup: FinetuneSetup, network: nn.Module, lq: Tensor, gt: Tensor, streams: Streams, step: int) -> Tensor:
    """Attacks made through the purifier; the network learns what the purifier leaves of them."""
    purifier = setup.purifier(step)
    x = attacked(setup, setup.behind(purifier), lq, gt, streams, step)
    return setup.loss(network(fresh(purifier, x, streams)), gt)


def hardened_purifier(
    setup: FinetuneSetup, network: nn.Module, lq: Tensor, gt: Tensor, streams: Streams, step: int
) -> Tensor:
    """Attacks made through the purifier; it learns to leave of them what the restorer, which stays, can use.

    ``network`` is the purifier.
    """
    purifier = setup.purifier(step)
    x = attacked(setup, setup.behind(purifier), lq, gt, streams, step)
    return setup.loss(setup.restorer(network(x, purifier.draw(x, streams))), gt)


def jammer(setup: FinetuneSetup, network: nn.Module, lq: Tensor, gt: Tensor, streams: Streams, step: int) -> Tensor:
    """What a channel within the budget makes of the captures, in 8 bits: all that its best restorer will ever see.

    A learnt channel climbs the loss that the restorer descends, in the same step; ``network`` is both, `Jammed`.
    """
    threat = setup.threat(step)
    if setup.config.channel == LEARNT:
        return setup.loss(network(lq, threat.eps, Jammer.noise(lq, streams)), gt)
    through = find_channel(setup.config.channel or "")

    def change(rows: Tensor) -> Tensor:
        x = lq[rows]
        return round_to_8_bits(threat, x, through(x, threat, streams.of(rows)))

    return setup.loss(network(mixed(lq, streams, setup.config.plain_share, change)), gt)


class Jammed(nn.Module):
    """A restorer behind a channel that is learnt against it, by reversing its gradient (Ganin & Lempitsky 2015)."""

    def __init__(self, restorer: Restorer, channel: Jammer) -> None:
        super().__init__()
        self.restorer, self.channel = restorer, channel

    def forward(self, lq: Tensor, eps: float, noise: Tensor) -> Tensor:
        """Restorations of what the channel makes of captures, in 8 bits, of which the gradient knows nothing."""
        threat = Linf(eps)
        jammed = self.channel.through(lq, threat, noise)
        reversed_ = 2 * jammed.detach() - jammed
        rounded = round_to_8_bits(threat, lq, jammed.detach())
        return self.restorer(reversed_ + (rounded - jammed.detach()))


RECIPES: dict[str, Recipe] = {
    "purified": purified, "adversarial": adversarial, "distilled": distilled, "trades": trades, "both": both,
    "purifier": hardened_purifier, "noise": noise, "gradient_norm": gradient_norm,
    "jammer": jammer, "optics": optics,
}  # fmt: skip

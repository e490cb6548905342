"""The differentiable samplers of diffusion purification: pure functions over a noise predictor.

The noise is an explicit argument, so that an attack can replay it, and nothing clips, rounds or keeps a state: the
gradient is that of the defence. Images ``(B,C,H,W)`` are in [-1,1], the range of diffusion models.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

from torch import Tensor

from udc_robust.defences.purifier.guidance import Correction, Shift
from udc_robust.defences.purifier.schedule import NoiseSchedule

Denoiser = Callable[[Tensor, int], Tensor]
"""``(x_t, t) -> eps``: the noise that a model sees in an image of timestep ``t``."""

RunStep = Callable[..., Tensor]
"""Calls a sampler step with its tensors: `plainly`, or through a checkpoint."""


def plainly(step: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Run a sampler step and keep its activations for the backward pass."""
    return step(*tensors)


def diffuse(u: Tensor, noise: Tensor, alpha: float) -> Tensor:
    """Add noise: ``sqrt(abar) u + sqrt(1 - abar) noise`` (Ho et al. 2020, eq. 4)."""
    return math.sqrt(alpha) * u + math.sqrt(1 - alpha) * noise


def clean_estimate(x_t: Tensor, eps: Tensor, alpha: float) -> Tensor:
    """The clean image that a noise prediction implies (Ho et al. 2020, eq. 15)."""
    return (x_t - math.sqrt(1 - alpha) * eps) / math.sqrt(alpha)


def reverse_step(
    x_t: Tensor,
    u: Tensor,
    first: Tensor,
    fresh: Tensor,
    *,
    denoiser: Denoiser,
    t: int,
    alpha: float,
    alpha_next: float,
    eta: float,
    correct: Correction | None,
    shift: Shift | None,
) -> Tensor:
    """One step down (Song et al. 2021, "DDIM", eq. 12 and 16); a pure function, so it can run under a checkpoint.

    Args:
        x_t: ``(B,C,H,W)`` at timestep ``t``.
        u: the input without noise.
        first: the noise that the input was noised with.
        fresh: standard normal for this step; unused where ``eta`` is 0 or the next image is the clean one.
        denoiser, t, alpha, alpha_next, eta, correct, shift: see `sample`.
    """
    eps = denoiser(x_t, t)
    x_0 = clean_estimate(x_t, eps, alpha)
    if correct is not None:
        x_0 = correct(x_0, u)
        # The noise that goes with the corrected estimate: the step stays the posterior of that estimate.
        eps = (x_t - math.sqrt(alpha) * x_0) / math.sqrt(1 - alpha)
    deviation = eta * math.sqrt((1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next))
    x_next = math.sqrt(alpha_next) * x_0 + math.sqrt(max(1 - alpha_next - deviation**2, 0)) * eps
    if deviation > 0:
        if shift is not None:
            x_next = x_next + deviation**2 * shift(x_t, diffuse(u, first, alpha), alpha, x_0, u)
        x_next = x_next + deviation * fresh
    return x_next


def sample(
    denoiser: Denoiser,
    u: Tensor,
    noise: Tensor,
    schedule: NoiseSchedule,
    timesteps: tuple[int, ...],
    eta: float = 0.0,
    *,
    correct: Correction | None = None,
    shift: Shift | None = None,
    run: RunStep = plainly,
) -> Tensor:
    """Noise an image to ``timesteps[0]`` and walk back to a clean one.

    Args:
        denoiser: noise prediction; the first call uses the very timestep of the noising.
        u: ``(B,C,H,W)`` images in [-1,1].
        noise: ``(B,draws,C,H,W)`` standard normal; draw 0 noises the image, the others feed the steps when eta > 0.
        timesteps: falling, without the clean image.
        eta: 0 is DDIM (no fresh noise), 1 is DDPM.
        correct: changes the clean estimate of every step, knowing ``u``.
        shift: moves the mean of every noisy step, in units of its variance.
        run: how a step is run, see `Checkpointed`.
    """
    first = noise[:, 0]
    x_t = diffuse(u, first, schedule.alpha(timesteps[0]))
    for number, (t, t_next) in enumerate(itertools.pairwise((*timesteps, -1))):
        step = functools.partial(
            reverse_step, denoiser=denoiser, t=t, alpha=schedule.alpha(t), alpha_next=schedule.alpha(t_next),
            eta=eta, correct=correct, shift=shift,
        )  # fmt: skip
        x_t = run(step, x_t, u, first, noise[:, min(number + 1, noise.shape[1] - 1)])
    return x_t


def one_step(denoiser: Denoiser, u: Tensor, noise: Tensor, schedule: NoiseSchedule, noise_level: int) -> Tensor:
    """The posterior mean at one noise level, in one model call (Carlini et al. 2023)."""
    x_t = diffuse(u, noise[:, 0], schedule.alpha(noise_level))
    return clean_estimate(x_t, denoiser(x_t, noise_level), schedule.alpha(noise_level))


def ddim(
    denoiser: Denoiser,
    u: Tensor,
    noise: Tensor,
    schedule: NoiseSchedule,
    noise_level: int,
    steps: int,
    eta: float = 0.0,
) -> Tensor:
    """A few long steps (Song et al. 2021); with ``eta`` 0 only draw 0 of the noise is used."""
    return sample(denoiser, u, noise, schedule, schedule.timesteps(noise_level, steps), eta)


def ancestral(denoiser: Denoiser, u: Tensor, noise: Tensor, schedule: NoiseSchedule, noise_level: int) -> Tensor:
    """Every level with fresh noise: DDPM with the small posterior variance, as DiffPure's discrete form."""
    return sample(denoiser, u, noise, schedule, schedule.timesteps(noise_level, noise_level + 1), eta=1.0)


def average(draw: Callable[[Tensor, Tensor], Tensor], u: Tensor, noise: Tensor) -> Tensor:
    """The mean of a sampler over K noises ``(B,K,draws,C,H,W)``: nearer to the posterior mean by Monte Carlo.

    The K samples are rows of one batch.
    """
    samples = noise.shape[1]
    drawn = draw(u.repeat_interleave(samples, 0) if samples > 1 else u, noise.flatten(0, 1))
    return drawn.unflatten(0, (len(u), samples)).mean(1)

"""The differentiable core of diffusion purification: pure functions over a noise predictor.

A purifier adds noise to an image and lets a diffusion model take it away again, and with it, one hopes, a hostile
perturbation (Nie et al. 2022, "DiffPure"). Here the noise is an explicit argument, so that an attack can replay it, and
nothing clips, rounds or keeps a state: the gradient is that of the defence. Images ``(B,C,H,W)`` are in [-1,1], the
range of diffusion models, up to `Purifier`, which takes and gives [0,1].
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from udc_robust.attacks.streams import Streams
from udc_robust.defences.crossing import Checkpointed, Surrogate
from udc_robust.defences.defence import Crossing, Defence, Exact, StraightThrough
from udc_robust.defences.guidance import Correction, Shift
from udc_robust.defences.schedule import NoiseSchedule
from udc_robust.errors import UserError, unknown_name
from udc_robust.restorers.tiles import padded, tile_boxes

Denoiser = Callable[[Tensor, int], Tensor]
"""``(x_t, t) -> eps``: the noise that a model sees in an image of timestep ``t``."""

RunStep = Callable[..., Tensor]
"""Calls a sampler step with its tensors: `plainly`, or through a checkpoint."""

SAMPLERS = ("one_step", "ddim", "ancestral")


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
            x_next = x_next + deviation**2 * shift(x_t, diffuse(u, first, alpha), alpha)
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


@dataclass(frozen=True)
class Plan:
    """What a purifier does with each image.

    Attributes:
        noise_level: timestep up to which the image is noised.
        sampler: ``one_step``, ``ddim`` or ``ancestral`` (eta 1).
        steps: model calls of a sample.
        samples: purified draws that are averaged.
        eta: fresh noise of ``ddim``, 0..1.
    """

    noise_level: int
    sampler: str = "one_step"
    steps: int = 1
    samples: int = 1
    eta: float = 0.0

    @classmethod
    def of(
        cls, noise_level: int, sampler: str = "one_step", steps: int | None = None, samples: int = 1, eta: float = 0.0
    ) -> Plan:
        """Fill in the steps (all levels for ``ancestral``, 5 for ``ddim``) and check that the parts go together.

        Raises:
            UserError: an unknown sampler, or numbers that it cannot use.
        """
        if sampler not in SAMPLERS:
            raise unknown_name("sampler", sampler, SAMPLERS)
        if steps is None:
            steps = {"one_step": 1, "ddim": min(5, noise_level + 1), "ancestral": noise_level + 1}[sampler]
        if sampler == "one_step" and steps != 1:
            raise UserError(f"sampler one_step takes one step, not {steps}: choose ddim")
        if not 1 <= steps <= noise_level + 1:
            raise UserError(f"steps must be in 1..{noise_level + 1} for noise_level {noise_level}, not {steps}")
        if samples < 1:
            raise UserError(f"samples must be 1 or more, not {samples}")
        if not 0 <= eta <= 1 or (eta > 0 and sampler != "ddim"):
            raise UserError(f"eta must be in [0,1] and belongs to ddim, not {eta:g} with {sampler}")
        return cls(noise_level, sampler, steps, samples, 1.0 if sampler == "ancestral" else eta)

    @property
    def nfe(self) -> int:
        """Model calls for one purified image."""
        return self.steps * self.samples

    @property
    def draws(self) -> int:
        """Noise fields of one sample: one for the noising, and one a noisy step; the last step adds none."""
        return 1 + (self.steps - 1 if self.eta > 0 else 0)


def draw_noise(x: Tensor, plan: Plan, streams: Streams, multiple: int = 1) -> Tensor:
    """Noise ``(B,samples,draws,C,H',W')`` for images ``(B,C,H,W)``, each from its own stream.

    ``H'`` and ``W'`` are the sizes rounded up to the U-Net's ``multiple``. The same streams give the same noise: keep
    the seeds of attacker and defender apart.
    """
    return streams.normal(x.new_empty(noise_shape(x, plan, multiple)))


def noise_shape(x: Tensor, plan: Plan, multiple: int) -> tuple[int, ...]:
    """Shape of the noise that `Purifier` needs for these images."""
    batch, channels, height, width = x.shape
    return batch, plan.samples, plan.draws, channels, height + -height % multiple, width + -width % multiple


class NoisePredictor(nn.Module):
    """A diffusers U-Net as a `Denoiser`: ``(x_t, t) -> eps``."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x_t: Tensor, t: int) -> Tensor:
        """Noise in ``(B,C,H,W)`` at timestep ``t``."""
        return self.unet(x_t, t, return_dict=False)[0]


class Purifier(Defence):
    """A purifier as a defence: [0,1] images and their noise in, [0,1] images out, differentiable and not clamped.

    Attributes:
        model: ``(x_t, t) -> eps``; a module's weights belong to the purifier.
        multiple: sizes are padded (replicated border) to a multiple of this, and cropped back.
        tile: side of the tiles that are purified one by one from ONE noise field, 0 for whole images. Group norms see
            only their tile, so the answer differs a little from that of the whole image.
        overlap: pixels at a tile's inner borders that are not used.
    """

    def __init__(
        self,
        model: Denoiser,
        schedule: NoiseSchedule,
        plan: Plan,
        *,
        multiple: int = 1,
        tile: int = 0,
        overlap: int = 16,
        correct: Correction | None = None,
        shift: Shift | None = None,
    ) -> None:
        super().__init__()
        if tile and (tile % multiple or tile <= 2 * overlap):
            raise UserError(f"tile {tile} must be a multiple of {multiple} and more than twice the overlap {overlap}")
        self.model, self.schedule, self.plan, self.multiple = model, schedule, plan, multiple
        self.tile, self.overlap = tile, overlap
        self.nfe, self.random = plan.nfe, True
        self.correct, self.shift = correct, shift

    def draw(self, x: Tensor, streams: Streams) -> Tensor:
        """Noise for these images, see `draw_noise`."""
        return draw_noise(x, self.plan, streams, self.multiple)

    @property
    def crossings(self) -> Mapping[str, Crossing]:
        """Identity, one-step gradient (where the chain is longer) and the exact one, checkpointed where that helps."""
        if self.plan.steps == 1 and not self.tile:  # a checkpoint of the only step saves next to nothing
            return {"bpda": StraightThrough(), "adaptive": Exact()}
        shorter = {"surrogate": Surrogate()} if self.plan.steps > 1 else {}
        return {"bpda": StraightThrough(), **shorter, "adaptive": Checkpointed()}

    def forward(self, x: Tensor, noise: Tensor, run: RunStep = plainly, steps: int | None = None) -> Tensor:
        """Purify ``(B,C,H,W)`` with ``noise`` of `draw`.

        Args:
            x: images in [0,1].
            noise: ``(B,samples,draws,C,H',W')``.
            run: how each sampler step is run.
            steps: a shorter way down without fresh noise, for `Surrogate`; None: the plan's.

        Raises:
            ValueError: noise of another shape.
        """
        if noise.shape != noise_shape(x, self.plan, self.multiple):
            expected = noise_shape(x, self.plan, self.multiple)
            raise ValueError(f"noise must be of shape {expected} for these images, not {tuple(noise.shape)}")
        timesteps = self.schedule.timesteps(self.plan.noise_level, steps or self.plan.steps)
        eta = self.plan.eta if steps is None else 0.0

        def purify(u: Tensor, noise: Tensor) -> Tensor:
            def draw(u: Tensor, noise: Tensor) -> Tensor:
                return sample(
                    self.model, u, noise, self.schedule, timesteps, eta,
                    correct=self.correct, shift=self.shift, run=run,
                )  # fmt: skip

            return average(draw, u, noise)

        u = padded(lambda u: self._by_tiles(purify, u, noise), 2 * x - 1, self.multiple)
        return (u + 1) / 2

    def _by_tiles(self, purify: Callable[[Tensor, Tensor], Tensor], u: Tensor, noise: Tensor) -> Tensor:
        """Whole, or by tiles that are cut out of image and noise alike."""
        height, width = u.shape[-2:]
        if not self.tile or max(height, width) <= self.tile:
            return purify(u, noise)
        output = torch.empty_like(u)
        for rows_in, columns_in, rows_out, columns_out in tile_boxes(height, width, self.tile, self.overlap):
            purified = purify(u[..., rows_in, columns_in], noise[..., rows_in, columns_in])
            inner_rows = slice(rows_out.start - rows_in.start, rows_out.stop - rows_in.start)
            inner_columns = slice(columns_out.start - columns_in.start, columns_out.stop - columns_in.start)
            output[..., rows_out, columns_out] = purified[..., inner_rows, inner_columns]
        return output

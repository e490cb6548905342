"""The purifier as a defence.

A purifier adds noise to an image and lets a diffusion model take it away again, and with it, one hopes, a hostile
perturbation (Nie et al. 2022, "DiffPure"). Images are in [0,1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn

from udc_robust.attacks.streams import Streams
from udc_robust.defences.defence import Defence, Exact, Gradient, StraightThrough
from udc_robust.defences.purifier.gradients import Checkpointed, Surrogate
from udc_robust.defences.purifier.guidance import Correction, Shift
from udc_robust.defences.purifier.plan import Plan
from udc_robust.defences.purifier.samplers import Denoiser, RunStep, average, plainly, sample
from udc_robust.defences.purifier.schedule import NoiseSchedule
from udc_robust.errors import UserError
from udc_robust.limits import require_memory
from udc_robust.networks.tiles import check_tiles, padded, tiled


def draw_noise(x: Tensor, plan: Plan, streams: Streams, multiple: int = 1) -> Tensor:
    """Noise ``(B,samples,draws,C,H',W')`` for images ``(B,C,H,W)``, each from its own stream.

    ``H'`` and ``W'`` are the sizes rounded up to the U-Net's ``multiple``. The same streams give the same noise: keep
    the seeds of attacker and defender apart.
    """
    shape = noise_shape(x, plan, multiple)
    require_memory(3 * math.prod(shape), f"noise for {plan.samples} samples of {plan.steps} steps")
    return streams.normal(x.new_empty(shape))


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
        guide: the network that ``shift`` looks at, if any.
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
        guide: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_tiles(tile, overlap)
        if tile % multiple:
            raise UserError(f"tile {tile} must be a multiple of {multiple}")
        self.model, self.schedule, self.plan, self.multiple = model, schedule, plan, multiple
        self.tile, self.overlap = tile, overlap
        self.nfe, self.random = plan.nfe, True
        self.correct, self.shift = correct, shift
        if guide is not None:
            self.guide = guide  # its weights go where the purifier's go

    def draw(self, x: Tensor, streams: Streams) -> Tensor:
        """Noise for these images, see `draw_noise`."""
        return draw_noise(x, self.plan, streams, self.multiple)

    @property
    def gradients(self) -> Mapping[str, Gradient]:
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

        def purify_all(u: Tensor) -> Tensor:
            return tiled(purify, u, self.tile, self.overlap, along=[noise]) if self.tile else purify(u, noise)

        return (padded(purify_all, 2 * x - 1, self.multiple) + 1) / 2

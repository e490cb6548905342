"""A tiny U-Net with every kind of block, and what goes with it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from udc_robust.attacks.streams import Streams
from udc_robust.defences.purifier.core import NoisePredictor, Purifier
from udc_robust.defences.purifier.plan import Plan, PurifyOptions
from udc_robust.defences.purifier.schedule import NoiseSchedule


def tiny_unet(channels: int = 3, seed: int = 0) -> nn.Module:
    from diffusers import UNet2DModel

    torch.manual_seed(seed)
    return UNet2DModel(
        in_channels=channels, out_channels=channels, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, add_attention=False, down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    ).eval()  # fmt: skip


def linear_schedule() -> NoiseSchedule:
    """diffusers' default: 1000 betas from 1e-4 to 0.02."""
    return NoiseSchedule.of(torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0).tolist())


def plan_of(noise_level: int, **options) -> Plan:
    return PurifyOptions.of({"noise_level": noise_level, **options}).plan(linear_schedule())


def purifier(plan: Plan, dtype: torch.dtype = torch.float32, **options) -> Purifier:
    made = Purifier(NoisePredictor(tiny_unet()), linear_schedule(), plan, multiple=2, **options)
    return made.to(dtype).requires_grad_(False)


def images(batch: int = 2, height: int = 16, width: int = 16, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64).to(dtype)


def noise_for(made: Purifier, x: Tensor, seed: int = 100) -> Tensor:
    return made.draw(x, Streams([seed + i for i in range(len(x))]))


class TinyRestorer(nn.Module):
    """A small non-linear restorer with a skip."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)

"""Training a purifier's diffusion model.

Noise prediction (Ho et al. 2020, eq. 14) on random crops, at the small noise levels that purification uses. The habits
are those of diffusers' unconditional example: averaged weights, warm-up and cosine, resuming, mixed precision; what it
leaves is a folder that ``PurificationPipeline.from_pretrained`` reads.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from udc_robust.attacks.streams import Streams
from udc_robust.classifiers.data import load_images
from udc_robust.data.samples import Sample, SingleFolder
from udc_robust.files import disk_errors, write_text
from udc_robust.metrics import psnr
from udc_robust.networks.memory_guard import within_memory
from udc_robust.portable import portable
from udc_robust.training.batches import NoisyBatches, of_one_domain
from udc_robust.training.card import common_facts, model_card, table
from udc_robust.training.config import DiffusionConfig
from udc_robust.training.loop import Validation, share, start, train

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    from udc_robust.defences.purifier.pipeline import PurificationPipeline

LEVELS = (10, 20, 50, 100)


@torch.no_grad()
def one_step_psnr(
    pipeline: PurificationPipeline, images: Sequence[Tensor], levels: Sequence[int] = LEVELS, seed: int = 0
) -> dict[int, tuple[float, float]]:
    """Mean PSNR in dB of (noisy image, its one-step purification), for each noise level.

    Args:
        pipeline: its U-Net is used as it is, in the mode and on the device it is in.
        images: ``(C,H,W)`` each in [0,1], of any size; taken one at a time.
        levels: timesteps; those above the trained range are left out.
        seed: image ``i`` gets the noise of ``seed + i``, the same pattern at every level.
    """
    highest = pipeline.config["max_noise_level"]
    found = {}
    for level in levels:
        if highest is not None and level > highest:
            continue
        purifier = pipeline.purifier(pipeline.plan(noise_level=level))
        rows = []
        for i, image in enumerate(images):
            x = image[None].to(pipeline.device, pipeline.unet.dtype)
            noise = purifier.draw(x, Streams([seed + i]))
            noisy = x + pipeline.schedule.sigma(level) * noise[:, 0, 0, :, : x.shape[-2], : x.shape[-1]]
            purified = purifier(x, noise).clamp(0, 1)
            rows.append(torch.cat([psnr(y.double(), x.double()) for y in (noisy, purified)]))
        noisy_db, purified_db = torch.stack(rows).mean(0).tolist()
        found[level] = (noisy_db, purified_db)
    return found


def loss_of(predicted: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the predicted noise, in single precision."""
    return F.mse_loss(predicted.float(), noise.float())


def train_diffusion(config: DiffusionConfig, out: Path) -> dict[str, Any]:
    """Train, resume where a former call was stopped, and write the pipeline folder ``NAME`` with its model card.

    Returns:
        The facts of the card: seconds, validation figures, parameters.

    Raises:
        UserError: bad data, another training in ``out``, or a loss that is not finite (the last state is kept).
    """
    accelerator = start(config, out)
    train_images = _images(config.train)
    domain = train_images[0].domain
    validation_images = _images(config.validation, config.validation_limit, like=("the training is", domain))
    scheduler = _scheduler(config)
    batches = NoisyBatches(
        train_images, scheduler.alphas_cumprod, config.max_noise_level, patch=config.patch_size,
        **share(config, accelerator),
    )  # fmt: skip

    def loss(network: nn.Module, batch: tuple[Tensor, ...], step: int) -> Tensor:
        x_t, t, noise = batch
        return loss_of(network(x_t, t, return_dict=False)[0], noise)

    def check(network: nn.Module) -> Validation:
        pipeline = _pipeline(config, network.eval(), scheduler)
        figures = one_step_psnr(pipeline, [sample.lq for sample in validation_images])
        purified = " / ".join(f"{pair[1]:.1f}" for pair in figures.values())
        return Validation(
            {"one_step": {str(level): pair for level, pair in figures.items()}},
            {f"psnr_t{level}": pair[1] for level, pair in figures.items()},
            f"validation {purified} dB at t = {', '.join(map(str, figures))}",
        )

    trained = train(accelerator, config, out, _unet(config).train(), batches, loss, check)
    facts = {
        **common_facts(config, trained, trained.network), "images": len(train_images),
        "validation_images": len(validation_images), "domain": domain,
    }  # fmt: skip
    if accelerator.is_main_process:
        save_pipeline(_pipeline(config, trained.network, scheduler), out / config.name, _card(config, facts), facts)
    return facts


def _images(source: Path, limit: int | None = None, like: tuple[str, str] | None = None) -> list[Sample]:
    """The images of a folder or of an archive of labelled ones; with a limit so many, evenly over it.

    Args:
        like: see `of_one_domain`.
    """
    if source.suffix == ".npz":
        labelled = load_images(source)
        labelled = labelled if limit is None else labelled.spread(limit)
        pictures = zip(labelled.keys, labelled, strict=True)
        found = (Sample(key, image.float() / 255, None, "srgb", str(source)) for key, (image, _) in pictures)
        return list(of_one_domain(found, like))
    samples: Sequence[Sample] = SingleFolder(source)
    count = len(samples) if limit is None else min(limit, len(samples))
    return list(of_one_domain((samples[i * len(samples) // count] for i in range(count)), like))


def _unet(config: DiffusionConfig) -> nn.Module:
    """A U-Net without attention: it takes any size, and its cost grows with the pixels only."""
    from diffusers.models.unets.unet_2d import UNet2DModel

    levels = len(config.block_out_channels)

    def unet() -> nn.Module:
        return UNet2DModel(
            sample_size=config.patch_size, block_out_channels=tuple(config.block_out_channels),
            layers_per_block=config.layers_per_block, norm_num_groups=config.norm_num_groups, add_attention=False,
            down_block_types=("DownBlock2D",) * levels, up_block_types=("UpBlock2D",) * levels,
        )  # fmt: skip

    return within_memory(unet, "block_out_channels and layers_per_block", rehearse=True)


def _scheduler(config: DiffusionConfig) -> DDPMScheduler:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    # Clipping inside the chain would stop the gradient where a capture is saturated.
    return DDPMScheduler(
        num_train_timesteps=config.ddpm_num_steps, beta_schedule=config.ddpm_beta_schedule, clip_sample=False
    )


def _pipeline(config: DiffusionConfig, unet: nn.Module, scheduler: DDPMScheduler) -> PurificationPipeline:
    from udc_robust.defences.purifier.pipeline import PurificationPipeline

    return PurificationPipeline(unet, scheduler, noise_level=config.noise_level, max_noise_level=config.max_noise_level)  # type: ignore[arg-type]


def save_pipeline(pipeline: PurificationPipeline, folder: Path, card: str, facts: dict[str, Any]) -> None:
    """Write the folder beside its place first, so that a kill leaves no half of it there."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with disk_errors(folder):
        try:
            pipeline.save_pretrained(temporary, safe_serialization=True)
            write_text(temporary / "README.md", card)
            write_text(temporary / "facts.json", json.dumps(portable(facts), indent=1) + "\n")
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _card(config: DiffusionConfig, facts: dict[str, Any]) -> str:
    levels = facts["validation"]["one_step"].items()
    rows = [[level, f"{noisy:.2f}", f"{purified:.2f}"] for level, (noisy, purified) in levels]
    chain = f"{config.ddpm_num_steps} ({config.ddpm_beta_schedule})"
    return model_card(
        config, facts, command="train diffusion", what="A purifier's diffusion model", library="diffusers",
        tags="unconditional-image-generation, adversarial-purification, under-display-camera",
        lines=[
            f"U-Net without attention, {facts['parameters']:,} parameters, noise prediction; domain: {facts['domain']}",
            f"data: {facts['images']} images; validated on {facts['validation_images']} images never trained on",
            f"noise levels 0..{config.max_noise_level} of {chain}; it knows no others",
        ],
        figures=f"""PSNR in dB of a held-out image under the noise of a level, and of its one-step purification:

{table(["noise level", "noisy", "one step"], rows)}

These figures say how well it denoises, not how well it defends: attack a restorer through it to know that.""",
    )  # fmt: skip

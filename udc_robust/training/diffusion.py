"""Training a purifier's diffusion model: read it top to bottom.

Noise prediction (Ho et al. 2020, eq. 14) on random crops, at the small noise levels that purification uses. The habits
are those of diffusers' unconditional example: averaged weights, warm-up and cosine, resuming, mixed precision; what it
leaves is a folder that ``PurificationPipeline.from_pretrained`` reads.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from udc_robust.attacks.streams import Streams
from udc_robust.config import DiffusionConfig
from udc_robust.data.samples import Sample, SingleFolder
from udc_robust.errors import UserError
from udc_robust.files import disk_errors, write_text
from udc_robust.metrics import psnr
from udc_robust.progress import progress
from udc_robust.training.batches import NoisyBatches, loader
from udc_robust.training.checkpoint import load_state, save_state
from udc_robust.training.pace import learning_rate, moving_average

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    from udc_robust.defences.pipeline import PurificationPipeline

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
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        log_with="tensorboard",
        project_dir=out,
        cpu=not torch.cuda.is_available(),
    )
    set_seed(config.seed)
    train_images, validation_images = (_images(folder) for folder in (config.train, config.validation))
    scheduler = _scheduler(config)
    batches = NoisyBatches(
        train_images, scheduler.alphas_cumprod, config.max_noise_level, patch=config.patch_size,
        batch=config.batch_size, steps=config.steps, seed=config.seed,
        rank=accelerator.process_index, ranks=accelerator.num_processes,
    )  # fmt: skip
    unet = _unet(config)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay)
    average = AveragedModel(unet, multi_avg_fn=moving_average(config.ema))

    settings = json.loads(config.model_dump_json(exclude={"out", "validate_every", "save_every", "about", "licence"}))
    state = load_state(out / "state.pt", settings)
    first_step, seconds, history = 0, 0.0, []
    if state:
        unet.load_state_dict(state["unet"])
        optimizer.load_state_dict(state["optimizer"])
        average.load_state_dict(state["average"])
        first_step, seconds, history = state["step"], state["seconds"], state["history"]
    average.to(accelerator.device)
    unet, optimizer = accelerator.prepare(unet, optimizer)
    accelerator.init_trackers("tensorboard")

    def save(step: int) -> None:
        if accelerator.is_main_process:
            save_state(
                out / "state.pt",
                {
                    "settings": settings, "step": step, "seconds": seconds, "history": history,
                    "unet": accelerator.unwrap_model(unet).state_dict(),
                    "optimizer": optimizer.state_dict(), "average": average.state_dict(),
                },
            )  # fmt: skip

    unet.train()
    average.eval()
    with progress(f"training {config.name}", config.steps, first_step, quiet=not accelerator.is_main_process) as tick:
        started = time.perf_counter()
        for step, (x_t, t, noise) in enumerate(loader(batches, first_step), first_step):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, config)
            with accelerator.autocast():
                predicted = unet(x_t.to(accelerator.device), t.to(accelerator.device), return_dict=False)[0]
            loss = loss_of(predicted, noise.to(accelerator.device))
            if not math.isfinite(loss.item()):
                state_file = out / "state.pt"
                raise UserError(f"the loss is {loss.item()} at step {step}: lower `lr`; the last state is {state_file}")
            optimizer.zero_grad()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(unet.parameters(), config.clip_grad)
            optimizer.step()
            average.update_parameters(accelerator.unwrap_model(unet))
            done = step + 1
            tick(f"loss {loss.item():.4f}")
            if done % 20 == 0:
                accelerator.log({"loss": loss.item(), "lr": learning_rate(step, config)}, step=done)
            if done % config.validate_every == 0 or done == config.steps:
                pipeline = _pipeline(config, average.module, scheduler)
                figures = one_step_psnr(pipeline, [sample.lq for sample in validation_images])
                history.append({"step": done, "one_step": {str(level): pair for level, pair in figures.items()}})
                accelerator.log({f"validation/psnr_t{level}": pair[1] for level, pair in figures.items()}, step=done)
                note = " / ".join(f"{pair[1]:.1f}" for pair in figures.values())
                tick(f"validation {note} dB at t = {', '.join(map(str, figures))}", advance=0)
            if done % config.save_every == 0 or done == config.steps:
                seconds, started = seconds + time.perf_counter() - started, time.perf_counter()
                save(done)
    accelerator.end_training()
    facts = {
        "name": config.name, "parameters": sum(p.numel() for p in average.module.parameters()),
        "steps": config.steps, "seconds": round(seconds), "images": len(train_images),
        "validation_images": len(validation_images), "domain": train_images[0].domain, "validation": history[-1],
        "licence": config.licence, "seed": config.seed,
    }  # fmt: skip
    if accelerator.is_main_process:
        _save_pipeline(
            _pipeline(config, average.module, scheduler), out / config.name, diffusion_card(config, facts), facts
        )
    return facts


def _images(folder: Path) -> list[Sample]:
    samples = list(SingleFolder(folder))
    for sample in samples:
        if sample.domain == "linear":
            raise UserError(f"{sample.source} is linear light: a purifier learns tone-mapped or sRGB images in [0,1]")
    return samples


def _unet(config: DiffusionConfig) -> nn.Module:
    """A U-Net without attention: it takes any size, and its cost grows with the pixels only."""
    from diffusers.models.unets.unet_2d import UNet2DModel

    levels = len(config.block_out_channels)
    return UNet2DModel(
        sample_size=config.patch_size, block_out_channels=tuple(config.block_out_channels),
        layers_per_block=config.layers_per_block, norm_num_groups=config.norm_num_groups, add_attention=False,
        down_block_types=("DownBlock2D",) * levels, up_block_types=("UpBlock2D",) * levels,
    )  # fmt: skip


def _scheduler(config: DiffusionConfig) -> DDPMScheduler:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    # Clipping inside the chain would stop the gradient where a capture is saturated.
    return DDPMScheduler(
        num_train_timesteps=config.ddpm_num_steps, beta_schedule=config.ddpm_beta_schedule, clip_sample=False
    )


def _pipeline(config: DiffusionConfig, unet: nn.Module, scheduler: DDPMScheduler) -> PurificationPipeline:
    from udc_robust.defences.pipeline import PurificationPipeline

    return PurificationPipeline(unet, scheduler, noise_level=config.noise_level, max_noise_level=config.max_noise_level)  # type: ignore[arg-type]


def _save_pipeline(pipeline: PurificationPipeline, folder: Path, card: str, facts: dict[str, Any]) -> None:
    """Write the folder beside its place first, so that a kill leaves no half of it there."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with disk_errors(folder):
        try:
            pipeline.save_pretrained(temporary, safe_serialization=True)
            write_text(temporary / "README.md", card)
            write_text(temporary / "facts.json", json.dumps(facts, indent=1) + "\n")
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def diffusion_card(config: DiffusionConfig, facts: dict[str, Any]) -> str:
    """The card that travels with the pipeline, as Markdown."""
    settings = json.loads(config.model_dump_json(exclude={"out", "about", "train", "validation"}))
    rows = "\n".join(
        f"| {level} | {noisy:.2f} | {purified:.2f} |"
        for level, (noisy, purified) in facts["validation"]["one_step"].items()
    )
    return f"""---
license: {config.licence.lower()}
library_name: diffusers
tags: [unconditional-image-generation, adversarial-purification, under-display-camera]
---
# {config.name}

{config.about.strip()}

- U-Net without attention, {facts["parameters"]:,} parameters, noise prediction; light: {facts["domain"]}
- data: {facts["images"]} images; validated on {facts["validation_images"]} images never trained on
- noise levels 0..{config.max_noise_level} of {config.ddpm_num_steps} ({config.ddpm_beta_schedule}); it knows no others
- trained for {facts["steps"]} steps, {facts["seconds"]} seconds; the averaged (EMA {config.ema}) weights are shipped

PSNR in dB of a held-out image under the noise of a level, and of its one-step purification:

| noise level | noisy | one step |
|---|---|---|
{rows}

These figures say how well it denoises, not how well it defends: attack a restorer through it to know that.

Made by `udc-robust train diffusion` with

```json
{json.dumps(settings, indent=1)}
```
"""

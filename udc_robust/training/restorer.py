"""Training a restorer: read it top to bottom.

One loop over ``accelerate``: one process, or ``accelerate launch`` on many. Batches are a pure function of the step, so
a training that was killed goes on to the same weights.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from udc_robust.attacks.objectives import charbonnier
from udc_robust.config import TrainConfig
from udc_robust.data.samples import PairedFolders, Sample
from udc_robust.errors import UserError
from udc_robust.files import write_text
from udc_robust.metrics import mse, psnr, ssim
from udc_robust.progress import progress
from udc_robust.restorers.weights import load_into, read_weights, save_weights
from udc_robust.restorers.zoo import Restorer, build_network
from udc_robust.training.batches import PairBatches, loader
from udc_robust.training.checkpoint import load_state, save_state
from udc_robust.training.pace import learning_rate, moving_average


def loss_of(output: Tensor, target: Tensor, kind: str) -> Tensor:
    """Mean over the batch of L1, Charbonnier, or minus PSNR in dB (NAFNet's own loss)."""
    if kind == "psnr":
        return 10 * torch.log10(mse(output, target) + 1e-8).mean()
    return (output - target).abs().mean() if kind == "l1" else charbonnier(output, target).mean()


@torch.no_grad()
def validate(restorer: nn.Module, pairs: Sequence[Sample], device: torch.device) -> dict[str, float]:
    """Mean PSNR and SSIM of the restorations and PSNR of the degraded input, clamped, whole images, one at a time."""
    was_training = restorer.training
    restorer.eval()
    rows = []
    for pair in pairs:
        assert pair.gt is not None
        lq, gt = (image[None].to(device) for image in (pair.lq, pair.gt))
        output = restorer(lq).double()
        rows.append((psnr(output, gt.double()), ssim(output, gt.double()), psnr(lq.double(), gt.double())))
    restorer.train(was_training)
    means = [torch.cat(column).mean().item() for column in zip(*rows, strict=True)]
    return {"psnr": means[0], "ssim": means[1], "input_psnr": means[2], "gain": means[0] - means[2]}


def train_restorer(config: TrainConfig, out: Path) -> dict[str, Any]:
    """Train, resume where a former call was stopped, and write ``NAME.safetensors`` and its model card.

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
    train_pairs, validation_pairs = (
        PairedFolders(folder / "lq", folder / "gt") for folder in (config.train, config.validation)
    )
    restorer = _restorer(config, train_pairs[0].domain)
    batches = PairBatches(
        train_pairs, patch=config.patch_size, batch=config.batch_size, steps=config.steps, seed=config.seed,
        rank=accelerator.process_index, ranks=accelerator.num_processes,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(
        restorer.parameters(), lr=config.lr, betas=(0.9, 0.9), weight_decay=config.weight_decay
    )
    average = AveragedModel(restorer, multi_avg_fn=moving_average(config.ema))

    settings = json.loads(config.model_dump_json(exclude={"out", "validate_every", "save_every", "about", "licence"}))
    state = load_state(out / "state.pt", settings)
    first_step, seconds, history = 0, 0.0, []
    if state:
        restorer.load_state_dict(state["restorer"])
        optimizer.load_state_dict(state["optimizer"])
        average.load_state_dict(state["average"])
        first_step, seconds, history = state["step"], state["seconds"], state["history"]
    average.to(accelerator.device)
    restorer, optimizer = accelerator.prepare(restorer, optimizer)
    accelerator.init_trackers("tensorboard")

    def save(step: int) -> None:
        if accelerator.is_main_process:
            save_state(
                out / "state.pt",
                {
                    "settings": settings, "step": step, "seconds": seconds, "history": history,
                    "restorer": accelerator.unwrap_model(restorer).state_dict(),
                    "optimizer": optimizer.state_dict(), "average": average.state_dict(),
                },
            )  # fmt: skip

    restorer.train()
    with progress(f"training {config.name}", config.steps, first_step, quiet=not accelerator.is_main_process) as tick:
        started = time.perf_counter()
        for step, (lq, gt) in enumerate(loader(batches, first_step), first_step):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, config)
            with accelerator.autocast():
                loss = loss_of(restorer(lq.to(accelerator.device)), gt.to(accelerator.device), config.loss)
            if not math.isfinite(loss.item()):
                state_file = out / "state.pt"
                raise UserError(f"the loss is {loss.item()} at step {step}: lower `lr`; the last state is {state_file}")
            optimizer.zero_grad()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(restorer.parameters(), config.clip_grad)
            optimizer.step()
            average.update_parameters(accelerator.unwrap_model(restorer))
            done = step + 1
            tick(f"loss {loss.item():.4f}")
            if done % 20 == 0:
                accelerator.log({"loss": loss.item(), "lr": learning_rate(step, config)}, step=done)
            if done % config.validate_every == 0 or done == config.steps:
                figures = {"step": done, **validate(average.module, validation_pairs, accelerator.device)}
                history.append(figures)
                accelerator.log({f"validation/{key}": figures[key] for key in ("psnr", "ssim", "gain")}, step=done)
                tick(f"validation {figures['psnr']:.2f} dB ({figures['gain']:+.2f})", advance=0)
            if done % config.save_every == 0 or done == config.steps:
                seconds, started = seconds + time.perf_counter() - started, time.perf_counter()
                save(done)
    accelerator.end_training()
    facts = {
        "name": config.name, "network": config.network, "options": config.options, "domain": config.domain,
        "parameters": sum(p.numel() for p in average.module.parameters()), "steps": config.steps,
        "seconds": round(seconds), "pairs": len(train_pairs), "validation_pairs": len(validation_pairs),
        "validation": history[-1], "licence": config.licence, "seed": config.seed,
    }  # fmt: skip
    if accelerator.is_main_process:
        save_weights(out / f"{config.name}.safetensors", average.module.network, facts)  # type: ignore[arg-type]
        write_text(out / f"{config.name}.md", model_card(config, facts))
    return facts


def _restorer(config: TrainConfig, data_domain: str) -> Restorer:
    """The network in its own light, trained on what it makes of the data's: UDC-UNet's loss, for one."""
    if data_domain == "linear":
        raise UserError(
            "training pairs must be tone-mapped or sRGB images, not linear light: `udc-robust synth` makes them"
        )
    network = build_network(config.network, config.options)
    if config.weights:
        load_into(network, read_weights(config.weights)[0], config.weights)
    return Restorer(
        config.name, network, domain=data_domain, network_domain=config.domain, trained=True, origin=str(config.out)
    )


def model_card(config: TrainConfig, facts: dict[str, Any]) -> str:
    """The card that travels with the weights, as Markdown."""
    figures = facts["validation"]
    settings = json.loads(config.model_dump_json(exclude={"out", "about", "train", "validation"}))
    return f"""---
license: {config.licence.lower()}
library_name: udc_robust
tags: [image-restoration, under-display-camera]
---
# {config.name}

{config.about.strip()}

- network: `{config.network}`, {facts["parameters"]:,} parameters, light: {config.domain}
- data: {facts["pairs"]} pairs; validated on {facts["validation_pairs"]} pairs never trained on
- trained for {facts["steps"]} steps, {facts["seconds"]} seconds; the averaged (EMA {config.ema}) weights are shipped

| validation | dB |
|---|---|
| degraded input PSNR | {figures["input_psnr"]:.2f} |
| restored PSNR | {figures["psnr"]:.2f} |
| gain | {figures["gain"]:.2f} |
| restored SSIM | {figures["ssim"]:.4f} |

Made by `udc-robust train restorer` with

```json
{json.dumps(settings, indent=1)}
```
"""

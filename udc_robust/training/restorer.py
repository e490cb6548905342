"""Training a restorer on pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from udc_robust.attacks import Streams, image_seed
from udc_robust.attacks.objectives import charbonnier
from udc_robust.data.samples import Sample
from udc_robust.defences.defence import Defence, fresh
from udc_robust.defences.registry import build_defence, stated_texts
from udc_robust.files import write_text
from udc_robust.metrics import mse, psnr, ssim
from udc_robust.networks.constant import check_it_looks
from udc_robust.networks.weights import load_into, read_weights, save_weights
from udc_robust.restorers.zoo import Restorer, build_network
from udc_robust.training.card import common_facts, metadata, model_card, table
from udc_robust.training.config import TrainConfig
from udc_robust.training.loop import Validation, train
from udc_robust.training.pairs import start_on_pairs


def loss_of(output: Tensor, target: Tensor, kind: str) -> Tensor:
    """Mean over the batch of L1, L2 (MSE), Charbonnier, or minus PSNR in dB (NAFNet's own loss)."""
    if kind == "psnr":
        return 10 * torch.log10(mse(output, target) + 1e-8).mean()
    if kind == "l2":
        return mse(output, target).mean()
    return (output - target).abs().mean() if kind == "l1" else charbonnier(output, target).mean()


def losses_of(output: Tensor, target: Tensor, kind: str) -> Tensor:
    """`loss_of` of each image ``(B,)``; but for ``psnr``, which may be negative."""
    if kind == "l2":
        return mse(output, target)
    return (output - target).abs().flatten(1).mean(1) if kind == "l1" else charbonnier(output, target)


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


def degraded(defence: Defence, gt: Tensor, seeds: Sequence[int]) -> Tensor:
    """What a defence makes of ground truths ``(B,3,H,W)``, each with a seed."""
    return fresh(defence, gt, Streams(seeds))


def degraded_pair(defence: Defence, pair: Sample) -> Sample:
    """A pair whose degraded image is what a defence makes of its ground truth."""
    assert pair.gt is not None
    seed = image_seed(0, pair.key, "degradation")
    return replace(pair, lq=degraded(defence, pair.gt[None], [seed])[0])


def train_restorer(config: TrainConfig, out: Path) -> dict[str, Any]:
    """Train, resume where a former call was stopped, and write ``NAME.safetensors`` and its model card.

    Returns:
        The facts of the card: seconds, validation figures, parameters.

    Raises:
        UserError: bad data, another training in ``out``, or a loss that is not finite (the last state is kept).
    """
    pairs = start_on_pairs(config, out)
    accelerator = pairs.accelerator
    restorer = _restorer(config, pairs.domain).in_tiles(config.tile, config.tile_overlap).train()
    degradation = config.degradation and build_defence(config.degradation.kind, config.degradation.options)
    judged: Sequence[Sample] = pairs.validation
    if degradation:
        judged = [degraded_pair(degradation, pair) for pair in pairs.validation]
        degradation.to(accelerator.device)

    def loss(network: nn.Module, batch: tuple[Tensor, ...], step: int) -> Tensor:
        lq, gt, seeds = batch
        return loss_of(network(degraded(degradation, gt, seeds.tolist()) if degradation else lq), gt, config.loss)

    def check(network: nn.Module) -> Validation:
        figures = validate(network, judged, accelerator.device)
        curves = {key: figures[key] for key in ("psnr", "ssim", "gain")}
        return Validation(figures, curves, f"validation {figures['psnr']:.2f} dB ({figures['gain']:+.2f})")

    also = stated_texts(config.degradation.kind, config.degradation.options) if config.degradation else []
    trained = train(accelerator, config, out, restorer, pairs.batches, loss, check, also)
    facts = {
        **common_facts(config, trained, trained.network), "network": config.network, "options": config.options,
        "domain": config.domain, "data": pairs.told, "validation_pairs": len(pairs.validation),
    }  # fmt: skip
    if accelerator.is_main_process:
        save_weights(out / f"{config.name}.safetensors", trained.network.network, metadata(facts))  # type: ignore[arg-type]
        write_text(out / f"{config.name}.md", _card(config, facts))
    return facts


def _restorer(config: TrainConfig, data_domain: str) -> Restorer:
    """The network in its own domain, trained on what it makes of the data's: UDC-UNet's loss, for one."""
    network = build_network(config.network, config.options)
    if config.weights:
        load_into(network, read_weights(config.weights)[0], config.weights)
    restorer = Restorer(
        config.name, network, domain=data_domain, network_domain=config.domain, trained=True, origin=str(config.out)
    ).eval()
    origin = config.weights or "options"
    check_it_looks(
        restorer, f"network {config.network!r}", origin, side=restorer.min_size, untrained=not config.weights
    )
    return restorer


def _card(config: TrainConfig, facts: dict[str, Any]) -> str:
    figures = facts["validation"]
    rows = {
        "degraded input PSNR": f"{figures['input_psnr']:.2f}", "restored PSNR": f"{figures['psnr']:.2f}",
        "gain": f"{figures['gain']:.2f}", "restored SSIM": f"{figures['ssim']:.4f}",
    }  # fmt: skip
    return model_card(
        config, facts, command="train restorer", what=f"A {config.network}",
        tags="image-restoration, under-display-camera",
        lines=[
            f"network: `{config.network}`, {facts['parameters']:,} parameters, domain: {config.domain}",
            f"data: {facts['data']}; validated on {facts['validation_pairs']} pairs never trained on",
        ],
        figures=table(["validation", "PSNR in dB, SSIM"], rows.items()),
    )  # fmt: skip

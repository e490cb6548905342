"""What a validation of a fine-tuning measures: clean, noisy and attacked crops, and those that a channel changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from udc_robust.attacks import Linf, Streams, Victim, answers, attack, frozen, image_seed, objective, round_to_8_bits
from udc_robust.attacks.channels import Channel
from udc_robust.data.samples import Sample
from udc_robust.errors import UserError
from udc_robust.metrics import psnr

CARD_ROWS = {
    "psnr": "clean, whole images", "crop_psnr": "clean, crops", "noise_psnr": "random noise, crops",
    "attacked_psnr": "PGD-10, crops", "channel_psnr": "after the channel, crops",
}  # fmt: skip


def centre_crops(pairs: Sequence[Sample], count: int, size: int) -> tuple[Tensor, Tensor]:
    """The centres ``(count,3,size,size)`` of so many pairs, spread evenly over the set.

    Raises:
        UserError: an image is smaller than that.
    """
    rows = []
    for i in range(min(count, len(pairs))):
        pair = pairs[i * len(pairs) // min(count, len(pairs))]
        height, width = pair.lq.shape[-2:]
        if pair.gt is None or min(height, width) < size:
            raise UserError(f"{pair.source} is {height} x {width}: lower `validation_size` {size}")
        top, left = (height - size) // 2, (width - size) // 2
        rows.append([image[:, top : top + size, left : left + size] for image in (pair.lq, pair.gt)])
    lq, gt = (torch.stack(images) for images in zip(*rows, strict=True))
    return lq, gt


def robust_figures(
    victim: Victim,
    pairs: Sequence[Sample],
    crops: tuple[Tensor, Tensor],
    eps: float,
    device: torch.device,
    channel: Channel | None = None,
) -> dict[str, float]:
    """Mean PSNR in dB of what is deployed: whole clean images, and crops that are clean, noisy and attacked (PGD-10).

    A purifier is attacked through its exact gradient, each step with a draw of its own, and judged on another. With a
    channel also the PSNR on crops that went through it.
    """
    columns: dict[str, list[Tensor]] = {name: [] for name in CARD_ROWS}
    methods: dict[str, dict[str, Any]] = {"noise": {}, "pgd": {"steps": 10}}
    with torch.no_grad(), frozen(victim):
        for i, pair in enumerate(pairs):
            assert pair.gt is not None
            restored = answers(victim, pair.lq[None].to(device), [image_seed(0, str(i))])[0]
            columns["psnr"].append(psnr(restored.double(), pair.gt[None].to(device).double()))
    for first in range(0, len(crops[0]), 4):
        lq, gt = (part[first : first + 4].to(device) for part in crops)
        seeds = [image_seed(0, str(first + i), "crop") for i in range(len(lq))]
        for (method, options), column in zip(methods.items(), ("noise_psnr", "attacked_psnr"), strict=True):
            result = attack(victim, lq, objective("mse"), Linf(eps), method, target=gt, seeds=seeds, **options)
            columns[column].append(psnr(result.adv_output.double(), gt.double()))
        columns["crop_psnr"].append(psnr(result.clean_output.double(), gt.double()))
        if channel is not None:
            columns["channel_psnr"].append(_behind(channel, victim, lq, gt, eps, seeds))
    return {name: torch.cat(rows).mean().item() for name, rows in columns.items() if rows}


@torch.no_grad()
def _behind(
    channel: Channel, victim: Victim, lq: Tensor, gt: Tensor, eps: float, seeds: Sequence[int]
) -> Tensor:  # fmt: skip
    """PSNR of what is answered to captures that went through a channel."""
    threat = Linf(eps)
    jammed = round_to_8_bits(threat, lq, channel(lq, threat, Streams(seeds)))
    with frozen(victim):
        return psnr(answers(victim, jammed, seeds)[0].double(), gt.double())

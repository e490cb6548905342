"""Training a filter: an autoencoder with binary latents, or one that undoes masks and noise under attack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from udc_robust.attacks import Linf, Streams, frozen, image_seed, objective, perturb
from udc_robust.classifiers.data import LabelledImages, torchvision_folder
from udc_robust.classifiers.zoo import Classifier
from udc_robust.defences.defence import Defence, Defended, fresh
from udc_robust.defences.filters.defence import LqVaeFilter, MaskedFilter, build_network
from udc_robust.defences.filters.networks import LqVae
from udc_robust.files import write_text
from udc_robust.metrics import psnr
from udc_robust.networks.weights import save_weights
from udc_robust.training.card import common_facts, metadata, model_card, table
from udc_robust.training.filter_config import FilterConfig
from udc_robust.training.labelled import fixed_classifier, load_sets
from udc_robust.training.labelled_batches import LabelledBatches
from udc_robust.training.loop import Validation, share, start, train


@dataclass(frozen=True)
class FilterSetup:
    """What a loss works with.

    Attributes:
        network: the very weights that train, without the wrapper of several processes: attacks go through it.
        classifier: whom the filter stands before; its weights stay.
    """

    config: FilterConfig
    network: nn.Module
    classifier: Classifier | None

    def defence(self, network: nn.Module | None = None) -> Defence:
        """The filter as deployed, of these weights, of others, or of the wrapper around these."""
        config, network = self.config, network or self.network
        if config.kind == "atop":
            return MaskedFilter(network, config.hidden, config.patch, config.sigma)
        return LqVaeFilter(network)


Loss = Callable[[FilterSetup, nn.Module, Tensor, Tensor, list[int], int], Tensor]
"""``(setup, network, images, labels, seeds, step) -> loss``"""


def lq_vae(setup: FilterSetup, network: nn.Module, x: Tensor, labels: Tensor, seeds: list[int], step: int) -> Tensor:
    """Both decoders' squared errors, the latents' divergence and the encoder's slope (after arXiv 1903.09940).

    The weights of 10 and the squared distance of the slope from ``lipschitz`` are those of the public code; errors
    are of [-1,1] images there, hence the four. The code's own decoder learns from bits that take no gradient.
    """
    assert isinstance(setup.network, LqVae)
    x = x.detach().requires_grad_(True)
    side = x.shape[-1] // 4
    coded = network(x, Streams(seeds).normal(x.new_empty(len(x), setup.network.latents, side, side)))
    (slope,) = torch.autograd.grad(coded.mean.sum(), x, create_graph=True)
    steep = (torch.linalg.vector_norm(slope.flatten(1), dim=1) - setup.config.lipschitz).square().mean()
    divergence = (coded.mean.square() + coded.log_variance.exp() - coded.log_variance - 1).mean() / 2
    errors = F.mse_loss(coded.soft, x.detach()) + F.mse_loss(coded.hard, x.detach())
    return 10 * (4 * errors + steep) + divergence


def atop(setup: FilterSetup, network: nn.Module, x: Tensor, labels: Tensor, seeds: list[int], step: int) -> Tensor:
    """What the classifier makes of filtered attacks, and the squared error of filtered images (after AToP).

    Unlike the recipe ``purifier`` of restorers it learns to undo noise and masks, and from labels. ``network`` is the
    autoencoder; the attack goes through it, through the mask and noise of its own draw, and through the classifier.
    """
    config, defence = setup.config, setup.defence()
    assert setup.classifier is not None
    attacked = step >= config.warm_steps
    batch = x
    if attacked:
        with frozen(nn.ModuleList([setup.network, setup.classifier])):
            moved = perturb(
                Defended(defence, setup.classifier), x, objective("cross_entropy"), Linf(config.eps), target=labels,
                streams=Streams(seeds), steps=config.inner_steps, step_size=config.step_size,
            )  # fmt: skip
        batch = torch.cat([x, moved])
    streams = Streams([image_seed(seed, "filter") for seed in seeds * (2 if attacked else 1)])
    filtered = setup.defence(network)(batch, defence.draw(batch, streams))
    loss = config.reconstruction * F.mse_loss(filtered[: len(x)], x)
    if attacked:
        # Gradients go through the classifier, whose weights stay, to the filter.
        loss = loss + F.cross_entropy(setup.classifier(filtered[len(x) :]), labels)
    return loss


LOSSES: dict[str, Loss] = {"lq_vae": lq_vae, "atop": atop}


@torch.no_grad()
def figures(defence: Defence, classifier: Classifier | None, images: LabelledImages) -> dict[str, float]:
    """Mean PSNR in dB of filtered images, and the share that the classifier recognises behind the filter."""
    decibels, right = [], []
    device = next(defence.parameters()).device
    for first in range(0, len(images), 250):
        rows = range(first, min(first + 250, len(images)))
        x, labels = (part.to(device) for part in images.batch(rows))
        y = fresh(defence, x, Streams([image_seed(0, images.keys[i], "filter") for i in rows])).clamp(0, 1)
        decibels.append(psnr(y.double(), x.double()).cpu())
        if classifier is not None:
            right.append((classifier(y).argmax(1) == labels).cpu())
    found = {"psnr": torch.cat(decibels).mean().item()}
    return found | ({"top1": torch.cat(right).double().mean().item()} if right else {})


def train_filter(config: FilterConfig, out: Path) -> dict[str, Any]:
    """Train, resume where a former call was stopped, and write ``NAME.safetensors`` and its model card.

    Returns:
        The facts of the card: seconds, validation figures, parameters.

    Raises:
        UserError: bad data, another training in ``out``, or a loss that is not finite (the last state is kept).
    """
    accelerator = start(config, out)
    images, validation = load_sets(config)
    network = build_network(config.kind, config.options).train()
    classifier = None
    if config.classifier is not None:
        classifier = fixed_classifier("classifier", config.classifier, images).to(accelerator.device)
    setup = FilterSetup(config, network, classifier)
    batches = LabelledBatches(
        images, pad=config.pad, flip=config.flip, **share(config, accelerator),
    )  # fmt: skip

    def loss(network: nn.Module, batch: tuple[Tensor, ...], step: int) -> Tensor:
        x, labels, seeds = batch
        return LOSSES[config.kind](setup, network, x, labels, seeds.tolist(), step)

    def check(network: nn.Module) -> Validation:
        found = figures(setup.defence(network.eval()), classifier, validation)
        told = f"{found['psnr']:.1f} dB" + (f", {found['top1']:.1%} right" if "top1" in found else "")
        return Validation(found, found, f"validation {told}")

    also = [folder for source in (config.train, config.validation) for folder in torchvision_folder(source)]
    trained = train(accelerator, config, out, network, batches, loss, check, also)
    facts = {
        **common_facts(config, trained, trained.network), "network": config.kind, "options": config.options,
        "data": images.name, "images": len(images), "validation_images": len(validation),
    }  # fmt: skip
    if accelerator.is_main_process:
        save_weights(out / f"{config.name}.safetensors", trained.network, metadata(facts))
        write_text(out / f"{config.name}.md", _card(config, facts))
    return facts


def _card(config: FilterConfig, facts: dict[str, Any]) -> str:
    found = facts["validation"]
    head, row = ["validation images", "PSNR in dB"], ["filtered", f"{found['psnr']:.2f}"]
    if "top1" in found:
        head, row = [*head, f"{config.classifier} right"], [*row, f"{100 * found['top1']:.2f} %"]
    return model_card(
        config, facts, command="train filter", what=f"A filter of kind {config.kind}",
        tags="image-to-image, adversarial-robustness",
        lines=[
            f"network: `{config.kind}`, {facts['parameters']:,} parameters; images in [0,1]",
            f"data: {facts['images']} images of {facts['data']}; validated on {facts['validation_images']} others",
        ],
        figures=f"{table(head, [row])}\n\n"
        "Clean figures: they say nothing about attacks.",
    )  # fmt: skip

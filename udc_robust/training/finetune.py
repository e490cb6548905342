"""Fine-tuning a restorer against attacks: parent, recipe, validation on clean and attacked images, model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from udc_robust.attacks import Streams
from udc_robust.attacks.channels import Channel, Jammer, find_channel
from udc_robust.defences.defence import Defended
from udc_robust.defences.purifier.core import Purifier
from udc_robust.errors import UserError, unknown_name
from udc_robust.files import write_text
from udc_robust.names import LEARNT, channel_name
from udc_robust.networks.constant import check_it_looks
from udc_robust.networks.weights import save_weights
from udc_robust.portable import portable
from udc_robust.progress import console, note
from udc_robust.restorers.mean_of import MeanOf
from udc_robust.restorers.zoo import Restorer, RestorerSpec, load_restorer, shipped_checkpoints, shipped_means
from udc_robust.training.card import common_facts, metadata, model_card, table
from udc_robust.training.diffusion import save_pipeline
from udc_robust.training.features import LpipsDistance, load_vgg, weights_file
from udc_robust.training.finetune_config import FinetuneConfig, PurifierConfig
from udc_robust.training.grown import grown
from udc_robust.training.loop import Validation, train
from udc_robust.training.pairs import start_on_pairs
from udc_robust.training.recipes import RECIPES, FinetuneSetup, Jammed, jittered
from udc_robust.training.robust_figures import CARD_ROWS, centre_crops, robust_figures

if TYPE_CHECKING:
    from udc_robust.defences.purifier.pipeline import PurificationPipeline


def finetune(config: FinetuneConfig, out: Path) -> dict[str, Any]:
    """Fine-tune, resume where a former call was stopped, and write the result and its model card.

    The result is ``NAME.safetensors``, or the folder ``NAME`` where the purifier is what learns.

    Returns:
        The facts of the card: parent, recipe, seconds, and the figures of the parent and of the result.

    Raises:
        UserError: bad data, a parent or purifier that does not fit, another training in ``out``, a full disk, or a loss
            that is not finite (the last state is kept).
    """
    pairs = start_on_pairs(config, out)
    accelerator, domain = pairs.accelerator, pairs.domain
    restorer, parent = load_parent(config, domain), load_parent(config, domain).to(accelerator.device)
    if config.grow:
        restorer = grown(restorer, config.grow, config.parent)
    note(f"parent {config.parent}: domain {parent.network_domain} ({parent.domain_reason})")
    for victim in (restorer, parent):
        victim.in_tiles(config.tile, config.tile_overlap)
    restorer.to(accelerator.device)  # also where it does not learn: a purifier is judged through it
    for part in restorer.modules():  # no restorer clamps, members of a mean neither; networks are as deployed
        part.training = isinstance(part, Restorer)
    pipeline, purifiers = load_purifiers(config.purifier, domain) if config.purifier else (None, [])
    perceptual = load_perceptual(config, accelerator.is_main_process)
    teacher = load_teacher(config.teacher, domain) if config.teacher else None
    for module in (*purifiers, *filter(None, [perceptual, teacher])):
        module.to(accelerator.device).eval().requires_grad_(False)
    learner = learner_of(config, restorer, purifiers).to(accelerator.device)
    recipe, setup = RECIPES[config.recipe], FinetuneSetup(config, restorer, purifiers, perceptual, teacher)
    crops = centre_crops(pairs.validation, config.validation_crops, config.validation_size)

    def loss(network: nn.Module, batch: tuple[Tensor, ...], step: int) -> Tensor:
        lq, gt, seeds = batch
        streams = Streams(seeds.tolist())
        lq, gt = jittered(lq, gt, streams, config.colour_jitter)
        return recipe(setup, network, lq, gt, streams, step)

    def figures_of(victim: nn.Module, channel: Channel | None) -> dict[str, float]:
        return robust_figures(victim, pairs.validation, crops, config.validation_eps, accelerator.device, channel)

    def check(network: nn.Module) -> Validation:
        return _validation(figures_of(deployed(network, restorer, purifiers), channel_of(config, network)))

    also = [config.purifier.name] if config.purifier else []
    also += [str(weights_file())] if config.perceptual and config.features == "vgg19" else []
    trained = train(accelerator, config, out, learner, pairs.batches, loss, check, also)
    facts = {
        **common_facts(config, trained, shipped_of(learner)), **built_from(restorer), **_learnt_channel(config),
        "domain": domain if isinstance(learner, Purifier) else parent.network_domain,
        "parent": Path(config.parent).stem, "parent_sha256": parent.sha256, "ancestors": parent.line,
        "parent_validation": figures_of(parent, channel_of(config, trained.network)), "finetuning": config.recipe,
        "purifier": None if config.purifier is None else config.purifier.model_dump(mode="json"),
        "perceptual": perceptual is not None, "data": pairs.told, "validation_pairs": len(pairs.validation),
    }  # fmt: skip
    if accelerator.is_main_process:
        save_result(out, config, trained.network, pipeline, facts)
    return facts


def _validation(figures: dict[str, float]) -> Validation:
    told = f"validation clean {figures['psnr']:.2f} dB, attacked {figures['attacked_psnr']:.2f} dB"
    if "channel_psnr" in figures:
        told += f", behind the channel {figures['channel_psnr']:.2f} dB"
    return Validation(figures, figures, told)


def built_from(restorer: Restorer) -> dict[str, Any]:
    """``network`` and ``options`` that build a restorer for its weights, without files of others."""
    return restorer.network.architecture if isinstance(restorer.network, MeanOf) else restorer.architecture


def learner_of(config: FinetuneConfig, restorer: Restorer, purifiers: Sequence[Purifier]) -> nn.Module:
    """What learns: the restorer, by itself or with a channel against it, or the purifier before a restorer that stays.

    Raises:
        UserError: the file of a channel that is none.
    """
    if config.channel == LEARNT:
        return Jammed(restorer, Jammer())
    if config.recipe != "purifier":
        return restorer
    (purifier,) = purifiers
    restorer.requires_grad_(False)
    return purifier.requires_grad_(True)


def deployed(learnt: nn.Module, restorer: Restorer, purifiers: Sequence[Purifier]) -> nn.Module:
    """The victim that a validation judges."""
    if isinstance(learnt, Purifier):
        return Defended(learnt, restorer)
    return Defended(purifiers[(len(purifiers) - 1) // 2], learnt) if purifiers else shipped_of(learnt)


def shipped_of(learnt: nn.Module) -> nn.Module:
    """What of a learner is shipped."""
    return learnt.restorer if isinstance(learnt, Jammed) else learnt


def channel_of(config: FinetuneConfig, learnt: nn.Module) -> Channel | None:
    """The channel that captures of this training go through, as far as it has been learnt."""
    if isinstance(learnt, Jammed):
        return learnt.channel.jam
    return find_channel(config.channel) if config.channel else None


def _learnt_channel(config: FinetuneConfig) -> dict[str, str]:
    """The name of the channel that the restorer knows afterwards, of recipe ``jammer``."""
    if config.channel is None:
        return {}
    return {"channel": f"{config.name}_jammer" if config.channel == LEARNT else channel_name(config.channel)}


def save_result(
    out: Path, config: FinetuneConfig, learnt: nn.Module, pipeline: PurificationPipeline | None, facts: dict[str, Any]
) -> None:
    """Write the weights of a restorer, or the pipeline of a purifier, and the card.

    Raises:
        UserError: a full disk.
    """
    card = _card(config, facts)
    if pipeline is not None and isinstance(learnt, Purifier):
        pipeline.unet.load_state_dict(learnt.model.unet.state_dict())  # type: ignore[attr-defined]
        pipeline.register_to_config(noise_level=learnt.plan.noise_level)
        for part in (pipeline, pipeline.unet):  # diffusers would write the path of the folder it was loaded from
            part.register_to_config(_name_or_path=portable(facts["purifier"]["name"]))
        save_pipeline(pipeline, out / config.name, card, facts)
    else:
        network = shipped_of(learnt).network
        save_weights(out / f"{config.name}.safetensors", network, metadata(facts))  # type: ignore[arg-type]
        if isinstance(learnt, Jammed):
            save_weights(out / f"{config.name}_jammer.safetensors", learnt.channel, {"licence": config.licence})
        write_text(out / f"{config.name}.md", card)


def load_parent(config: FinetuneConfig, domain: str) -> Restorer:
    """The restorer to fine-tune, for images of ``domain``.

    Raises:
        UserError: no such checkpoint, weights of another network, or one that does not look at its images.
    """
    spec = RestorerSpec(config.name, config.network, config.options, domain=config.domain)
    return _trained("parent", config.parent, spec, domain)


def load_teacher(name: str, domain: str) -> Restorer:
    """The restorer whose answers are learnt, for images of ``domain``: its file says which network it is.

    Raises:
        UserError: see `load_parent`.
    """
    return _trained("teacher", name, RestorerSpec("teacher"), domain)


def _trained(what: str, name: str, spec: RestorerSpec, domain: str) -> Restorer:
    if name in shipped_means() and spec.network is None:
        spec = replace(spec, network=name)
    elif name in shipped_checkpoints():
        spec = replace(spec, weights=str(shipped_checkpoints()[name]))
    elif Path(name).is_file():
        spec = replace(spec, weights=name)
    else:
        raise unknown_name(what, name, [*shipped_checkpoints(), *shipped_means(), "a weights file"])
    restorer = load_restorer(spec, domain)
    check_it_looks(restorer, f"{what} {name!r}", restorer.origin, side=restorer.min_size)
    return restorer


def load_purifiers(config: PurifierConfig, domain: str) -> tuple[PurificationPipeline, list[Purifier]]:
    """A pipeline, and its purifier at every level of the config's range.

    Raises:
        UserError: no such purifier, a level it was not trained on, or one that learnt images of another domain.
    """
    from udc_robust.defences.purifier.pipeline import load_purifier

    pipeline = load_purifier(config.name)
    if pipeline.domain not in (None, domain):
        raise UserError(
            f"purifier {config.name!r} learnt {pipeline.domain} images, but these are {domain}: train another"
        )
    low, high = config.noise_level
    plans = [pipeline.plan(noise_level=level, samples=config.samples) for level in range(low, high + 1)]
    return pipeline, [pipeline.purifier(plan) for plan in plans]


def load_perceptual(config: FinetuneConfig, tell: bool) -> nn.Module | None:
    """The perceptual loss where it is wanted and can be had; to ``tell`` is to say where it cannot.

    Raises:
        UserError: LPIPS is wanted, in the loss or by the inner attacks, and its weights cannot be had.
    """
    for backbone in config.lpips_objectives:
        LpipsDistance(backbone)  # refused now rather than by the first attack that climbs it
    if not config.perceptual:
        return None
    if config.features != "vgg19":
        return LpipsDistance(config.features)
    found = load_vgg()
    if found is None and tell:
        console.print(f"no perceptual loss: VGG-19 is not at {weights_file()}; going on without it", soft_wrap=True)
    return found


def _card(config: FinetuneConfig, facts: dict[str, Any]) -> str:
    before, after = facts["parent_validation"], facts["validation"]
    rows = [[what, f"{before[key]:.2f}", f"{after[key]:.2f}"] for key, what in CARD_ROWS.items() if key in after]
    learner, behind = f"network: `{facts['network']}`", ""
    if config.purifier:
        level = config.purifier.deployed_level
        behind = f" behind purifier `{config.purifier.name}` at noise level {level}, attacked through it"
        if config.recipe == "purifier":
            learner = "U-Net of a purifier"
            behind = f", a purifier that began as `{config.purifier.name}`, at noise level {level} before the parent"
    budget = f"Linf {config.validation_eps * 255:.3g}/255"
    return model_card(
        config, facts, what=f"`{facts['parent']}`, fine-tuned by the recipe `{config.recipe}`", command="finetune",
        tags="image-restoration, under-display-camera, adversarial-robustness",
        lines=[
            f"parent: `{facts['parent']}`, sha256 of its weights {facts['parent_sha256']}; recipe: `{config.recipe}`",
            *([f"begun as the parent with more blocks, which were the identity: {config.grow}"] if config.grow else []),
            f"{learner}, {facts['parameters']:,} parameters, domain: {facts['domain']}",
            f"data: {facts['data']}; validated on {facts['validation_pairs']} pairs never trained on",
        ],
        figures=f"""PSNR in dB, budget {budget}; this checkpoint{behind}, its parent alone:

{table(["validation", "parent", "this"], rows)}

{config.validation_crops} crops of {config.validation_size} px and ten steps say how a training went; `udc-robust
evaluate` says how robust the result is.""",
    )  # fmt: skip

"""The verbs that train: each reads a config, runs, and says what came out. Of several processes one speaks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from udc_robust.cli.next_step import (
    after_classifier,
    after_diffusion,
    after_filter,
    after_finetuning,
    after_training,
    next_step,
)
from udc_robust.cli.options import (
    RESTORER,
    Captures,
    ConfigPath,
    Crop,
    Device,
    Domain,
    Limit,
    NetworkName,
    NetworkOptions,
    OutFolder,
    Overrides,
    Seed,
    Truths,
    attack_block,
    known_restorer,
    pairs_block,
    read_config,
    restorer_block,
    this_command,
)
from udc_robust.errors import UserError
from udc_robust.outputs import output_folder
from udc_robust.processes import is_main
from udc_robust.terminal import say


def train_restorer(config: ConfigPath, overrides: Overrides = None, out: OutFolder = None) -> None:
    """Train a restorer on paired folders; the same command resumes.

    Example: `udc-robust train restorer nafnet_mini train=sets/train validation=sets/validation`
    """
    from udc_robust.training.config import TrainConfig

    settings, folder = read_config(config, "train restorer", TrainConfig, overrides, out)
    from udc_robust.training.restorer import train_restorer as run

    facts = run(settings, folder)
    if not is_main():
        return
    figures = facts["validation"]
    say(
        f"{folder / settings.name}.safetensors: {figures['psnr']:.2f} dB on validation, "
        f"{figures['gain']:+.2f} dB over the degraded input, {facts['seconds']} s"
    )
    after_training(settings, folder / f"{settings.name}.safetensors")


def train_classifier(config: ConfigPath, overrides: Overrides = None, out: OutFolder = None) -> None:
    """Train a classifier: clean, on a defence's images, hybrid, or against attacks; the same command resumes.

    Example: `udc-robust train classifier hybrid train=cifar10_train.npz validation=cifar10_test.npz`
    """
    from udc_robust.training.classifier_config import ClassifierConfig

    settings, folder = read_config(config, "train classifier", ClassifierConfig, overrides, out)
    from udc_robust.training.classifier import train_classifier as run

    facts = run(settings, folder)
    if not is_main():
        return
    say(f"{folder / settings.name}.safetensors, {facts['seconds']} s; share of test images classified rightly:")
    for name, figures in facts["validation"]["accuracy"].items():
        say(f"{name}: " + ", ".join(f"{kind} {share:.2%}" for kind, share in figures.items()))
    after_classifier(settings, folder / f"{settings.name}.safetensors")


def train_filter(config: ConfigPath, overrides: Overrides = None, out: OutFolder = None) -> None:
    """Train a filter that stands before classifiers: binary latents, or masks under attack; the same command resumes.

    Example: `udc-robust train filter lq_vae_mini train=cifar10_train.npz validation=cifar10_test.npz`
    """
    from udc_robust.training.filter_config import FilterConfig

    settings, folder = read_config(config, "train filter", FilterConfig, overrides, out)
    from udc_robust.training.filter import train_filter as run

    facts = run(settings, folder)
    if not is_main():
        return
    found, file = facts["validation"], folder / f"{settings.name}.safetensors"
    right = f", {found['top1']:.2%} right behind it" if "top1" in found else ""
    say(f"{file}: {found['psnr']:.2f} dB on validation{right}, {facts['seconds']} s")
    after_filter(settings, file)


def train_diffusion(config: ConfigPath, overrides: Overrides = None, out: OutFolder = None) -> None:
    """Train a purifier's diffusion model on a folder of images; the same command resumes.

    Example: `udc-robust train diffusion purifier_mini train=sets/train/lq validation=sets/validation/lq`
    """
    from udc_robust.training.config import DiffusionConfig

    settings, folder = read_config(config, "train diffusion", DiffusionConfig, overrides, out)
    from udc_robust.training.diffusion import train_diffusion as run

    facts = run(settings, folder)
    if not is_main():
        return
    say(f"{folder / settings.name}, {facts['parameters']:,} parameters, {facts['seconds']} s; PSNR in dB:")
    for level, (noisy, purified) in facts["validation"]["one_step"].items():
        say(f"noise level {level}: noisy {noisy:.2f}, one step {purified:.2f}")
    after_diffusion(settings, folder / settings.name)


def finetune(config: ConfigPath, overrides: Overrides = None, out: OutFolder = None) -> None:
    """Fine-tune a restorer against attacks, alone or behind a purifier, or the purifier; the same command resumes.

    Example: `udc-robust finetune nafnet_mini_adversarial parent=mine.safetensors train=sets/train
    validation=sets/validation`
    """
    from udc_robust.training.finetune_config import FinetuneConfig

    settings, folder = read_config(config, "finetune", FinetuneConfig, overrides, out)
    from udc_robust.training.finetune import finetune as run

    facts = run(settings, folder)
    if not is_main():
        return
    before, after = facts["parent_validation"], facts["validation"]
    ending = "" if settings.recipe == "purifier" else ".safetensors"
    say(
        f"{folder / settings.name}{ending}: clean {before['psnr']:.2f} -> {after['psnr']:.2f} dB, "
        f"attacked {before['attacked_psnr']:.2f} -> {after['attacked_psnr']:.2f} dB, {facts['seconds']} s"
    )
    after_finetuning(settings, folder / f"{settings.name}{ending}")


def interpolate(
    parent: Annotated[str, typer.Argument(help=RESTORER, callback=known_restorer)],
    hardened: Annotated[str, typer.Argument(help="What was fine-tuned from it.", callback=known_restorer)],
    network: NetworkName = None,
    options: NetworkOptions = None,
    images: Captures = None,
    gt: Truths = None,
    domain: Domain = None,
    crop: Crop = None,
    limit: Limit = None,
    shares: Annotated[str, typer.Option("--shares", help="How far from the parent.")] = "0.25,0.5,0.6,0.7,0.8,0.9,1",
    clean_budget: Annotated[float, typer.Option("--clean-budget", help="Clean PSNR it may cost, in dB.")] = 0.5,
    eps: Annotated[str, typer.Option("--eps", help="Budget of the attack.")] = "4/255",
    steps: Annotated[int, typer.Option("--steps", help="Steps of PGD.")] = 10,
    name: Annotated[str, typer.Option("--name", help="Of the weights that are kept.")] = "interpolated",
    device: Device = "cpu",
    seed: Seed = 0,
    out: OutFolder = None,
) -> None:
    """Mix the weights of a network and its hardened child, and keep the best within a clean budget; resumes.

    Give images that are tested nowhere else.

    Example: `udc-robust interpolate nafnet_mini nafnet_mini_adversarial --images tuning/lq --gt tuning/gt`
    """
    from udc_robust.outputs import file_name
    from udc_robust.tasks.interpolation_study import parse_shares, study

    if not clean_budget >= 0:
        raise UserError(f"--clean-budget {clean_budget} must be a number of dB, 0 or more")
    try:
        file_name(name)
    except ValueError as error:
        raise UserError(f"--name: {error}") from error
    data = pairs_block(images, gt, domain, crop, limit)
    ends = [restorer_block(end, network, options, None, None) for end in (parent, hardened)]
    reads = [*filter(None, [images, gt]), *(Path(end["weights"]) for end in ends if end.get("weights"))]
    folder = output_folder(out or Path("runs") / name, reads, apart=True)
    points = study(
        ends[0], ends[1], data, parse_shares(shares), folder, name=name, clean_budget=clean_budget, seed=seed,
        attack=attack_block("pgd", "linf", [eps], steps, None), device=device, command=this_command(),
    )  # fmt: skip
    for point in points:
        kept = "  kept" if point.kept else ""
        say(f"{point.share:g} of the way: clean {point.clean:.2f} dB, attacked {point.attacked:.2f} dB{kept}")
    say(f"{folder / name}.safetensors; frontier: {folder / 'frontier.csv'}, {folder / 'frontier.png'}")
    next_step("evaluate", "quickstart", f"restorers=[{parent}, {hardened}, {folder / name}.safetensors]",
              "--out", f"{folder}_evaluated")  # fmt: skip

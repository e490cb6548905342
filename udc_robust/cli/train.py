"""The verbs that train: each reads a config, runs, and says what came out. Of several processes one speaks."""

from __future__ import annotations

from udc_robust.cli.next_step import after_classifier, after_diffusion, after_finetuning, after_training
from udc_robust.cli.options import ConfigPath, OutFolder, Overrides, read_config
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
    from udc_robust.training.config import ClassifierConfig

    settings, folder = read_config(config, "train classifier", ClassifierConfig, overrides, out)
    from udc_robust.training.classifier import train_classifier as run

    facts = run(settings, folder)
    if not is_main():
        return
    say(f"{folder / settings.name}.safetensors, {facts['seconds']} s; share of test images classified rightly:")
    for name, figures in facts["validation"]["accuracy"].items():
        say(f"{name}: " + ", ".join(f"{kind} {share:.2%}" for kind, share in figures.items()))
    after_classifier(settings, folder / f"{settings.name}.safetensors")


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
    from udc_robust.training.config import FinetuneConfig

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

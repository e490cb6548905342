"""The verbs that tell what there is: models, configs, doctor."""

from __future__ import annotations


def models() -> None:
    """List shipped checkpoints and networks with their size, light and the source of official weights."""
    from udc_robust.evaluation.show import print_models

    print_models()


def configs() -> None:
    """List the configs that ship with the package."""
    from udc_robust.evaluation.show import print_configs

    print_configs()


def doctor() -> None:
    """Tell versions, devices and which weights are present, and what to do about the rest."""
    from udc_robust.doctor import print_findings

    print_findings()

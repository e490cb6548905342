"""The command that a user would type next, with the real paths: the last line of a verb, on stderr."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from udc_robust.files import shipped
from udc_robust.processes import is_main
from udc_robust.terminal import say


def next_step(*words: object) -> None:
    """Print a command line of ours."""
    if is_main():
        say(f"next: {shlex.join(['udc-robust', *map(str, words)])}", err=True)


def _file_name(name: str) -> str:
    """A name that may name files, of one that may be anything."""
    return re.sub(r"[^\w .-]+", "_", name).strip(" .")[:60] or "mine"


def block(values: Mapping[str, Any]) -> str:
    """Values as a short YAML block for an override: ``{kind: pairs, lq: a, gt: b}``."""
    import yaml

    return yaml.safe_dump(dict(values), default_flow_style=True, sort_keys=False, width=10_000).strip()


def pairs(folder: Path) -> str:
    """The data block of some pairs of a folder with ``lq`` and ``gt``, as trainings take it."""
    return block({"kind": "pairs", "lq": str(folder / "lq"), "gt": str(folder / "gt"), "limit": 8})


def weights_of(weights: Path | str, network: str | None) -> str:
    """A weights file as a network of a config; one of somebody's own class is never loaded without its name."""
    if network is None or not {":", "."} & set(network):
        return str(weights)
    return block({"name": Path(weights).stem, "network": network, "weights": str(weights)})


def after_training(settings: Any, weights: Path) -> None:
    """A restorer was trained: attack it on its validation pairs."""
    data = pairs(Path(settings.validation))
    next_step("evaluate", "quickstart", f"restorers={weights_of(weights, settings.network)}", f"data={data}",
              "--out", f"runs/{settings.name}")  # fmt: skip


def after_classifier(settings: Any, weights: Path) -> None:
    """A classifier was trained: attack it on its validation images."""
    data = block({"source": str(settings.validation), "side": settings.patch_size, "limit": 100})
    config = "classifiers_quickstart"
    next_step("classify", config, f"classifiers={weights_of(weights, settings.network)}", f"data={data}",
              "--out", f"runs/{settings.name}")  # fmt: skip


def after_filter(settings: Any, weights: Path) -> None:
    """A filter was trained: attack the classifier behind it, on its validation images."""
    data = block({"source": str(settings.validation), "side": settings.patch_size, "limit": 100})
    defence = block({"kind": settings.kind, "weights": str(weights)})
    classifier = settings.classifier or "resnet20_clean"
    next_step("classify", "classifiers_quickstart", f"classifiers={classifier}", f"defences=[none, {defence}]",
              f"data={data}", "--out", f"runs/{settings.name}")  # fmt: skip


def after_diffusion(settings: Any, folder: Path) -> None:
    """A purifier's model was trained: choose its noise level, on the pairs that its captures are of."""
    captures = Path(settings.validation)
    truths = captures.parent / "gt"
    on = ("--images", captures, "--gt", truths) if captures.name == "lq" and truths.is_dir() else ()
    next_step("noise-level", "nafnet_mini", folder, *on, "--out", f"runs/{settings.name}_levels")


def after_finetuning(settings: Any, result: Path) -> None:
    """A restorer or its purifier was hardened: put both beside what they were, in one report."""
    data, out = pairs(Path(settings.validation)), f"runs/{settings.name}"
    if settings.recipe == "purifier":
        level = settings.purifier.deployed_level
        defence = block({"kind": "purifier", "purifier": str(result), "noise_level": level})
        changed = [f"restorers={weights_of(settings.parent, settings.network)}", f"defences=[none, {defence}]"]
    else:
        both = (weights_of(file, settings.network) for file in (settings.parent, result))
        changed = [f"restorers=[{', '.join(both)}]"]
    next_step("evaluate", "quickstart", *changed, f"data={data}", "--out", out)


def _learnt_from(tested: Path) -> Path:
    """Labelled images to learn from: a folder or an archive called train beside those of the test, else these."""
    if (tested.parent / "train").is_dir():
        return tested.parent / "train"
    named = sorted(tested.parent.glob(f"{tested.stem.replace('test', 'train')}*{tested.suffix}"))
    return named[0] if named and "test" in tested.stem else tested


def after_evaluation(settings: Any) -> None:
    """Networks were attacked: harden the first of them on pairs like those it was attacked on; detectors are not."""
    if settings.network_key == "detectors":
        return
    first, data = getattr(settings, settings.network_key)[0], settings.data[0]
    if settings.network_key == "classifiers":
        named = {"network": first.network, "weights": first.weights or (None if first.network else first.name)}
        sets = (
            f"train={_learnt_from(Path(data.source))}",
            f"validation={data.source}",
            *([f"patch_size={data.side}"] if data.side else []),
        )
        mine = [f"{key}={value}" for key, value in named.items() if value]
        next_step("train", "classifier", "madry", f"name={_file_name(first.name)}_hardened", *mine, *sets)
        return
    own_class = {"network": first.network, "options": first.options} if first.network and first.weights else {}
    said = [f"{key}={value if isinstance(value, str) else block(value)}" for key, value in own_class.items() if value]
    ours = (shipped("checkpoints") / f"{first.network or first.name}.safetensors").is_file()
    if first.weights is None and not ours:
        return  # random weights: nothing to harden
    parent = first.weights or first.network or first.name
    home = next((home for home in ("sets", "runs/sets") if Path(home, "train").is_dir()), "sets")
    sets = (f"train={home}/train", f"validation={home}/validation")
    next_step(
        "finetune",
        "nafnet_mini_adversarial",
        f"name={_file_name(first.name)}_hardened",
        f"parent={parent}",
        *said,
        *sets,
    )


def after_report(runs: Sequence[Path], settings: Any, out: Path | None, slide: Path | None) -> None:
    """A report was written: make its slide; where that is there, harden what was attacked last."""
    if slide is None and settings.gallery:
        page = ("--out", out) if out else ()
        next_step("report", *runs, *page, "--slide", f"{settings.name}.png")
    else:
        after_evaluation(settings)


def after_synthesis(
    sources: Path, out: Path, options: Mapping[str, list[str]], others: Mapping[str, list[str]] | None = None
) -> None:  # fmt: skip
    """A paired set was made: make the one to validate on where there is none, else train.

    Args:
        options: what the other set is made with too. ``others``: what picks scenes that this one does not have.
    """
    validation = out.parent / "validation"
    if out != validation and not validation.is_dir():
        same = [
            word
            for option, values in {**options, **(others or {})}.items()
            for value in values
            for word in (option, value)
        ]
        next_step("synth", sources, *same, "--seed", "1", "--out", validation)
        return
    train = out if out != validation else out.parent / "train"
    next_step("train", "restorer", "nafnet_mini", "name=mine", f"train={train}", f"validation={validation}")

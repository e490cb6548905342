"""What makes a run this run: its config, images and weights; and the facts that travel with its figures."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from pydantic import BaseModel

import udc_robust
from udc_robust.config import DefenceConfig, EvaluateConfig
from udc_robust.errors import UserError
from udc_robust.evaluation.inputs import Inputs
from udc_robust.evaluation.victims import Victim
from udc_robust.files import disk_errors, write_text
from udc_robust.restorers.zoo import Restorer

if TYPE_CHECKING:
    from udc_robust.classifiers.zoo import Classifier
    from udc_robust.evaluation.classifying.config import ClassifyConfig


def claim_folder(
    config: EvaluateConfig, out: Path, inputs: Sequence[Inputs], restorers: dict[tuple[str, str], Restorer]
) -> None:
    """Write the resolved config into an empty run folder; in a used one make sure that it is the same run."""
    images = digest([(data.label, data.keys, data.sizes, _files_digest(data)) for data in inputs])
    weights = {r.name: file_digest(r.origin) for r in restorers.values()} | purifier_digests(config.defences)
    claim(out, config, {"images": images, "weights": weights})


def claim(out: Path, config: BaseModel, fingerprint: Mapping[str, Any]) -> None:
    """Write a resolved config with what it was run on into an empty folder; in a used one make sure they are the same.

    Raises:
        UserError: ``out`` holds another run, or something else.
    """
    resolved = json.loads(config.model_dump_json(exclude={"out"})) | {"fingerprint": dict(fingerprint)}
    path = out / "config.yaml"
    if path.is_file():
        try:
            former = yaml.safe_load(path.read_text())
        except yaml.YAMLError:
            former = {}
        differing = sorted(key for key in {*resolved, *former} if former.get(key) != resolved.get(key))
        if differing:
            raise UserError(
                f"{out} holds a run with another {', '.join(differing)}: choose another `out`, or delete that folder"
            )
        return
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise UserError(f"{out} is not empty and holds no run: choose another `out`")
    write_text(path, yaml.safe_dump(resolved, sort_keys=False))


def digest(value: Any) -> str:
    """A short hash of plain values."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _files_digest(data: Inputs) -> str:
    """Of the bytes of all images and truths: a picture that was replaced makes another run."""
    found = hashlib.sha256()
    for path in data.samples.files():
        found.update(path.read_bytes())
    return found.hexdigest()


def purifier_digests(defences: Sequence[DefenceConfig]) -> dict[str, str]:
    """Hashes of the weights of purifiers and of learned inverse halftones, by name."""
    from udc_robust.defences.halftone.core import LEARNED_INVERSE, load_inverse
    from udc_robust.defences.purifier.pipeline import WEIGHTS, purifier_folder

    names = {str(block.options["purifier"]) for block in defences if "purifier" in block.options}
    learned = [block.options for block in defences if block.options.get("inverse") == "learned"]
    inverses = {str(options.get("restorer", LEARNED_INVERSE)) for options in learned}
    return {name: file_digest(str(purifier_folder(name) / WEIGHTS)) for name in sorted(names)} | {
        name: file_digest(load_inverse(name).origin) for name in sorted(inverses)
    }


def file_digest(origin: str) -> str:
    """A short hash of a file; what is no file is told as it is."""
    path = Path(origin)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else origin


def versions() -> dict[str, str]:
    """Of what figures depend on."""
    import torchvision

    return {
        "udc_robust": udc_robust.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }


def facts_of_run(config: EvaluateConfig | ClassifyConfig, command: str) -> dict[str, Any]:
    """How a run was called, and on what."""
    return {
        "name": config.name,
        "command": command,
        "seed": config.seed,
        "device": config.device,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def facts_of_network(loaded: Restorer | Classifier) -> dict[str, Any]:
    """What a restorer or classifier is, and where its weights are from."""
    return {
        "network": type(loaded.network).__name__,
        "parameters": sum(p.numel() for p in loaded.network.parameters()),
        "trained": loaded.trained,
        "origin": Path(loaded.origin).name if loaded.trained else loaded.origin,
    }


def facts_of(
    config: EvaluateConfig,
    command: str,
    inputs: Sequence[Inputs],
    restorers: dict[tuple[str, str], Restorer],
    victims: Mapping[str, Sequence[Victim]],
    tuned: Mapping[str, Mapping[str, Any]],
    lpips_reason: str,
) -> dict[str, Any]:
    """Versions, seeds, data, restorers and defences, as ``run.json`` tells them."""
    described = {
        name: {**facts_of_network(restorer), "parent": restorer.parent, "light": restorer.network_domain}
        for (name, _), restorer in restorers.items()
    }
    return {
        **facts_of_run(config, command),
        "data": {data.label: {"images": len(data.keys), "domain": data.domain} for data in inputs},
        "restorers": described,
        "defences": {
            victim.label: {
                "kind": victim.block.kind,
                "options": victim.block.options | dict(tuned.get(victim.label, {})),
                "ways": list(victim.ways),
                "gradients": victim.gradients(),
                "random": victim.random,
                "nfe": victim.nfe,
            }
            for listed in victims.values()
            for victim in listed
        },
        "lpips_reason": lpips_reason,
    }

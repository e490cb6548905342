"""`udc-robust init`: a commented config of the user's own files, those said and those found."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from udc_robust.cli.next_step import next_step
from udc_robust.cli.options import Domain, NetworkDomain, NetworkName, NetworkOptions, Weights, there, yaml_of
from udc_robust.errors import UserError
from udc_robust.files import write_text
from udc_robust.terminal import say

PAIRS = (("lq", "gt"), ("degraded", "clean"), ("input", "target"), ("lq", "hq"), ("low", "high"), ("blur", "sharp"))
"""What people call the folders of degraded images and of their truths."""
CROP, LIMIT = 256, 8


def init(
    config: Annotated[Path, typer.Argument(help="The YAML file to write; one that is there is left alone.")],
    network: NetworkName = None,
    options: NetworkOptions = None,
    weights: Weights = None,
    network_domain: NetworkDomain = None,
    lq: Annotated[Path | None, typer.Option("--lq", help="Folder of degraded images.", callback=there)] = None,
    gt: Annotated[Path | None, typer.Option("--gt", help="Folder of their truths.", callback=there)] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of captures without truths.", callback=there)
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option("--classes", help="For a classifier: a folder with a folder for each class.", callback=there),
    ] = None,
    domain: Domain = None,
) -> None:
    """Write a commented config of your own network and images; what is not said is looked for in this folder.

    Example: `udc-robust init mine_too.yaml --weights mine.safetensors --lq photos/degraded --gt photos/clean`
    """
    if config.exists():
        raise UserError(f"{config} is there already, and init never overwrites: choose another name, or remove it")
    name = config.stem
    pictures = {"--lq": lq, "--gt": gt, "--images": images, "--domain": domain}
    if classes is not None and (given := [option for option, value in pictures.items() if value is not None]):
        raise UserError(f"{given[0]} is of a restorer's captures: leave it out, or leave out --classes")
    if images is not None and lq is not None:
        raise UserError("--images are captures without truths and --lq are those of pairs: give one of them")
    if classes is not None:
        block = {"name": name, "network": network, "options": yaml_of("--options", options), "weights": weights}
        text = classification_text(name, classes, block)
    else:
        weights = weights or _only(find_files((".pth", ".safetensors", ".ckpt")), "weights", "--weights")
        if network is None and weights is not None and not _says_its_network(weights):
            network = _only(find_classes(), "network classes", "--network")
        said = {"network": network, "options": yaml_of("--options", options), "weights": weights}
        data = _data(lq, gt, images, domain)
        text = restoration_text(name, data, {"name": name, **said, "domain": network_domain})
    write_text(config, text)
    say(f"{config} is written")
    next_step("evaluate", config, "--out", f"runs/{name}")


def _says_its_network(weights: str) -> bool:
    """Whether weights are of a network that needs no naming: by their metadata, or by their names and shapes."""
    from udc_robust.networks.weights import read_weights
    from udc_robust.restorers.zoo import looks_like

    state, metadata = read_weights(weights)
    network = metadata.get("network", "").strip('"')
    return (bool(network) and ":" not in network and "." not in network) or looks_like(state) is not None


def find_files(endings: tuple[str, ...], root: Path = Path()) -> list[str]:
    """Files of these endings in a folder and the folders in it."""
    return [str(path) for folder in _folders(root) for path in sorted(folder.iterdir()) if path.suffix in endings]


def find_classes(root: Path = Path()) -> list[str]:
    """Networks in the Python files of a folder, as ``file.py:Class``, by their text alone: no code is run."""
    return [
        f"{path}:{name}"
        for path in sorted(root.glob("*.py"))
        for name in re.findall(r"^class (\w+)\([^)]*Module\)", path.read_text(encoding="utf-8", errors="replace"), re.M)
    ]


def find_pairs(root: Path = Path()) -> tuple[Path, Path] | None:
    """The first two folders beside each other that are called as pairs are."""
    for folder in _folders(root):
        for lq, gt in PAIRS:
            if (folder / lq).is_dir() and (folder / gt).is_dir():
                return folder / lq, folder / gt
    return None


def _folders(root: Path) -> Iterator[Path]:
    """A folder and those in it, but hidden ones, environments and our own results."""
    yield root
    for path in sorted(path for path in root.iterdir() if path.is_dir() and os.access(path, os.R_OK)):
        if not path.name.startswith((".", "_")) and path.name not in ("runs", "node_modules", "venv"):
            yield path


def _only(found: list[str], what: str, option: str) -> str | None:
    """What was found where it is one thing; several are for the user to choose from."""
    if len(found) > 1:
        raise UserError(f"several {what} here ({', '.join(found[:5])}): say which by {option}")
    if found:
        say(f"found {what}: {found[0]}", err=True)
    return found[0] if found else None


def _data(lq: Path | None, gt: Path | None, images: Path | None, domain: str | None) -> dict[str, Any]:
    """The data block of the folders that were said, else found, else of the embedded pairs."""
    if gt is not None and lq is None:
        raise UserError("--gt goes with --lq, the folder of the degraded images")
    if lq is None and images is None and (pair := find_pairs()) is not None:
        lq, gt = pair
        say(f"found pairs: {lq} and {gt}", err=True)
    lq = lq or images
    if lq is None:
        typer.echo("found no folders of pairs: the config takes the embedded ones; see --lq, --gt, --images", err=True)
        return {"kind": "embedded"}
    said = {"kind": "folder" if gt is None else "pairs", "lq": str(lq), "gt": gt and str(gt), "domain": domain}
    return {key: value for key, value in said.items() if value is not None}


def restoration_text(name: str, data: dict[str, Any], restorer: dict[str, Any]) -> str:
    """A config of the restoration task, after a look at its data and a load of its restorer.

    Raises:
        UserError: data or weights that a run would refuse.
    """
    from udc_robust.config_file import check_config
    from udc_robust.restorers.zoo import RestorerSpec, load_restorer
    from udc_robust.tasks.restoration import open_images
    from udc_robust.tasks.restoration_schema import DataConfig

    found = open_images(check_config({**data, "limit": LIMIT}, DataConfig, "options"))
    smallest = min(min(size) for size in found.sizes)
    data |= {"domain": found.domain} if data["kind"] != "embedded" else {}
    comments = {"domain": f"{'; '.join(found.told)}"}
    if smallest > CROP and data["kind"] != "embedded":
        data |= {"crop": CROP}
        comments["crop"] = "the centre, for a quick first run: remove it to attack whole images"
    data |= {"limit": LIMIT}
    comments["limit"] = "so many images: few say little, 20 or more are a measurement"
    restorer = {key: value for key, value in restorer.items() if value}
    if restorer.keys() <= {"name", "domain"}:
        restorer = {"name": "nafnet_mini"}
        typer.echo("no weights said or found: the config takes the shipped nafnet_mini; see --weights", err=True)
    load_restorer(RestorerSpec(**restorer), found.domain)
    return _RESTORATION.format(
        name=json.dumps(name), data=_lines(data, comments), restorer=json.dumps(restorer),
        other="discnet_mini" if restorer["name"] == "nafnet_mini" else "nafnet_mini",
    )  # fmt: skip


def classification_text(name: str, classes: Path, classifier: dict[str, Any]) -> str:
    """A config of the classification task, after a look at its images and a load of its classifier.

    Raises:
        UserError: no folders of classes, or a classifier that a run would refuse.
    """
    from udc_robust.classifiers.data import load_images
    from udc_robust.classifiers.zoo import ClassifierSpec, load_classifier

    images = load_images(classes)
    if classifier["network"] is None and classifier["weights"] is None:
        raise UserError("a classifier needs --network (torchvision.models:resnet18, file.py:Class), --weights or both")
    classifier = {key: value for key, value in classifier.items() if value}
    load_classifier(ClassifierSpec(**classifier))
    return _CLASSIFICATION.format(
        name=json.dumps(name), source=json.dumps(str(classes)), count=len(images),
        classes=", ".join(images.classes[:10]),
        side=min(images[0][0].shape[-2:]), classifier=json.dumps(classifier),
    )  # fmt: skip


def _lines(block: dict[str, Any], comments: dict[str, str]) -> str:
    """A block's keys, a line each, with what there is to say of them."""
    rows = [(f"  {key}: {json.dumps(value)}", comments.get(key, "")) for key, value in block.items()]
    return "\n".join(f"{row:32}  # {comment}" if comment else row for row, comment in rows)


_RESTORATION = """\
# Written by `udc-robust init`: your files, and what to change.
# schema: evaluate
name: {name}
data:
{data}
restorers:
  - {restorer}
  # - {other}            # a shipped one beside it
eps: [2/255, 4/255, 8/255]        # largest change of a value in [0,1], in the light of the data
defences:
  - none
  # - {{kind: jpeg, quality: 75, role: control}}
  # - {{kind: purifier, purifier: purifier_mini, noise_level: 5}}
attacks:
  - noise                         # of the same size: only what is worse than this is adversarial
  - {{method: pgd, steps: 10}}      # 40 and more for figures to publish
  - {{method: square, steps: 100}}  # no gradients: the check for those that lie
lpips: null                       # alex, vgg or squeeze; `udc-robust doctor --fix-lpips squeeze` gets its weights
"""
_CLASSIFICATION = """\
# Written by `udc-robust init`: your files, and what to change.
# schema: evaluate
task: classification
name: {name}
data:
  source: {source}  # {count} images; classes: {classes}
  side: {side}    # pixels: shorter side resized, middle kept
  limit: 100      # evenly over the classes
classifiers:
  - {classifier}  # mean and std: of its training, e.g. mean: [0.485, 0.456, 0.406]
eps: [2/255, 4/255, 8/255]
defences:
  - none
  # - {{kind: jpeg, quality: 75, role: control}}
attacks:
  - noise
  - {{method: pgd, steps: 10}}
  - {{method: square, steps: 100}}
"""

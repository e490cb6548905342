"""Arguments that several verbs share, and what they become."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from udc_robust import names
from udc_robust.errors import UserError, unknown_name
from udc_robust.files import shipped
from udc_robust.names import CLASSICAL_NAMES, METHOD_NAMES
from udc_robust.outputs import file_name, output_folder
from udc_robust.portable import portable
from udc_robust.processes import is_main
from udc_robust.terminal import say

if TYPE_CHECKING:
    from udc_robust.config_file import Config
    from udc_robust.grid.schema import RunConfig


def there(value: Path | list[Path] | None) -> Path | list[Path] | None:
    """Refuse a path to nothing before anything heavy is loaded; for the ``callback`` of an argument."""
    for path in value if isinstance(value, list) else [value]:
        if path is not None and not path.exists():
            raise UserError(f"{path} does not exist: check the path")
    return value


NORMS = get_args(names.Norm)
DOMAINS = ("srgb", "tonemapped", "linear")
LPIPS = ("alex", "vgg", "squeeze", "none")


def one_of(what: str, known: Sequence[str]) -> Callable[[str | None], str | None]:
    """A ``callback`` that refuses a word that is none of ``known``, before anything heavy is loaded."""

    def check(value: str | None) -> str | None:
        if value not in (None, *known):
            raise unknown_name(what, str(value), known)
        return value

    return check


def known_method(value: str) -> str:
    """Refuse an unknown attack early; a path to one's own is found later."""
    return value if ":" in value else str(one_of("attack method", METHOD_NAMES)(value))


def known_restorer(value: str) -> str:
    """Refuse early what is no file, no code, and no name of ours; names of classes are looked up later."""
    if not value.islower() or set(":./") & set(value):
        return value
    folders = (("checkpoints", "*.safetensors"), ("checkpoints", "*.yaml"), ("configs/networks", "*.yaml"))
    files = [path.stem for folder, ending in folders for path in shipped(folder).glob(ending)]
    return str(one_of("restorer", [*files, *CLASSICAL_NAMES])(value))


ConfigPath = Annotated[Path, typer.Argument(help="A YAML file; a name of `udc-robust configs` works too.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value overrides, e.g. seed=1 attacks.0.eps=4/255")]
OutFolder = Annotated[Path | None, typer.Option("--out", help="Folder to write to.")]
Images = Annotated[list[Path], typer.Argument(help="Image files or folders.", callback=there)]
Seed = Annotated[int, typer.Option("--seed", help="Of all that is random.")]
Device = Annotated[str, typer.Option("--device", help="cpu or cuda.")]
Domain = Annotated[
    str | None,
    typer.Option(
        "--domain", help="Colour domain of the images: srgb, tonemapped or linear.", callback=one_of("domain", DOMAINS)
    ),
]

# Which network.
RESTORER = "A name of `udc-robust models`, a weights file, or code: package.module:Class, file.py:Class."
RestorerName = Annotated[str, typer.Option("--restorer", help=RESTORER, callback=known_restorer)]
NetworkName = Annotated[
    str | None, typer.Option("--network", help="Class of the weights: a name of ours or basicsr's, or code.")
]
NetworkOptions = Annotated[
    str | None, typer.Option("--options", help="Its constructor's arguments as YAML, e.g. '{width: 48}'.")
]
Weights = Annotated[str | None, typer.Option("--weights", help="A .pth or .safetensors file.")]
NetworkDomain = Annotated[
    str | None,
    typer.Option(
        "--network-domain", help="Colour domain that the network works in.", callback=one_of("domain", DOMAINS)
    ),
]

# Which attack.
MethodName = Annotated[
    str,
    typer.Option("--method", help=f"{', '.join(METHOD_NAMES)}, or file.py:function.", callback=known_method),
]
Norm = Annotated[str, typer.Option("--norm", help=f"{', '.join(NORMS)}.", callback=one_of("norm", NORMS))]
Budgets = Annotated[list[str] | None, typer.Option("--eps", help="Budget, e.g. 4/255; repeat for several.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Steps of the method.")]
ObjectiveName = Annotated[
    str | None, typer.Option("--objective", help="What the attacker makes large: mse, ssim, lpips ...")
]
Captures = Annotated[
    Path | None, typer.Option("--images", help="Folder of captures; none: those built in.", callback=there)
]
Truths = Annotated[Path | None, typer.Option("--gt", "--truth", help="Folder of their ground truths.", callback=there)]
Crop = Annotated[int | None, typer.Option("--crop", help="Centre crop in pixels.")]
Limit = Annotated[int | None, typer.Option("--limit", help="Use the first so many images.", min=1)]
Tile = Annotated[
    int, typer.Option("--tile", help="Side of the tiles in which large images are taken, in px; 0: whole.")
]
Overlap = Annotated[
    int | None,
    typer.Option("--overlap", help="Pixels at a tile's inner borders that are not used; none: as far as it looks."),
]
DefenceBlocks = Annotated[
    list[str] | None,
    typer.Option("--defence", help="Put it in front: jpeg, or as YAML '{kind: blur, sigma: 1}'; repeat for several."),
]
Lpips = Annotated[
    str,
    typer.Option("--lpips", help=f"Backbone of the LPIPS column: {', '.join(LPIPS)}.", callback=one_of("lpips", LPIPS)),
]


def config_path(given: Path, schema: str) -> Path:
    """A path, or the name of a shipped config of that schema; an old name is told the new one on stderr."""
    from udc_robust.cli.configs import find_config

    path, new_name = find_config(given, schema)
    if new_name is not None and is_main():
        say(f"udc-robust: the config {given} is now called {new_name}", err=True)
    return path


def read_config(
    name: Path, schema: str, model: type[Config], overrides: Sequence[str] | None, out: Path | None
) -> tuple[Config, Path]:
    """A training's config, and the folder to write to: ``out``, what the config says, or its name in ``runs/train``."""
    from udc_robust.config_file import check_config, read_values
    from udc_robust.training.claims import without_claims

    path, overrides = config_path(name, schema), overrides or []
    values = read_values(path, overrides)
    if shipped("configs") in path.parents:  # what it claims is ours, and of our data
        values = without_claims(values, overrides)
    settings: Any = check_config(values, model, str(path))
    folder = out or settings.out or Path("runs/train") / settings.name
    from udc_robust.grid.identity import input_paths

    return settings, output_folder(folder, input_paths(settings).values(), below=[settings.name], apart=True)


def read_run_config(name: Path, overrides: Sequence[str] | None, out: Path | None) -> tuple[RunConfig, Path]:
    """The config of a run of any task, and the folder to write to."""
    path = config_path(name, "evaluate")
    from udc_robust.config_file import NO_LOOK_UP, check_config, read_values
    from udc_robust.tasks import load_run_config, schema_of

    values = read_values(path, overrides or [])
    if shipped("configs") in path.parents and "name" not in {text.partition("=")[0] for text in overrides or []}:
        mine = own_name(values, overrides or [], out)
        overrides = [*(overrides or []), *([f"name={json.dumps(mine)}"] if mine else [])]
    check_config(values, schema_of(values), str(path), NO_LOOK_UP)  # most mistakes are told before torch is loaded
    settings = load_run_config(path, overrides or [])
    return settings, run_folder(settings, out or settings.out or Path("runs") / settings.name)


def own_name(values: dict[str, Any], overrides: Sequence[str], out: Path | None) -> str | None:
    """What to call a run of a shipped config with networks of the user: as its folder, else as the first of them."""
    from udc_robust.tasks import schema_of

    key = schema_of(values).network_key
    if not any(text.startswith((f"{key}=", f"{key}.")) for text in overrides):
        return None
    first = values[key][0] if isinstance(values[key], list) and values[key] else values[key]
    named = first.get("name") if isinstance(first, dict) else first
    if named is None and out is None:
        return None  # a block that is known by something else
    mine = out.resolve().name if out is not None else Path(str(named)).stem.rpartition(":")[2]
    try:
        return file_name(mine)
    except ValueError:
        return None


def run_folder(settings: RunConfig, out: Path) -> Path:
    """The folder of a run, which can be written to and is none of what the run reads."""
    from udc_robust.grid.identity import input_paths

    return output_folder(out, input_paths(settings).values(), apart=True)


def restorer_block(
    restorer: str, network: str | None, options: str | None, weights: str | None, domain: str | None
) -> dict[str, Any]:
    """The options that say which network, as a block of a config.

    Raises:
        UserError: YAML that is none.
    """
    from udc_robust.config_file import check_config
    from udc_robust.restorers.zoo import described, shipped_checkpoints
    from udc_robust.tasks.restoration_schema import RestorerConfig

    said = {"network": network, "options": yaml_of("--options", options), "weights": weights, "domain": domain}
    block = check_config({"name": restorer, **said}, RestorerConfig, "options").model_dump(exclude_defaults=True)
    if not {"network", "weights"} & set(block) and restorer not in {*shipped_checkpoints(), *described()}:
        block["network"] = restorer  # a class of basicsr
    return block


def attack_block(
    method: str, norm: str, eps: Sequence[str] | None, steps: int | None, objective: str | None
) -> dict[str, Any]:
    """The options that say which attack, as a block of a config; C&W and DDN search the smallest change themselves."""
    budgets = list(eps or ([] if method in ("cw", "ddn") else ["4/255"]))
    said = {"eps": budgets or None, "steps": steps, "objective": objective}
    return {"method": method, "norm": norm, **{key: value for key, value in said.items() if value is not None}}


def yaml_of(option: str, text: str | None) -> Any:
    """What an option says in YAML.

    Raises:
        UserError: text that is none.
    """
    import yaml

    try:
        return None if text is None else yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{option} {text!r} is not valid YAML: {' '.join(str(error).split())}") from error


def this_command() -> str:
    """The command line that is running, as a run's folder keeps it: it says nothing of whose machine it ran on."""
    return shlex.join(["udc-robust", *portable(sys.argv[1:])])


def pairs_block(
    images: Path | None, gt: Path | None, domain: str | None, crop: int | None, limit: int | None
) -> dict[str, Any]:
    """The data block of captures with their truths; of the built-in pairs where neither is given.

    Raises:
        UserError: one without the other.
    """
    if (images is None) != (gt is None):
        raise UserError("--images and --gt go together: what is chosen by PSNR needs ground truths")
    where = {"lq": images, "gt": gt, "domain": domain, "crop": crop, "limit": limit}
    return {"kind": "embedded" if images is None else "pairs", **{k: v for k, v in where.items() if v is not None}}

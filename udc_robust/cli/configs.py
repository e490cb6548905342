"""The configs that ship: found by name, listed by what they are for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from udc_robust.errors import UserError, unknown_name
from udc_robust.files import shipped

# Each schema with the folder of its configs, and what to do with one.
SCHEMAS = {
    "evaluate": ("evaluate", "`udc-robust evaluate NAME` attacks restorers or classifiers and writes a report"),
    "preset": ("presets", "`preset: standard` in a config of yours: the newest version of these attacks"),
    "finetune": ("finetune", "`udc-robust finetune NAME` hardens a restorer or its purifier"),
    "train restorer": ("train/restorer", "`udc-robust train restorer NAME`"),
    "train classifier": ("train/classifier", "`udc-robust train classifier NAME`"),
    "train diffusion": ("train/diffusion", "`udc-robust train diffusion NAME` trains a purifier's model"),
    "train filter": ("train/filter", "`udc-robust train filter NAME` trains what stands before classifiers"),
    "network": ("networks", "NAME is a restorer in a config of yours: `{name: NAME, weights: FILE}`"),
}
# Where configs lay before they were sorted by what they are for.
MOVED = {"": "evaluate", "train": "train/restorer", "classifiers": "train/classifier", "diffusion": "train/diffusion"}


@dataclass(frozen=True)
class ShippedConfig:
    """One YAML file: its name with its folder, what its first line says it is for, and its schema."""

    name: str
    purpose: str
    schema: str


def list_configs() -> list[ShippedConfig]:
    """Every shipped config, sorted by schema as in ``SCHEMAS``, then by name."""
    root, found = shipped("configs"), []
    for path in sorted(root.rglob("*.yaml")):
        purpose, schema = (line.lstrip("# ") for line in path.read_text(encoding="utf-8").splitlines()[:2])
        name = path.relative_to(root).with_suffix("").as_posix()
        found.append(ShippedConfig(name, purpose, schema.removeprefix("schema: ")))
    return sorted(found, key=lambda config: list(SCHEMAS).index(config.schema))


def find_config(given: Path, schema: str) -> tuple[Path, str | None]:
    """The file that is meant by a path, or by the name of a shipped config, and the new name where that one is old.

    A name is looked for among the configs of ``schema`` only, whatever others are called so.

    Raises:
        UserError: no such config; it lists those of the same name that are for something else.
    """
    if given.is_file():
        return given, None
    root, home = shipped("configs"), SCHEMAS[schema][0]
    folder, name = _split(given)
    now = home if folder is None else MOVED.get(folder, folder)
    path = root / now / f"{name}.yaml"
    if now == home and path.is_file():
        return path, None if folder in (None, now) else f"{now}/{name}"
    namesakes = [config for config in list_configs() if config.name.rpartition("/")[2] == name]
    if namesakes:
        others = ", ".join(f"{config.name} (schema: {config.schema})" for config in namesakes)
        raise UserError(f"no config at {given} for `udc-robust {schema}`: of this name there is {others}")
    names = [path.stem for path in (root / home).glob("*.yaml")]
    raise UserError(f"no config at {given}: {unknown_name('name', name, names)}")


def _split(given: Path) -> tuple[str | None, str]:
    """Folder within ``configs`` and name: ``x`` has no folder (None), ``configs/x.yaml`` lies in none of them ("")."""
    *folders, last = given.parts
    name = last.removesuffix(".yaml").removesuffix(".yml")
    if "configs" in folders:
        folders = folders[len(folders) - folders[::-1].index("configs") :]
        return "/".join(folders), name
    return "/".join(folders) or None, name

"""Reading YAML files: numbers as people write them, overrides, and errors that name the key and the fix."""

from __future__ import annotations

import ast
import operator
import re
import typing
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo

from udc_robust.errors import UserError, unknown_name
from udc_robust.outputs import file_name
from udc_robust.yaml_text import read_yaml

_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def number(value: Any, **names: float) -> Any:
    """Evaluate ``"4/255"`` or ``"eps/4"``: numbers, the given names and + - * / only; other types pass through.

    Raises:
        ValueError: anything else in the text.
    """
    if not isinstance(value, str):
        return value

    def walk(node: ast.AST) -> float:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return node.value
        if isinstance(node, ast.Name) and node.id in names:
            return names[node.id]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -walk(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](walk(node.left), walk(node.right))
        raise ValueError

    try:
        return walk(ast.parse(value.strip(), mode="eval").body)
    except (ValueError, SyntaxError, ArithmeticError, RecursionError, MemoryError):
        raise ValueError(f"{value!r} is not a number: write 0.0157 or 4/255") from None


def _in_float32(value: float) -> float:
    """What networks compute in takes smaller numbers for 0 and larger ones for infinity."""
    if value and not 1.2e-38 < abs(value) < 3.4e38:
        raise ValueError(f"{value:g} is beyond what 32-bit floating point can hold")
    return value


Number = Annotated[float, BeforeValidator(number), Field(allow_inf_nan=False), AfterValidator(_in_float32)]
FileName = Annotated[str, AfterValidator(file_name)]


class Strict(BaseModel):
    """A block of a config in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def as_lists(values: Any, mains: Mapping[str, str | None]) -> Any:
    """The short forms of an evaluation's config: a single block or nothing for a list of them, a name for a block.

    Args:
        values: what was written; the fingerprint of a run is left out, so that its config.yaml is a config again.
        mains: for each key that holds a list, the key of its blocks that a name alone stands for; None for numbers.
    """
    if not isinstance(values, Mapping):
        return values
    values = {key: value for key, value in values.items() if key != "fingerprint"}
    for key, main in mains.items():
        if key in values:
            written = [] if values[key] is None else values[key]
            blocks = written if isinstance(written, list) else [written]
            values[key] = [{main: block} if main and isinstance(block, str) else block for block in blocks]
    return values


def plain(config: BaseModel, exclude: Set[str] = frozenset()) -> dict[str, Any]:
    """A config as the plain values of a YAML file, without some of its keys."""
    return config.model_dump(mode="json", exclude=set(exclude))


def is_path(name: str) -> bool:
    """Whether a name is a path to code of the user: ``package.module:name`` or ``file.py:name``."""
    return ":" in name


NO_CODE = {"code": False}
"""Context of a validation that must not run code of the user: a finished run that somebody hands over is only read."""


NO_LOOK_UP = {"look_up": False}
"""Context of a validation of what a schema knows by itself: nothing that a config names is loaded, nor torch."""


def may_load(name: str, info: ValidationInfo) -> bool:
    """Whether what a config names may be looked up: ours, and the user's where it is not only read."""
    context = info.context or {}
    return context.get("look_up", True) and (not is_path(name) or context.get("code", True))


def told(find: Any) -> Any:
    """What a look-up finds; its UserError is told as pydantic tells mistakes."""
    try:
        return find()
    except UserError as error:
        raise ValueError(str(error)) from error


def twice_in(names: Sequence[str]) -> str | None:
    """The first of the names that is there more than once."""
    return next((name for name in names if names.count(name) > 1), None)


Config = TypeVar("Config", bound=BaseModel)


def load_config(path: Path | str, schema: type[Config], overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply ``key=value`` overrides, and check it.

    Raises:
        UserError: no such file, bad YAML (with its line), unknown keys (with the nearest known one), bad values.
    """
    return check_config(read_values(path, overrides), schema, str(path))


def read_values(path: Path | str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The plain values of a YAML file, overridden.

    Raises:
        UserError: see `load_config`, but for what a schema knows.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no config at {path}: check the path, or see `udc-robust configs`")
    values = read_yaml(path.read_bytes(), str(path))
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold keys and values, not {type(values).__name__}")
    for override in overrides:
        _apply(values, override)
    return values


def check_config(
    values: Mapping[str, Any], schema: type[Config], origin: str, context: Mapping[str, Any] | None = None
) -> Config:
    """Validate plain values; every problem is told in one line with its key.

    Args:
        context: what the schema's validators may know (see `grid.schema.NO_CODE`).
    """
    try:
        return schema.model_validate(values, context=dict(context or {}))
    except ValidationError as error:
        raise UserError(f"{origin}: " + "; ".join(_tell(e, schema) for e in error.errors())) from None


def _key(block: Any, part: str, where: str) -> str | int:
    """What a part of an override's key means within ``block``: a key, or a place in a list.

    Args:
        where: ``block`` is in the config.

    Raises:
        ValueError: nothing that it could mean.
    """
    if isinstance(block, dict):
        return part
    if isinstance(block, list):
        if not part.isdecimal() or int(part) >= len(block):
            raise ValueError(f"`{where}` is a list of {len(block)}, counted from 0: there is no `{part}` in it")
        return int(part)
    raise ValueError(f"`{where}` is {block!r} there, which holds no `{part}`: set `{where}` as a whole")


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"override {override!r} must be key=value, for example seed=1 or attacks.0.eps=4/255")
    block: Any = values
    *path, last = key.split(".")
    value = read_yaml(text, f"override {override!r}")
    try:
        for i, part in enumerate(path):
            at = _key(block, part, ".".join(path[:i]))
            if isinstance(block, dict) and block.get(part) is None:
                block[part] = {}
            block = block[at]
        if isinstance(block, list) and not last.isdecimal() and all(isinstance(one, dict) for one in block):
            for one in block:  # `data.psf=...` is of every block
                one[last] = value
        else:
            block[_key(block, last, ".".join(path))] = value
    except ValueError as error:
        raise UserError(f"override {override!r} does not fit the config: {error}") from None


def _tell(error: Any, schema: type[BaseModel]) -> str:
    """One problem in one line: the key as it is written, and the fix."""
    place = ".".join(str(part) for part in error["loc"] if not _is_tag(part)) or "config"
    if error["type"] == "extra_forbidden":
        return str(unknown_name("key", place, _known_keys(schema, error["loc"])))
    if error["type"] == "missing":
        return f"{place} is missing"
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        return str(unknown_name(place, error["input"], re.findall(r"'([^']*)'", error["ctx"]["expected"])))
    message = error["msg"].removeprefix("Value error, ")
    return f"{place}: {message}"


def _model(schema: Any) -> Any:
    """The model that an annotation such as ``list[Model] | None`` is of."""
    while not hasattr(schema, "model_fields"):
        schema = typing.get_args(schema)[0]
    return schema


def _is_tag(part: int | str) -> bool:
    """Whether a part of a location says which kind of a union was read; in a config it is not written."""
    return isinstance(part, str) and part.startswith("a ")


def _known_keys(schema: Any, location: Sequence[int | str]) -> list[str]:
    """Keys allowed where an unknown one was found, with the path before them."""
    *path, _ = location
    for part in path:
        if _is_tag(part):
            kinds = typing.get_args(schema)
            schema = next(
                kind for kind in kinds if any(getattr(mark, "tag", None) == part for mark in kind.__metadata__)
            )
        elif isinstance(part, str):
            schema = _model(schema).model_fields[part].annotation
    schema = _model(schema)
    prefix = "".join(f"{part}." for part in path if not _is_tag(part))
    return [prefix + key for key in schema.model_fields]

"""The user's own code: any object named ``package.module:name`` or ``file.py:name``, and networks made by one.

What goes wrong in there is the user's to mend: errors name the exception and the line of their file.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import udc_robust
from udc_robust.errors import UserError
from udc_robust.networks.memory_guard import within_memory

FAULTS = (Exception, SystemExit)
"""What code of the user may raise that is a fault of it: it may not end our process, whatever its code."""

# Folders whose lines say nothing of where the user's code went wrong.
_NOT_THEIRS = {Path(module.__file__).parent for module in (udc_robust, torch, importlib) if module.__file__}


def load_object(path: str, what: str) -> Any:
    """Import a class, a function or any other object.

    Args:
        path: ``package.module:name`` (or a dot before the name), or ``file.py:name``.
        what: what it is to be, for the error: ``network``, ``attack`` ...

    Raises:
        UserError: no such file or module, a module that raises while it is imported, or no such name in it.
    """
    module_path, _, name = path.rpartition(":" if ":" in path else ".")
    if not module_path or path.endswith(".py"):
        raise UserError(f"{what} {path!r} names no object: write package.module:name or file.py:name")
    try:
        module = _run_file(Path(module_path)) if module_path.endswith(".py") else importlib.import_module(module_path)
    except FileNotFoundError as error:
        if Path(module_path).is_file():  # it is their file that misses another one
            raise UserError(f"{what} {path!r}: {blame(error)}") from error
        raise UserError(f"cannot import {module_path!r} for {what} {path!r}: no such file") from error
    except FAULTS as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module_path}.".startswith(f"{missing}."):
            raise UserError(
                f"cannot import {module_path!r} for {what} {path!r}: no module {missing!r}; install it, "
                "add its folder to PYTHONPATH, or write file.py:name"
            ) from error
        raise UserError(f"{what} {path!r}: {blame(error)}") from error
    if not hasattr(module, name):
        raise UserError(f"{module_path!r} has no {name!r} for {what}: {_suggestion(name, module)}")
    return getattr(module, name)


def _run_file(path: Path) -> ModuleType:
    name = str(path.resolve())  # a name that no other module has
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up by its name
    spec.loader.exec_module(module)
    return module


def _suggestion(name: str, module: ModuleType) -> str:
    public = [other for other in vars(module) if not other.startswith("_")]
    near = difflib.get_close_matches(name, public, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    own = [other for other in public if getattr(getattr(module, other), "__module__", "") == module.__name__]
    return f"it has {', '.join((own or public)[:8])}" if own or public else "it is empty"


def blame(error: BaseException) -> str:
    """One line on an exception out of the user's code: its type, its message, and the deepest line of their files."""
    told = (str(error).splitlines() or [""])[0]
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and not _NOT_THEIRS & set(Path(frame.filename).parents)
    ]
    home = Path(frames[0].filename).parent if frames else None
    own = [frame for frame in frames if home in (Path(frame.filename).parent, *Path(frame.filename).parents)]
    place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {told}{place}"


def network_builder(path: str) -> Callable[..., nn.Module]:
    """A network class of the user, or a function that returns a network, by its path.

    Raises:
        UserError: see `load_object`; or what is found is neither.
    """
    found = load_object(path, "network")
    if not callable(found) or (isinstance(found, type) and not issubclass(found, nn.Module)):
        raise UserError(f"network {path!r} is neither a torch.nn.Module class nor a function that returns one")
    return found


def build(builder: Callable[..., nn.Module], name: str, options: Mapping[str, Any]) -> nn.Module:
    """Construct a network.

    Raises:
        UserError: options that it does not take, an exception in its constructor, or something else than a network.
    """
    try:
        network = within_memory(
            lambda: builder(**options), f"network {name!r} with these options", rehearse=_no_users(builder)
        )
    except UserError:
        raise
    except TypeError as error:
        raise UserError(f"network {name!r} does not take these options: {blame(error)}") from error
    except FAULTS as error:
        raise UserError(f"network {name!r} cannot be built with these options: {blame(error)}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"network {name!r} made a {type(network).__name__}, not a torch.nn.Module")
    return network


def _no_users(builder: Callable[..., nn.Module]) -> bool:
    """Whether a network comes with us or with a library that we name networks of."""
    return str(getattr(builder, "__module__", "")).partition(".")[0] in ("udc_robust", "basicsr", "torchvision")


def is_ours(thing: object) -> bool:
    """Whether an object is of a class of this package, whose faults are not the user's."""
    return type(thing).__module__.startswith(f"{udc_robust.__name__}.")


def answered(network: nn.Module, x: Tensor, what: str, *more: Any) -> Tensor:
    """The answer of a network, which must be one tensor of numbers; a fault in code that is not ours is told as theirs.

    Args:
        what: names the network for the error, such as ``restorer 'mine'``.
        more: further arguments that it takes.

    Raises:
        UserError: the code of others raises, memory runs out, or the answer is something else.
    """
    try:
        answer = network(x, *more)
    except UserError:
        raise
    except FAULTS as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise UserError(
                f"{what} runs out of memory on images of {tuple(x.shape)}: give smaller images or batches, or tiles"
            ) from error
        if is_ours(network):
            raise
        raise UserError(f"{what} does not take images of {tuple(x.shape)}: {blame(error)}") from error
    if not isinstance(answer, Tensor):
        raise UserError(
            f"{what} answers with {_told_kind(answer)}: it must give one tensor; name a class or function of yours "
            "that picks it"
        )
    if not answer.is_floating_point():
        raise UserError(f"{what} answers with {answer.dtype}: it must give floating point numbers")
    return answer


def _told_kind(answer: Any) -> str:
    """What a network gave in place of a tensor."""
    if isinstance(answer, Mapping):
        return f"a {type(answer).__name__} of {', '.join(map(repr, list(answer)[:5]))}"
    if isinstance(answer, list | tuple):
        shapes = [str(tuple(part.shape)) if isinstance(part, Tensor) else type(part).__name__ for part in answer]
        return f"a {type(answer).__name__} of {len(answer)} ({', '.join(shapes[:5])})"
    return f"a {type(answer).__name__}"


def guarded(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    """A function of the user whose exceptions are told as theirs, with their line."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except UserError:
            raise
        except FAULTS as error:
            raise UserError(f"{what}: {blame(error)}") from error

    return call

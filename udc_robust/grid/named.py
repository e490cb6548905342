"""What a config names: attack methods, objectives and metrics of ours, or the user's own by dotted path or file.

A path is ``package.module:name`` or ``file.py:name``, and naming one runs that code.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from udc_robust.attacks import METHODS, Damage, Method, Objective, objective
from udc_robust.config_file import is_path
from udc_robust.errors import UserError, unknown_name
from udc_robust.metrics import Metric
from udc_robust.networks.user_code import guarded, load_object


@functools.cache
def find_method(name: str) -> Method:
    """An attack method: a name of `METHODS`, or a function ``(oracle, x, threat, *, options) -> candidate``.

    A function that `attacks.method` decorates says what it needs itself; any other is a gradient attack in both norms.

    Raises:
        UserError: an unknown name, or something that is no such function.
    """
    if not is_path(name):
        if name not in METHODS:
            raise unknown_name("attack method", name, METHODS)
        return METHODS[name]
    found = _function(name, "attack method", ("oracle", "x", "threat"))
    return replace(getattr(found, "method", None) or Method.of(found), run=_images(found, f"attack method {name!r}"))


@functools.cache
def find_objective(name: str, known: Sequence[str]) -> Callable[..., Objective]:
    """A builder of an objective, to which ``drop_db`` is given: one of ``known``, or a function ``(output, target)``.

    One's own is a distance of two images, one number an image, that the attacker makes large.

    Raises:
        UserError: an unknown name, or something that is no such function.
    """
    if is_path(name):
        measure = _one_each(_function(name, "objective", ("output", "target")), f"objective {name!r}")
        return lambda drop_db=6.0: Damage(name.rpartition(":")[2], measure, 1e-4, drop_db)
    for part in name.split("+"):
        if part not in known:
            raise unknown_name("objective", part, known)
    return functools.partial(objective, name)


@functools.cache
def find_metric(path: str, name: str | None = None, higher_is_better: bool = True, digits: int = 3) -> Metric:
    """A metric of the user: a `Metric`, or a function ``(outputs, targets) -> (B,)``.

    Raises:
        UserError: something that is neither.
    """
    if not is_path(path):
        raise UserError(f"metric {path!r} must be package.module:name or file.py:name")
    found = load_object(path, "metric")
    if isinstance(found, Metric):
        return replace(found, measure=_one_each(guarded(found.measure, f"metric {path!r}"), f"metric {path!r}"))
    measure = _one_each(_function(path, "metric", ("output", "target")), f"metric {path!r}")
    words = (inspect.getdoc(measure) or "").partition("\n")[0]
    return Metric(name or path.rpartition(":")[2], measure, higher_is_better, digits, words=words)


def _function(path: str, what: str, given: Sequence[str]) -> Callable[..., Any]:
    """A function of the user that takes what it is given in order, and more by keyword at most."""
    found = load_object(path, what)
    if not callable(found) or isinstance(found, type):
        raise UserError(f"{what} {path!r} is no function: it must take {', '.join(given)}")
    parameters = inspect.signature(found).parameters.values()
    placed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    if len(placed) != len(given):
        told = ", ".join(p.name for p in placed) or "nothing"
        raise UserError(f"{what} {path!r} takes {told}: it must take {', '.join(given)}, and its options after a `*`")
    return guarded(found, f"{what} {path!r}")


def _images(function: Callable[..., Any], what: str) -> Callable[..., Tensor]:
    """An attack of the user, whose answer is checked."""

    @functools.wraps(function)
    def run(oracle: Any, x: Tensor, threat: Any, **options: Any) -> Tensor:
        answer = function(oracle, x, threat, **options)
        if not isinstance(answer, Tensor) or answer.shape != x.shape:
            found = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
            raise UserError(f"{what} makes {found} of images {tuple(x.shape)}: it must return images of their shape")
        if not answer.isfinite().all():
            raise UserError(f"{what} makes NaN or infinity of images {tuple(x.shape)}: check its code")
        return answer

    return run


def _one_each(function: Callable[..., Any], what: str) -> Callable[..., Tensor]:
    """A measure of the user, whose answer is checked."""

    @functools.wraps(function)
    def measure(output: Tensor, target: Tensor) -> Tensor:
        answer = function(output, target)
        if not isinstance(answer, Tensor) or answer.shape != output.shape[:1]:
            found = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
            raise UserError(f"{what} makes {found} of {len(output)} images: it must give one number an image, (B,)")
        return answer

    return measure

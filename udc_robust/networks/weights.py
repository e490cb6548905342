"""Reading and writing network weights: strict, and never by unpickling code."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from udc_robust.errors import UserError
from udc_robust.files import write_bytes

_CONTAINERS = ("params_ema", "params", "state_dict", "model_state_dict", "model", "net_g")


def _is_list(kind: type | tuple[type, ...]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(isinstance(part, kind) for part in value)


_FACTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "network": (lambda value: isinstance(value, str), "a name"),
    "options": (lambda value: isinstance(value, dict), "options by name"),
    "domain": (lambda value: isinstance(value, str), "a name"),
    "parent": (lambda value: isinstance(value, str), "a name"),
    "parent_sha256": (lambda value: isinstance(value, str), "hexadecimal digits"),
    "ancestors": (lambda value: isinstance(value, dict) and _is_list(str)([*value.values()]), "names by digest"),
    "channel": (lambda value: isinstance(value, str), "a name"),
    "mean": (_is_list((int, float)), "a list of numbers"),
    "std": (_is_list((int, float)), "a list of numbers"),
    "classes": (_is_list(str), "a list of names"),
}


def read_weights(path: Path | str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a state dict and its text metadata (empty for ``.pth``).

    Takes safetensors, and what ``torch.save`` made of tensors: bare, or under ``params_ema``, ``params``,
    ``state_dict``, ``model`` and the like, as BasicSR, Lightning and people's own loops write them.

    Raises:
        UserError: the file is missing, damaged, not a state dict, or a pickle that carries code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no weights at {path}: check the path")
    return _read_safetensors(path) if path.suffix == ".safetensors" else (_read_pth(path), {})


def without_prefix(state: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """A state dict without what wrappers put before all of its names: ``module.``, ``model.``, ``net_g.``.

    Args:
        names: those of the network: as much is stripped as makes most of them appear.
    """
    layouts, inner = [dict(state)], dict(state)
    while inner and len({name.partition(".")[0] for name in inner}) == 1 and all("." in name for name in inner):
        inner = {name.partition(".")[2]: tensor for name, tensor in inner.items()}
        layouts.append(inner)
    return max(layouts, key=lambda layout: len(layout.keys() & set(names)))


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as handle:
            return {name: handle.get_tensor(name) for name in handle.keys()}, dict(handle.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}): get it again") from error


def _read_pth(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler answers garbage with any exception there is
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            raise UserError(
                f"{path} holds more than tensors, and loading it could run code: it is refused; "
                "save its state dict alone, best as .safetensors"
            ) from error
        raise UserError(f"{path} is not a readable checkpoint ({_short(error)}): get it again") from error
    content = _unpacked(content)
    named = isinstance(content, Mapping) and all(isinstance(name, str) for name in content)
    if not named or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(
            f"{path} holds no state dict: expected tensors by name, bare or under one of {', '.join(_CONTAINERS)}; "
            f"found {_describe(content)}"
        )
    return dict(content)


def facts_of(metadata: Mapping[str, str], origin: Path | str) -> dict[str, Any]:
    """What a weights file says of its network, with its types checked: a file is whoever's who made it.

    Raises:
        UserError: metadata that is no JSON, or of another type.
    """
    facts: dict[str, Any] = {}
    for key, (right, needed) in _FACTS.items():
        if key not in metadata:
            continue
        try:
            facts[key] = json.loads(metadata[key])
        except (ValueError, RecursionError) as error:
            raise UserError(f"{origin}: its metadata {key!r} is not JSON ({error}): get it again") from error
        if facts[key] is None:
            del facts[key]
        elif not right(facts[key]):
            raise UserError(f"{origin}: its metadata {key!r} must be {needed}, not {metadata[key][:60]}: get it again")
    return facts


def no_code(network: str, origin: Path | str) -> str:
    """The network that a weights file names, which must be one of a list: a file never chooses code that is run.

    Raises:
        UserError: it is a path to code.
    """
    if ":" in network or "." in network:
        raise UserError(
            f"{origin} says that its network is {network!r}, which is code of somebody's and is not run; if you trust "
            f"it, name it yourself: `network: {network}` in a config, `--restorer {network}` in a command"
        )
    return network


def _unpacked(content: Any) -> Any:
    """What lies in the containers of a checkpoint, one in another if need be."""
    if isinstance(content, Mapping):
        for key in _CONTAINERS:
            if isinstance(content.get(key), Mapping):
                return _unpacked(content[key])
    return content


def _describe(content: Any) -> str:
    return f"keys {', '.join(map(str, list(content)[:5]))}" if isinstance(content, Mapping) else type(content).__name__


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def load_into(network: nn.Module, state: Mapping[str, Tensor], origin: Path | str) -> None:
    """Load strictly, past a wrapper's prefix; weight-norm networks take legacy names through torch's own hook.

    Raises:
        UserError: names the missing, unexpected and differently shaped entries in short.
    """
    ours = network.state_dict()
    state = without_prefix(state, ours.keys())
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        missing, unexpected = sorted(ours.keys() - state.keys()), sorted(state.keys() - ours.keys())
        shapes = [
            f"{name} {tuple(state[name].shape)} instead of {tuple(ours[name].shape)}"
            for name in sorted(ours.keys() & state.keys())
            if state[name].shape != ours[name].shape
        ]
        parts = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
            if names
        ]
        raise UserError(
            f"{origin} does not fit {type(network).__name__}: {'; '.join(parts) or _short(error)}; "
            "check the network's name and its options"
        ) from error
    bad = [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        raise UserError(f"{origin} has NaN or infinite weights in {', '.join(bad[:3])}: get it again")


def save_weights(path: Path | str, network: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write a safetensors file, whole or not at all; metadata values are stored as JSON text.

    The same weights and metadata make the same bytes: what differs from run to run, such as seconds, belongs elsewhere.
    """
    from safetensors.torch import save

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_bytes(path, _ordered(save(state, {key: json.dumps(value) for key, value in metadata.items()})))


def _ordered(content: bytes) -> bytes:
    """A safetensors file (length of the header, JSON header, tensors) with its header in order."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header = {"__metadata__": dict(sorted(header.pop("__metadata__", {}).items())), **header}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]

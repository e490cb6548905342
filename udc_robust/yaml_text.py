"""Reading YAML strictly: plain values with text keys, no key twice, and one line on whatever is wrong."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from udc_robust.errors import UserError


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses what YAML lets pass and a config cannot mean."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping, in which every key is text and stands once; what ``<<`` brings may be overridden."""
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value if not isinstance(key, list | dict) else 'there'!r} in line "
                    f"{line} is no text: put it in quotes",
                )  # fmt: skip
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice, in lines {seen[key]} and {line}: remove one of them"
                )
            seen[key] = line
        return super().construct_mapping(node, deep=deep)


def _text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    """A text that a file can hold: half of a surrogate pair is none."""
    text = loader.construct_scalar(node)
    text.encode()
    return text


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    """A mapping, built at once and not bit by bit, which would let lists and mappings hold themselves."""
    return loader.construct_mapping(node, deep=True)


def _sequence(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> list[Any]:
    """A list, built at once."""
    return loader.construct_sequence(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:seq", _sequence)
_Loader.add_constructor("tag:yaml.org,2002:str", _text)


def read_yaml(text: str | bytes, what: str) -> Any:
    """The plain values of a YAML text.

    Args:
        what: where the text is from, for the error.

    Raises:
        UserError: it is no YAML, holds other things than plain values, itself, or the same key twice.
    """
    try:
        return yaml.load(text.decode() if isinstance(text, bytes) else text, _Loader)
    except RecursionError:
        raise UserError(f"{what} is not valid YAML: its brackets are nested too deeply") from None
    except Exception as error:  # a date of the 45th is a ValueError, a text of half a character a UnicodeError
        told = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{what} is not valid YAML: {told}") from error

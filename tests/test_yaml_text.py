"""YAML that a config cannot mean is told in one line, whatever PyYAML makes of it."""

from __future__ import annotations

import pytest

from udc_robust.errors import UserError
from udc_robust.yaml_text import read_yaml


def test_plain_values_and_merged_ones() -> None:
    assert read_yaml("a: [1, 2.5, x, null]\nb: {c: true}\n", "it") == {"a": [1, 2.5, "x", None], "b": {"c": True}}
    text = "base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\nsame: [*base, *base]\n"
    assert read_yaml(text, "it")["more"] == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    "text, message",
    [
        ("name: 2024-13-45", "month must be in 1..12"),
        ("seed: !!int abc", "invalid literal for int"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a: 1\nb: {c: 1,\n  c: 2}", "key 'c' stands twice, in lines 2 and 3"),
        ("a: 1\n5: x", "key '5' in line 2 is no text"),
        ("on: x", "key 'on' in line 1 is no text"),
        ("[a]: x", "in line 1 is no text"),
        ("a: &a [*a]", "recursive"),
        ("a: &a {b: *a}", "recursive"),
        ('a: "\\ud800"', "surrogates"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        (b"\xff\xfe\x00", "can't decode"),
        ("a: *b", "undefined alias"),
    ],
)
def test_anything_else_is_refused_in_one_line(text, message) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_yaml(text, "it.yaml")
    assert str(caught.value).startswith("it.yaml is not valid YAML: ") and "\n" not in str(caught.value)

"""What travels names files without saying on whose machine they lay, and nothing else is touched."""

from __future__ import annotations

import pytest

from udc_robust.portable import portable


@pytest.fixture(autouse=True)
def _place(monkeypatch, tmp_path):
    (tmp_path / "my work").mkdir()
    monkeypatch.chdir(tmp_path / "my work")
    monkeypatch.setenv("PWD", str(tmp_path / "my work"))
    monkeypatch.setenv("HOME", "/srv/people/ada lovelace")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("{here}/sets/lq", "sets/lq"),
        ("{here}", "."),
        ("data={{kind: pairs, lq: {here}/lq, gt: '{here}/gt'}}", "data={{kind: pairs, lq: lq, gt: 'gt'}}"),
        ("/srv/people/ada lovelace/nets/mine.py:Net", "~/nets/mine.py:Net"),
        ("/home/grace/nets/mine.py:Net", "~/nets/mine.py:Net"),
        ("check /Users/grace", "check ~"),
        ("/mnt/disk 1/projects/secret/sets/lq", "sets/lq"),
        ("--weights=/mnt/disk 1/secret/nets/a.pth", "--weights=nets/a.pth"),
        ("lq: /mnt/secret/sets/lq, gt: /mnt/secret/sets/gt", "lq: sets/lq, gt: sets/gt"),
        ("from `/mnt/secret/nets/a.pth`", "from `nets/a.pth`"),
    ],
)
def test_places_are_left_out(text, expected, tmp_path) -> None:
    assert portable(text.format(here=tmp_path / "my work")) == expected.format()


@pytest.mark.parametrize(
    "text",
    ["4/255", "eps/4", "https://example.org/a/b", "sets/lq", "~/x", "a / b", "Linf 4/255, L2 1/2", "/", "../x/y"],
)
def test_all_else_stays(text) -> None:
    assert portable(text) == text


def test_values_are_searched_to_the_bottom() -> None:
    found = portable({"/a/b/c": [{"x": "/mnt/a/b/c"}, 3, None], "y": ("/home/me/x",)})
    assert found == {"/a/b/c": [{"x": "b/c"}, 3, None], "y": ["~/x"]}

"""Folders as data sets: matching, laziness and one clear line for every mismatch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from udc_robust.data import samples
from udc_robust.data.images import write_image
from udc_robust.data.samples import PairedFolders, SingleFolder
from udc_robust.errors import UserError


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for i, name in enumerate("cab"):
        write_image(tmp_path / "lq" / f"{name}.png", torch.full((3, 4, 5 + i), 0.2))
        write_image(tmp_path / "gt" / f"{name}.png", torch.full((3, 4, 5 + i), 0.6))
    return tmp_path


def test_pairs_match_by_stem(pairs: Path) -> None:
    (pairs / "gt" / "b.png").rename(pairs / "gt" / "b.webp")  # the content decides the decoder, the stem the pair
    data = PairedFolders(pairs / "lq", pairs / "gt")
    assert data.keys() == ["a", "b", "c"] and len(data) == 3
    assert data.sizes() == [(4, 6), (4, 7), (4, 5)]
    sample = data[1]
    assert sample.gt is not None and sample.lq.shape == sample.gt.shape == (3, 4, 7)
    assert float(sample.lq.mean()) == pytest.approx(0.2) and float(sample.gt.mean()) == pytest.approx(0.6)
    assert sample.domain == "srgb" and sample.source.endswith("b.png")
    assert [sample.key for sample in data] == data.keys()


def test_one_image_is_loaded_at_a_time(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    whole = samples.read_image
    monkeypatch.setattr(samples, "read_image", lambda path: read.append(path) or whole(path))
    data = PairedFolders(pairs / "lq", pairs / "gt")
    assert data.keys() and data.sizes() and read == []
    assert data[0].key == "a"
    assert [path.name for path in read] == ["a.png", "a.png"]


def test_single_images_have_no_truth(pairs: Path) -> None:
    data = SingleFolder([pairs / "lq", pairs / "gt" / "a.png"], domain="tonemapped")
    assert data.keys() == ["lq/a", "b", "c", "gt/a"]
    assert data[0].gt is None and data[0].domain == "tonemapped"


def test_a_synthetic_set_states_its_light(pairs: Path) -> None:
    (pairs / "manifest.json").write_text(json.dumps({"domain": "tonemapped"}))
    assert PairedFolders(pairs / "lq", pairs / "gt")[0].domain == "tonemapped"
    assert PairedFolders(pairs / "lq", pairs / "gt", domain="srgb")[0].domain == "srgb"


def test_a_synthetic_set_states_its_scenes(pairs: Path) -> None:
    from udc_robust.data.embedded import EmbeddedPairs

    names = [path.stem for path in sorted((pairs / "lq").iterdir())]
    assert SingleFolder(pairs / "lq").scenes() == names
    told = [{"name": name, "source": "a.hdr"} for name in names[:-1]]
    (pairs / "manifest.json").write_text(json.dumps({"domain": "tonemapped", "pairs": told}))
    assert PairedFolders(pairs / "lq", pairs / "gt").scenes() == ["a.hdr"] * (len(names) - 1) + names[-1:]
    for damaged in ("[1]", '{"pairs": 3}', '{"pairs": [3]}', "{", "1"):
        (pairs / "manifest.json").write_text(damaged)
        assert SingleFolder(pairs / "lq").scenes() == names
    crops = EmbeddedPairs(count=7, size=64)
    assert [key.startswith(f"{scene}_") for key, scene in zip(crops.keys(), crops.scenes(), strict=True)] == [True] * 7


def test_missing_partners_are_named(pairs: Path) -> None:
    (pairs / "gt" / "b.png").unlink()
    with pytest.raises(UserError, match=r"lq/b\.png.*gt/b\."):
        PairedFolders(pairs / "lq", pairs / "gt")
    (pairs / "lq" / "b.png").unlink()
    (pairs / "lq" / "c.png").unlink()
    with pytest.raises(UserError, match=r"gt/c\.png.*lq/c\."):
        PairedFolders(pairs / "lq", pairs / "gt")
    assert PairedFolders([pairs / "lq" / "a.png"], pairs / "gt").keys() == ["a"]


def test_size_mismatch_names_both(pairs: Path) -> None:
    write_image(pairs / "gt" / "b.png", torch.zeros(3, 8, 8))
    with pytest.raises(UserError, match=r"lq/b\.png is 4x7 but .*gt/b\.png is 8x8"):
        PairedFolders(pairs / "lq", pairs / "gt")


def test_two_files_of_one_name(pairs: Path) -> None:
    write_image(pairs / "gt" / "b.npy", torch.zeros(3, 4, 7))
    with pytest.raises(UserError, match="same name"):
        PairedFolders(pairs / "lq", pairs / "gt")
    write_image(pairs / "lq" / "b.npy", torch.zeros(3, 4, 7))
    with pytest.raises(UserError, match="rename"):
        SingleFolder(pairs / "lq")


def test_a_pair_has_one_light(pairs: Path) -> None:
    (pairs / "gt" / "a.png").unlink()
    write_image(pairs / "gt" / "a.npy", torch.full((3, 4, 6), 30.0))
    with pytest.raises(UserError, match="domain"):
        PairedFolders(pairs / "lq", pairs / "gt")[0]
    with pytest.raises(UserError, match="above 1"):
        PairedFolders(pairs / "lq", pairs / "gt", domain="tonemapped")[0]


def test_a_circle_of_links_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    with pytest.raises(UserError, match=r"loop\.png does not exist"):
        SingleFolder(tmp_path)


def test_nothing_given() -> None:
    with pytest.raises(UserError, match="no images"):
        SingleFolder([])

"""Labelled images: every source, and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from udc_robust.classifiers.data import load_images
from udc_robust.data.images import write_image
from udc_robust.errors import UserError


@pytest.fixture
def folders(tmp_path):
    for label, name in enumerate(("cat", "dog")):
        for i in range(3):
            write_image(tmp_path / name / f"{i}.png", torch.full((3, 8 + 2 * i, 10), (label * 3 + i) / 255))
    return tmp_path


def _archive(path, labels=(0, 1, 1), names=("train/cat/0.png", "train/dog/0.png", "train/dog/1.png"), cut=0) -> None:
    files = []
    for i in range(3):
        buffer = io.BytesIO()
        Image.fromarray(np.full((4, 6, 3), 40 * i, np.uint8)).save(buffer, format="PNG")
        files.append(buffer.getvalue())
    offsets = np.cumsum([0, *(len(file) for file in files)])
    data = np.frombuffer(b"".join(files), np.uint8).copy()
    data[len(data) - cut :] = 0
    np.savez(path, buf=data, offs=offsets, label=np.array(labels), name=np.array(names))


def test_a_folder_for_each_class(folders) -> None:
    images = load_images(folders)
    assert images.classes == ("cat", "dog") and images.labels == (0, 0, 0, 1, 1, 1) and len(images) == 6
    image, label = images[4]
    assert label == 1 and image.dtype == torch.uint8 and image.shape == (3, 10, 10) and (image == 4).all()
    assert images.keys[4] == "dog/1.png" and torch.equal(images[-2][0], image)
    with pytest.raises(UserError, match=r"differ in size, such as .*cat/0\.png \(8 x 10\)"):
        images.batch([0, 1])
    x, labels = load_images(folders, side=6).batch([0, 5])
    assert x.shape == (2, 3, 6, 6) and labels.tolist() == [0, 1]
    assert torch.allclose(x[1], torch.full((3, 6, 6), 5 / 255))


def test_the_shorter_side_is_resized_and_the_middle_kept(tmp_path) -> None:
    stripes = torch.arange(12).repeat_interleave(2).expand(3, 8, 24) / 255  # a level for every two columns
    for name, image in (("a", stripes), ("b", stripes.mT)):
        write_image(tmp_path / name / "0.png", image)
    images = load_images(tmp_path, side=4)
    (wide, _), (high, _) = images[0], images[1]
    assert wide.shape == high.shape == (3, 4, 4) and wide.dtype == torch.uint8
    middle = torch.tensor([4, 5, 6, 7], dtype=torch.uint8)
    assert torch.equal(wide, middle.expand(3, 4, 4)) and torch.equal(high, middle[:, None].expand(3, 4, 4))


def test_fine_stripes_become_their_mean_and_not_one_of_them(tmp_path) -> None:
    columns = torch.tensor([0.0, 1, 1, 0]).repeat(16).expand(3, 64, 64)
    for name in ("a", "b"):
        write_image(tmp_path / name / "0.png", columns)
    inner = load_images(tmp_path, side=16)[0][0][:, 2:-2, 2:-2].double()
    assert (inner / 255 - 0.5).abs().max() < 0.1


def test_an_archive(tmp_path) -> None:
    _archive(tmp_path / "set.npz")
    images = load_images(tmp_path / "set.npz")
    assert images.classes == ("cat", "dog") and images.name == "set"
    x, labels = images.batch(range(3))
    assert x.shape == (3, 3, 4, 6) and labels.tolist() == [0, 1, 1]
    assert x[:, 0, 0, 0].tolist() == pytest.approx([0, 40 / 255, 80 / 255])


def test_a_subset_is_spread_over_the_set(folders) -> None:
    some = load_images(folders, side=8).spread(2)
    assert some.labels == (0, 1) and some.keys == ("cat/0.png", "dog/0.png")
    assert len(some.spread(5)) == 2 and (some[1][0] == 3).all()


def test_the_built_in_digits() -> None:
    train, test = load_images("digits:train"), load_images("digits:test")
    assert len(train) + len(test) == 1797 and not set(train.keys) & set(test.keys)
    assert set(test.labels) == set(range(10))
    assert test.keys == tuple(str(i) for i in range(4, 1797, 5))  # the published accuracies are of these
    x, _ = test.batch(range(4))
    assert x.shape == (4, 3, 8, 8) and x.max() == 1 and torch.equal(x[:, 0], x[:, 2])


def test_torchvision_sets_that_are_here(tmp_path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, labels in (("train", [1, 2]), ("t10k", [7, 3])):
        images = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(28 * 28) + b"\xff" * (28 * 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, *labels]))
    images = load_images(f"torchvision:MNIST:test:{tmp_path}")
    assert images.labels == (7, 3) and (images[1][0] == 255).all() and images[1][0].shape == (3, 28, 28)
    assert load_images(f"torchvision:MNIST:train:{tmp_path}").labels == (1, 2)


def test_the_kit(shared) -> None:
    images = load_images(shared / "data/cls/cifar10_jpeg_test.npz")
    assert len(images) == 10_000 and len(images.classes) == 10 and images.classes[0] == "airplane"
    assert images.batch([0, 9_999])[0].shape == (2, 3, 32, 32)
    scenes = load_images(shared / "data/cls/ucm10_test.npz", side=64).spread(20)
    assert scenes.batch(range(20))[0].shape == (20, 3, 64, 64) and len(set(scenes.labels)) == 10


def test_an_empty_class_is_told(folders) -> None:
    (folders / "fish").mkdir()
    with pytest.raises(UserError, match=r"class .*fish is empty"):
        load_images(folders)


@pytest.mark.parametrize(
    "source, message",
    [
        ("nowhere", "nowhere is not a folder"),
        ("nowhere.npz", "no images at nowhere.npz"),
        ("digits:tset", "did you mean 'test'"),
        ("torchvision:CIFAR10", "write torchvision:NAME:train:ROOT"),
        ("torchvision:CIFAR11:train:here", "did you mean 'CIFAR10'"),
        ("torchvision:CIFAR10:train:here", "CIFAR10 is not under here"),
    ],
)
def test_mistakes(source, message, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        load_images(source)


def test_damaged_archives(tmp_path) -> None:
    (tmp_path / "set.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match="no archive of labelled images"):
        load_images(tmp_path / "set.npz")
    np.savez(tmp_path / "set.npz", buf=np.zeros(3))
    with pytest.raises(UserError, match="no archive of labelled images"):
        load_images(tmp_path / "set.npz")
    _archive(tmp_path / "set.npz", labels=(0, 2, 2))
    with pytest.raises(UserError, match="without a gap"):
        load_images(tmp_path / "set.npz")
    _archive(tmp_path / "set.npz", labels=(0, 1))
    with pytest.raises(UserError, match="damaged: 2 labels, 3 names"):
        load_images(tmp_path / "set.npz")
    _archive(tmp_path / "set.npz", cut=60)
    with pytest.raises(UserError, match=r"dog/1\.png in .* cannot be decoded"):
        load_images(tmp_path / "set.npz")[2]


def test_a_single_class_is_none(tmp_path) -> None:
    write_image(tmp_path / "only" / "a.png", torch.zeros(3, 4, 4))
    with pytest.raises(UserError, match="holds 1 folders"):
        load_images(tmp_path)


@pytest.mark.parametrize(
    "key, values, message",
    [
        ("label", np.array(["a", "b", "c"]), "label must be a row of whole numbers"),
        ("label", np.array(1), "label must be a row of whole numbers"),
        ("offs", np.array([0.0, 1, 2, 3]), "offs must be a row of whole numbers"),
        ("offs", np.array([0, -5, 2, 3]), "offsets must rise"),
        ("offs", np.array([0, 1, 2, 10**9]), "offsets must rise"),
        ("buf", np.zeros((2, 2), np.uint8), "buf must be a row of bytes"),
        ("name", np.array([1, 2, 3]), "name must be a row of texts"),
    ],
)
def test_archives_of_other_types(key, values, message, tmp_path) -> None:
    _archive(tmp_path / "set.npz")
    with np.load(tmp_path / "set.npz") as archive:
        np.savez(tmp_path / "set.npz", **{**dict(archive), key: values})
    with pytest.raises(UserError, match=message):
        load_images(tmp_path / "set.npz")


def test_a_batch_that_memory_cannot_hold(folders, monkeypatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 2**20}))
    with pytest.raises(UserError, match="a batch of 6 images of 256 px needs at least"):
        load_images(folders, side=256).batch(range(6))
    load_images(folders, side=16).batch(range(6))

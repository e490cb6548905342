"""RAW captures in UDC-SIT's layout: what they hold, what they show, and every way of misreading them."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from udc_robust.data.annotations import read_annotations
from udc_robust.data.images import read_image
from udc_robust.data.raw import RawCaptures, Sensor
from udc_robust.errors import UserError
from udc_robust.optics.domains import RAW_PLANES, developed


def cells(seed: int = 0, size: tuple[int, int] = (12, 16)) -> np.ndarray:
    """A scene as a 10-bit sensor sees it: the greens alike, red and blue by themselves."""
    random = np.random.default_rng(seed)
    red, green, blue = (random.random(size) * scale for scale in (300, 800, 400))
    planes = [green, red, blue, green + random.normal(0, 3, size)]
    return np.stack(planes, -1).clip(0, 1023).round().astype(np.uint16)


@pytest.fixture
def sit(tmp_path):
    """A split of three pairs, with its annotations."""
    for part, gain in (("GT", 1.0), ("input", 0.5)):
        (tmp_path / "training" / part).mkdir(parents=True)
        for i in (1, 2, 10):
            np.save(tmp_path / "training" / part / f"{i}.npy", (cells(i) * gain).astype(np.uint16))
    (tmp_path / "annotation.csv").write_text(
        "Filename,Dataset,Indoor/Outdoor,Day/Night,Glare,Streak\n"
        "1,training,1,1,1,0\n2,training,3,2,0,0\n10,test,1,2,1,1\n11,test,1,1,0,1\n"
    )
    return tmp_path


def test_a_split_is_pairs_of_planes_in_their_order(sit) -> None:
    captures = RawCaptures(sit / "training", None, Sensor(), develop=False)
    assert captures.keys() == ["1", "2", "10"] and captures.sizes() == [(12, 16)] * 3 and len(captures.files()) == 6
    sample = captures[0]
    assert sample.domain == "raw" and sample.lq.shape == (4, 12, 16) and sample.gt is not None
    assert torch.allclose(sample.gt[1] * 1023, torch.from_numpy(cells(1)[..., 1].astype(np.float32)))
    assert "10 bits" in captures.domain_told
    other = cells(1)[..., [1, 0, 3, 2]]  # R, GR, GB, B
    np.save(sit / "rggb.npy", other)
    read = Sensor(pattern=("R", "GR", "GB", "B")).planes(sit / "rggb.npy")
    assert torch.equal(read, sample.gt)


def test_a_developed_capture_is_a_picture_of_red_green_and_blue(sit) -> None:
    sensor = Sensor(white_balance=(1.5, 1.0, 2.0))
    picture = RawCaptures(sit / "training" / "input", sit / "training" / "GT", sensor, develop=True)[0]
    assert picture.domain == "srgb" and picture.gt is not None and picture.gt.shape == (3, 12, 16)
    assert torch.equal(picture.gt, developed(sensor.planes(sit / "training" / "GT" / "1.npy"), (1.5, 1.0, 2.0)))
    planes = torch.full((4, 1, 1), 0.1)
    planes[0], planes[1] = 0.2, 0.3
    red, green, blue = developed(planes, (1.0, 1.0, 2.0)).flatten().tolist()
    assert red > green and green == pytest.approx(1.055 * 0.15 ** (1 / 2.4) - 0.055, rel=1e-5)
    assert blue == pytest.approx(1.055 * 0.2 ** (1 / 2.4) - 0.055, rel=1e-5)
    assert developed(planes * 9).max() == pytest.approx(1)


def test_without_ground_truth(sit) -> None:
    assert RawCaptures(sit / "training" / "input", None, Sensor(), develop=True)[0].gt is None


def test_four_planes_are_never_taken_for_colours(sit) -> None:
    for array in (cells(), cells().astype(np.float32)):
        np.save(sit / "planes.npy", array)
        with pytest.raises(UserError, match="RAW data is read by `kind: raw`"):
            read_image(sit / "planes.npy")


@pytest.mark.parametrize(
    "array, sensor, message",
    [
        (cells() * 4, Sensor(), r"holds \d+, more than 10 bits: set `bits` of the data, 12 or more"),
        (cells() / 1023, Sensor(), "shares of full scale"),
        (-cells().astype(np.int32), Sensor(), "no sensor gives"),
        (cells()[..., :3], Sensor(), r"\(12, 16, 3\): RAW captures are planes \(H,W,4\)"),
        (cells()[..., [1, 0, 3, 2]], Sensor(), r"R and B are alike .* set `pattern`"),
    ],
)
def test_another_pattern_or_bit_depth_is_refused(array, sensor, message, tmp_path) -> None:
    np.save(tmp_path / "one.npy", array)
    with pytest.raises(UserError, match=message) as caught:
        RawCaptures(tmp_path / "one.npy", None, sensor, develop=False)[0]
    assert "one.npy" in str(caught.value)


def test_partners_and_their_sizes(sit) -> None:
    np.save(sit / "training" / "GT" / "2.npy", cells(2, (12, 14)))
    with pytest.raises(UserError, match=r"input/2\.npy is 12x16 but .*GT/2\.npy is 12x14"):
        RawCaptures(sit / "training", None, Sensor(), develop=False)
    (sit / "training" / "GT" / "10.npy").unlink()
    with pytest.raises(UserError, match=r"input/10\.npy has no ground truth"):
        RawCaptures(sit / "training", None, Sensor(), develop=False)


@pytest.mark.parametrize(
    "pattern, order", [([[1, 0], [2, 3]], ["GR", "R", "B", "GB"]), ([[2, 1], [3, 0]], ["B", "GB", "GR", "R"])]
)
def test_a_dng_by_rawpy(pattern, order, tmp_path, monkeypatch) -> None:
    planes, black, white = cells().astype(np.float32), [64, 60, 70, 80], 1200
    mosaic, expected = np.zeros((24, 32), dtype=np.uint16), planes.copy()
    for name, index, (row, column) in zip(order, np.ravel(pattern), [(0, 0), (0, 1), (1, 0), (1, 1)], strict=True):
        plane = RAW_PLANES.index(name)
        mosaic[row::2, column::2] = planes[..., plane] + black[index]
        expected[..., plane] /= white - black[index]

    class Raw:
        color_desc, raw_pattern = b"RGBG", np.array(pattern)
        raw_image_visible, black_level_per_channel, white_level = mosaic, black, white

        def __enter__(self):
            return self

        def __exit__(self, *how) -> None:
            pass

    monkeypatch.setitem(sys.modules, "rawpy", SimpleNamespace(imread=lambda path: Raw()))
    (tmp_path / "a.dng").write_bytes(b"x")
    captures = RawCaptures(tmp_path, None, Sensor(), develop=False)
    assert captures.sizes() == [(12, 16)]
    assert torch.allclose(captures[0].lq, torch.from_numpy(expected.transpose(2, 0, 1)), atol=1e-6)
    monkeypatch.setattr(Raw, "raw_pattern", np.array([[1, 0, 1], [2, 3, 2]]))
    with pytest.raises(UserError, match=r"a\.dng has no Bayer pattern"):
        captures[0]
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(UserError, match="needs rawpy: pip install"):
        RawCaptures(tmp_path, None, Sensor(), develop=False)


def test_annotations_are_labels_of_the_images_asked_for(sit) -> None:
    path, keys = sit / "annotation.csv", ["1", "2", "10"]
    found = read_annotations(path, keys, {"Day/Night": {"1": "day", "2": "night"}})
    assert found["1"] == ["Indoor/Outdoor 1", "day", "Glare", "no Streak"]
    assert found["2"] == ["Indoor/Outdoor 3", "night", "no Glare", "no Streak"] and list(found) == keys


@pytest.mark.parametrize(
    "text, names, message",
    [
        (None, None, "no row for the image '7'"),
        (None, {"Weather": {}}, "no column 'Weather': it has Filename, Dataset"),
        ("Filename,Glare\n7,1,2\n", None, "more or fewer fields"),
        ("", None, "have no columns"),
    ],
)
def test_annotations_that_do_not_match(text, names, message, sit) -> None:
    path = sit / "annotation.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_annotations(path, ["7"], names)
    with pytest.raises(UserError, match="cannot be read"):
        read_annotations(sit / "none.csv", ["7"])

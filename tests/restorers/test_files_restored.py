"""`restore` and `attack` on files, as a user calls them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from udc_robust.data.images import read_image, write_image
from udc_robust.errors import UserError
from udc_robust.restorers.files import restore_files
from udc_robust.restorers.zoo import RestorerSpec, load_restorer

TINY = RestorerSpec("tiny", "DISCNet", {"nf": 4, "kernel_cond": "img", "multi_scale": True})


@pytest.fixture
def photos(tmp_path):
    for name, size in (("a", (40, 56)), ("b", (33, 31))):
        write_image(tmp_path / "photos" / f"{name}.png", torch.rand(3, *size))
    return tmp_path


def test_files_and_folders_of_any_size(photos) -> None:
    written = list(restore_files([photos / "photos"], TINY, photos / "out"))
    assert [path.name for path in written] == ["a.png", "b.png"]
    restorer = load_restorer(TINY, "srgb")
    for path in written:
        x = read_image(photos / "photos" / path.name).pixels[None]
        with torch.no_grad():
            expected = restorer(x)[0]
        assert torch.allclose(read_image(path).pixels, expected, atol=0.5 / 255 + 1e-6)


LOCAL = """
from torch import nn

class Local(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, 3, 5, padding=2))
"""


def test_tiles_give_the_same_where_the_network_is_local(photos, capsys) -> None:
    (photos / "local.py").write_text(LOCAL)
    local = RestorerSpec("local", f"{photos / 'local.py'}:Local")
    whole, tiles = (
        read_image(next(restore_files([photos / "photos" / "a.png"], local, photos / f"t{tile}", tile=tile))).pixels
        for tile in (0, 48)
    )
    assert torch.equal(tiles, whole) and "a little differently" not in capsys.readouterr().err


def test_tiles_smaller_than_the_reach_are_refused(photos) -> None:
    with pytest.raises(UserError, match=r"`tile` 32 is too small, tiny looks \d+ px .*: set `tile` to \d+ or more"):
        next(restore_files([photos / "photos" / "a.png"], TINY, photos / "t", tile=32, overlap=4))


def test_linear_files_come_back_linear(photos) -> None:
    np.save(photos / "scene.npy", np.random.default_rng(0).random((24, 24, 3), dtype=np.float32) * 5)
    list(restore_files([photos / "scene.npy"], TINY, photos / "out"))
    assert np.load(photos / "out" / "scene.npy").max() > 1 and (photos / "out" / "scene.png").is_file()


def test_sixteen_bits_go_in_and_come_out(photos) -> None:
    import tifffile

    gradient = np.linspace(20_000, 21_000, 40 * 40).reshape(40, 40).astype(np.uint16)
    tifffile.imwrite(photos / "deep.tif", np.stack([gradient, gradient + 7, gradient + 900], -1), photometric="rgb")
    (photos / "same.py").write_text("from torch.nn import Identity as Same\n")
    same = RestorerSpec("same", f"{photos / 'same.py'}:Same")
    (deep,) = restore_files([photos / "deep.tif"], same, photos / "out", bits=16)
    before, after = read_image(photos / "deep.tif"), read_image(deep)
    assert after.bits == 16 and torch.equal(after.pixels, before.pixels)
    (shallow,) = restore_files([photos / "deep.tif"], same, photos / "out8")
    assert read_image(shallow).bits == 8


def test_mistakes(photos) -> None:
    with pytest.raises(UserError, match="unknown domain 'sgrb'"):
        list(restore_files([photos / "photos"], TINY, photos / "out", domain="sgrb"))
    Image.new("RGB", (20, 20)).save(photos / "a.jpg")
    with pytest.raises(UserError, match="several images are called 'a'"):
        list(restore_files([photos / "photos", photos / "a.jpg"], TINY, photos / "out"))


def test_the_attack_verb_writes_images_a_table_and_a_report(photos) -> None:
    arguments = ["attack", "photos", "--restorer", "nafnet_mini", "--eps", "2/255", "--steps", "2", "--out", "attacked"]
    result = subprocess.run(
        [sys.executable, "-m", "udc_robust", *arguments], capture_output=True, text=True, cwd=photos
    )
    assert result.returncode == 0, result.stderr
    assert (photos / "attacked" / "report.html").is_file() and "pgd" in result.stdout
    attacked = read_image(photos / "attacked" / "images" / "images" / "a" / "nafnet_mini" / "pgd-linf-2_255.input.png")
    original = read_image(photos / "photos" / "a.png")
    assert 0 < (attacked.pixels - original.pixels).abs().max() <= 2 / 255 + 1e-6

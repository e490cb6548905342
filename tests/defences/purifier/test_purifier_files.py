"""`purify` on files, as a user calls it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from tiny_purifier import tiny_unet

from udc_robust.attacks import image_seed
from udc_robust.data.images import read_image, write_image
from udc_robust.defences.purifier.files import purify_files
from udc_robust.defences.purifier.pipeline import PurificationPipeline, load_purifier
from udc_robust.errors import UserError


@pytest.fixture
def photos(tmp_path):
    for name, size in (("a", (20, 28)), ("b", (17, 15))):
        write_image(tmp_path / "photos" / f"{name}.png", torch.rand(3, *size))
    pipeline = PurificationPipeline(tiny_unet(), DDPMScheduler(clip_sample=False), max_noise_level=60)
    pipeline.save_pretrained(tmp_path / "model")
    return tmp_path


def test_files_are_purified_with_noise_of_their_own(photos) -> None:
    written = list(purify_files([photos / "photos"], photos / "model", photos / "out", {"samples": 2}, seed=3))
    assert [path.name for path in written] == ["a.png", "b.png"]
    pipeline = load_purifier(photos / "model")
    for path in written:
        x = read_image(photos / "photos" / path.name).pixels
        generator = torch.Generator().manual_seed(image_seed(3, path.stem, "purify"))
        expected = pipeline(x, samples=2, generator=generator, output_type="pt").images[0]
        assert torch.allclose(read_image(path).pixels, expected, atol=0.5 / 255 + 1e-6)
    alone = next(purify_files([photos / "photos" / "b.png"], photos / "model", photos / "b", {"samples": 2}, seed=3))
    assert alone.read_bytes() == written[1].read_bytes()


def test_linear_files_come_back_linear(photos) -> None:
    np.save(photos / "scene.npy", np.random.default_rng(0).random((16, 16, 3), dtype=np.float32) * 5)
    png = next(purify_files([photos / "scene.npy"], photos / "model", photos / "out", {"noise_level": 0}))
    linear = np.load(png.with_suffix(".npy"))
    assert linear.shape == (16, 16, 3) and linear.max() > 1.5
    mapped = linear / (linear + 0.25)
    assert np.abs(read_image(png).pixels.permute(1, 2, 0).numpy() - mapped).max() < 0.51 / 255


def test_mistakes(photos) -> None:
    write_image(photos / "other" / "a.png", torch.rand(3, 8, 8))
    for images, model, options, message in (
        ([photos / "photos", photos / "other"], "model", {}, "several images are called 'a'"),
        ([photos / "photos"], "nowhere", {}, "unknown purifier"),
        ([photos / "photos"], "model", {"noise_level": 61}, "above 60"),
        ([photos / "nowhere.png"], "model", {}, "nowhere.png does not exist"),
    ):
        with pytest.raises(UserError, match=message):
            list(purify_files(images, photos / model, photos / "out", options))
    with pytest.raises(UserError, match="device 'cuda:99'"):
        list(purify_files([photos / "photos"], photos / "model", photos / "out", {}, device="cuda:99"))


def test_the_command(photos) -> None:
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "udc_robust", "purify", "photos", "--model", "model", *options]
        return subprocess.run(command, cwd=photos, capture_output=True, text=True)

    done = run("--sigma", "10/255", "--sampler", "ddim", "--steps", "2", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["out/a.png", "out/b.png"]
    wrong = run("--sigma", "ten")
    assert wrong.returncode == 2 and "--sigma 'ten' is not a number" in wrong.stderr

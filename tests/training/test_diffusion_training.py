"""Training of a diffusion model: it learns, it resumes to the same weights, and its mistakes are told."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from udc_robust.attacks import Streams
from udc_robust.config_file import check_config
from udc_robust.data.images import write_image
from udc_robust.data.samples import SingleFolder
from udc_robust.defences.purifier.pipeline import PurificationPipeline, load_purifier
from udc_robust.errors import UserError
from udc_robust.metrics import psnr
from udc_robust.training import diffusion as training
from udc_robust.training.batches import NoisyBatches, loader
from udc_robust.training.config import DiffusionConfig


@pytest.fixture
def folders(tmp_path):
    """Smooth scenes, which are easy to tell from noise."""
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 6), ("validation", 2)):
        for i in range(count):
            scene = nn.functional.interpolate(torch.rand(1, 3, 4, 4, generator=generator), (32, 40), mode="bilinear")[0]
            write_image(tmp_path / part / f"{i}.png", scene)
    return tmp_path


def _config(folders, **changes) -> DiffusionConfig:
    values = {
        "name": "tiny", "train": folders / "train", "validation": folders / "validation",
        "block_out_channels": [8, 16], "norm_num_groups": 4, "patch_size": 16, "batch_size": 4, "steps": 24,
        "lr": 0.01, "warmup": 3, "ema": 0.9, "max_noise_level": 60, "noise_level": 30,
        "validate_every": 12, "save_every": 8,
    }  # fmt: skip
    return check_config({**values, **changes}, DiffusionConfig, "test")


def test_it_learns_and_leaves_a_pipeline_with_a_card(folders) -> None:
    facts = training.train_diffusion(_config(folders, steps=150, batch_size=8), folders / "out")
    figures = facts["validation"]["one_step"]
    assert list(figures) == ["10", "20", "50"]  # 100 is above the trained range
    assert figures["50"][0] == pytest.approx(21.1, abs=0.3)  # the noise of the published schedule
    assert figures["50"][1] > figures["50"][0] + 4
    folder = folders / "out" / "tiny"
    pipeline = load_purifier(folder)
    assert (pipeline.config["noise_level"], pipeline.config["max_noise_level"]) == (30, 60)
    assert not pipeline.scheduler.config["clip_sample"]
    held_out = [sample.lq for sample in SingleFolder(folders / "validation")]
    again = training.one_step_psnr(pipeline, held_out)
    assert again[50] == pytest.approx(figures["50"], abs=1e-3)
    card = (folder / "README.md").read_text()
    assert f"| 50 | {figures['50'][0]:.2f} | {figures['50'][1]:.2f} |" in card and "6 images" in card
    assert json.loads(card.split("```json")[1].split("```")[0])["lr"] == 0.01
    assert json.loads((folder / "facts.json").read_text())["parameters"] == facts["parameters"]
    assert [path.name for path in (folders / "out").iterdir() if path.name.startswith(".")] == []


@torch.no_grad()
def test_one_step_figures_are_those_of_each_image_under_its_own_noise() -> None:
    from diffusers import DDPMScheduler, UNet2DModel

    unet = UNet2DModel(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, add_attention=False,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    pipeline = PurificationPipeline(unet.eval(), DDPMScheduler(clip_sample=False), max_noise_level=60)
    image, level = torch.rand(3, 15, 18), 60  # the highest trained level, and a size that is padded
    found = [
        training.one_step_psnr(pipeline, images, (level, 61), seed) for images, seed in (([image], 4), ([image], 5))
    ]
    both = training.one_step_psnr(pipeline, [image, image], (level,), 4)
    assert list(both) == list(found[0]) == [level]
    assert both[level] == pytest.approx([(a + b) / 2 for a, b in zip(*(each[level] for each in found), strict=True)])
    assert found[0][level] != found[1][level]
    purifier, x = pipeline.purifier(pipeline.plan(noise_level=level)), image[None]
    noise = purifier.draw(x, Streams([4]))
    noisy = x + pipeline.schedule.sigma(level) * noise[:, 0, 0, :, :15, :18]
    expected = [psnr(y.double(), x.double()).item() for y in (noisy, purifier(x, noise).clamp(0, 1))]
    assert found[0][level] == pytest.approx(expected)


def test_a_stopped_training_resumes_to_the_same_weights(folders, monkeypatch) -> None:
    training.train_diffusion(_config(folders), folders / "whole")
    true_loss, calls = training.loss_of, []

    def stops(*args):
        calls.append(1)
        if len(calls) > 14:  # after the state of step 8, before that of step 16
            raise KeyboardInterrupt
        return true_loss(*args)

    monkeypatch.setattr(training, "loss_of", stops)
    with pytest.raises(KeyboardInterrupt):
        training.train_diffusion(_config(folders), folders / "stopped")
    assert not (folders / "stopped" / "tiny").exists()
    monkeypatch.setattr(training, "loss_of", true_loss)
    training.train_diffusion(_config(folders), folders / "stopped")
    whole, resumed = (load_purifier(folders / name / "tiny").unet.state_dict() for name in ("whole", "stopped"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_loss_that_is_not_finite_stops(folders, monkeypatch) -> None:
    monkeypatch.setattr(training, "loss_of", lambda predicted, noise: predicted.sum() * float("nan"))
    with pytest.raises(UserError, match=r"loss is nan at step 0.*state\.pt"):
        training.train_diffusion(_config(folders), folders / "out")


def test_mistakes_in_data_and_folder(folders) -> None:
    training.train_diffusion(_config(folders, steps=8), folders / "out")
    with pytest.raises(UserError, match="another max_noise_level"):
        training.train_diffusion(_config(folders, steps=8, max_noise_level=50), folders / "out")
    with pytest.raises(UserError, match="smaller than patch_size 64"):
        training.train_diffusion(_config(folders, patch_size=64), folders / "b")
    write_image(folders / "linear" / "a.npy", torch.full((3, 32, 32), 3.0))
    with pytest.raises(UserError, match=r"a\.npy is linear light"):
        training.train_diffusion(_config(folders, train=folders / "linear"), folders / "c")


def test_a_validation_of_another_domain_is_refused(folders) -> None:
    (folders / "set").mkdir()
    (folders / "validation").rename(folders / "set" / "lq")
    (folders / "set" / "manifest.json").write_text('{"domain": "tonemapped"}')
    with pytest.raises(UserError, match=r"0\.png is tonemapped, but the training is srgb"):
        training.train_diffusion(_config(folders, validation=folders / "set" / "lq", steps=1), folders / "out")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"block_out_channels": [6, 16]}, "6 must be a multiple of norm_num_groups 4"),
        ({"patch_size": 15}, "patch_size 15 must be a multiple of 2"),
        ({"max_noise_level": 1000}, "below ddpm_num_steps"),
        ({"noise_level": 61}, "must not be above max_noise_level 60"),
        ({"max_noise_leve": 10}, "did you mean 'max_noise_level'"),
    ],
)
def test_mistakes_in_the_config(folders, change, message) -> None:
    with pytest.raises(UserError, match=message):
        _config(folders, **change)


def test_batches_are_noised_as_they_say_and_depend_on_the_step_only(folders) -> None:
    samples = list(SingleFolder(folders / "train"))
    alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)

    def make(**changes) -> NoisyBatches:
        return NoisyBatches(samples, alphas, 9, **{"patch": 16, "batch": 8, "steps": 40, "seed": 1, **changes})

    whole = make()
    x_t, t, noise = whole[3]
    alpha = alphas[t].view(-1, 1, 1, 1)
    u = (x_t - (1 - alpha).sqrt() * noise) / alpha.sqrt()
    assert x_t.shape == (8, 3, 16, 16) and u.min() > -1.001 and u.max() < 1.001
    assert torch.allclose((u + 1) * 127.5, ((u + 1) * 127.5).round(), atol=1e-3)  # the very 8-bit image is in there
    levels = torch.cat([whole[step][1] for step in range(40)])
    assert set(levels.tolist()) == set(range(10))  # the whole restricted range, its top included
    late = list(loader(whole, 38))
    assert len(late) == 2 and torch.equal(late[0][0], whole[38][0])
    shares = [make(rank=rank, ranks=2)[3][0] for rank in range(2)]
    assert torch.equal(torch.stack(shares, 1).flatten(0, 1), x_t)
    assert not torch.equal(make(seed=2)[3][0], x_t)

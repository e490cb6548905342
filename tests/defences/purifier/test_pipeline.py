"""The diffusers pipeline: it is the core, it survives saving, and it tells mistakes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from PIL import Image
from tiny_purifier import TinyRestorer, images, tiny_unet

from udc_robust.attacks import Streams
from udc_robust.defences.defence import Defended
from udc_robust.defences.purifier.gradients import Checkpointed
from udc_robust.defences.purifier.pipeline import PurificationPipeline, load_purifier
from udc_robust.defences.purifier.plan import Plan
from udc_robust.errors import UserError


def pipeline(**options) -> PurificationPipeline:
    made = PurificationPipeline(
        tiny_unet(), DDPMScheduler(clip_sample=False), **{"noise_level": 20, "max_noise_level": 60, **options}
    )
    made.set_progress_bar_config(disable=True)
    return made


def generators(count: int, seed: int = 7) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


@pytest.mark.parametrize(
    "options, nfe",
    [
        ({}, 1),
        ({"samples": 3}, 3),
        ({"sampler": "ddim"}, 5),
        ({"sampler": "ddim", "steps": 2, "samples": 2, "eta": 0.7}, 4),
        ({"sampler": "ancestral", "noise_level": 3}, 4),
    ],
)
def test_a_call_is_the_core_clamped_once(options, nfe) -> None:
    made, x, calls = pipeline(), images(2, 13, 18), []
    handle = made.unet.register_forward_hook(lambda _, given, __: calls.extend(range(len(given[0]))))
    output = made(x, generator=generators(2), output_type="pt", **options)
    handle.remove()
    assert output.nfe == nfe == len(calls) / len(x) and output.noise_level == options.get("noise_level", 20)
    plan = made.plan(**options)
    purifier = made.purifier(plan)
    noise = torch.stack(_noise(made, x, plan))
    expected = purifier(x, noise)
    assert torch.allclose(output.images, expected.clamp(0, 1), atol=1e-6)
    assert output.images.shape == x.shape and not output.images.requires_grad
    as_tuple = made(x, generator=generators(2), output_type="pt", return_dict=False, **options)
    assert torch.equal(as_tuple[0], output.images) and as_tuple[1:] == (nfe, output.noise_level)


def _noise(made: PurificationPipeline, x: torch.Tensor, plan: Plan) -> list[torch.Tensor]:
    return [made.prepare_noise(x[i : i + 1], plan, generators(1, 7 + i))[0] for i in range(len(x))]


def test_levels_by_sigma_and_strength() -> None:
    made, x = pipeline(), images()
    by_level = made(x, noise_level=30, generator=generators(2), output_type="pt").images
    sigma = made.schedule.sigma(30)
    assert torch.equal(made(x, sigma=sigma, generator=generators(2), output_type="pt").images, by_level)
    assert torch.equal(made(x, strength=0.03, generator=generators(2), output_type="pt").images, by_level)
    assert not torch.equal(made(x, generator=generators(2), output_type="pt").images, by_level)
    assert made.plan(noise_level=60).noise_level == 60  # the highest it was trained on
    assert made.plan().noise_level == 20 and pipeline(max_noise_level=None).plan(noise_level=999).noise_level == 999


def test_an_image_does_not_depend_on_its_batch() -> None:
    made, x = pipeline(), images(3)
    options = {"sampler": "ddim", "steps": 3, "eta": 1.0, "output_type": "pt"}
    whole = made(x, generator=generators(3), **options).images
    for i in range(3):
        alone = made(x[i], generator=torch.Generator().manual_seed(7 + i), **options).images
        assert torch.allclose(alone[0], whole[i], atol=1e-5)


def test_pictures_and_arrays_in_and_out() -> None:
    made = pipeline()
    array = (images(2, 10, 12).permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    pictures = [Image.fromarray(one) for one in array]
    x = torch.from_numpy(array).permute(0, 3, 1, 2).float() / 255
    expected = made(x, generator=generators(2), output_type="pt").images
    for given in (pictures, array.astype(np.float32) / 255):
        assert torch.allclose(made(given, generator=generators(2), output_type="pt").images, expected, atol=1e-6)
    as_arrays = made(x, generator=generators(2), output_type="np").images
    assert np.allclose(as_arrays, expected.permute(0, 2, 3, 1).numpy())
    purified = made(pictures[0], generator=generators(1)).images
    assert isinstance(purified[0], Image.Image) and purified[0].size == (12, 10)
    assert np.abs(np.asarray(purified[0]) / 255 - as_arrays[0]).max() < 0.51 / 255 + 1e-6
    grey = made(pictures[0].convert("L"), output_type="pt").images
    assert grey.shape == (1, 3, 10, 12)


def test_saving_and_loading_changes_nothing(tmp_path) -> None:
    made, x = pipeline(noise_level=11), images()
    made.save_pretrained(tmp_path / "saved")
    for loaded in (load_purifier(tmp_path / "saved"), PurificationPipeline.from_pretrained(tmp_path / "saved")):
        loaded.set_progress_bar_config(disable=True)
        assert (loaded.config["noise_level"], loaded.config["max_noise_level"]) == (11, 60)
        assert torch.equal(
            loaded(x, generator=generators(2), output_type="pt").images,
            made(x, generator=generators(2), output_type="pt").images,
        )
        with pytest.raises(UserError, match="above 60"):
            loaded(x, noise_level=61)


def test_tiles_and_callback() -> None:
    made, x, seen = pipeline(), images(1, 24, 40), []
    options = {"generator": generators(1), "output_type": "pt", "sampler": "ddim", "steps": 2}

    def callback(pipe, number, timestep, tensors):
        seen.append((pipe is made, number, timestep, tensors["x_t"].shape[-1]))

    tiled = made(x, tile=20, overlap=4, callback_on_step_end=callback, **options)
    whole = made(x, **{**options, "generator": generators(1)})
    timesteps = made.schedule.timesteps(20, 2)
    assert [entry[1:3] for entry in seen[:2]] == [(0, timesteps[0]), (1, timesteps[1])]
    assert len(seen) == 2 * (2 * 3) and all(entry[0] and entry[3] == 20 for entry in seen) and tiled.nfe == 2
    assert (tiled.images - whole.images).abs().mean() < 0.1 * (whole.images - x).abs().mean()


def test_its_purifier_is_differentiable_over_the_same_weights() -> None:
    made, x = pipeline(), images(1)
    purifier = made.purifier(made.plan(sampler="ddim", steps=2))
    victim = Defended(purifier, TinyRestorer(), Checkpointed())
    leaf = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(victim(leaf, Streams([3])).sum(), leaf)
    assert gradient.abs().min() > 0
    assert {id(p) for p in purifier.parameters()} == {id(p) for p in made.unet.parameters()}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"noise_level": 61}, r"noise_level 61 \(sigma 0\.1\d+\) is above 60"),
        ({"sigma": 0.5}, "is above 60"),
        ({"noise_level": 3, "strength": 0.1}, "one of noise_level, sigma and strength"),
        ({"generator": generators(3)}, "2 images need 2 generators"),
        ({"output_type": "latent"}, "unknown output_type"),
        ({"noise": 3}, "unknown key 'noise': did you mean 'noise_level'"),
        ({"sampler": "dim"}, "did you mean 'ddim'"),
        ({"tile": 9, "overlap": 1}, "tile 9 must be a multiple of 2"),
    ],
)
def test_impossible_calls(options, message) -> None:
    with pytest.raises(UserError, match=message):
        pipeline()(images(), **options)


@pytest.mark.parametrize(
    "given, message",
    [
        (torch.rand(1, 4, 8, 8), r"shape \(B,3,H,W\), not \(1, 4, 8, 8\)"),
        (torch.rand(1, 3, 0, 8), r"not \(1, 3, 0, 8\)"),
        (torch.rand(8, 8), "shape"),
        (torch.full((1, 3, 8, 8), 2.0), r"in \[0,1\], not in \[2, 2\]"),
        (torch.full((1, 3, 8, 8), torch.nan), "in \\[0,1\\]"),
        ([Image.new("RGB", (8, 8)), Image.new("RGB", (8, 9))], "one size"),
    ],
)
def test_unfit_images(given, message) -> None:
    with pytest.raises(UserError, match=message):
        pipeline()(given)


def test_images_smaller_than_the_unets_multiple_are_padded() -> None:
    made = pipeline()
    made.size_multiple = 8
    assert made(torch.rand(1, 3, 3, 1), output_type="pt").images.shape == (1, 3, 3, 1)


def test_unfit_models() -> None:
    unet = UNet2DModel(
        in_channels=3, out_channels=6, block_out_channels=(8,), norm_num_groups=4, add_attention=False,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip
    with pytest.raises(UserError, match="3 channels in and 6 out"):
        PurificationPipeline(unet, DDPMScheduler())
    with pytest.raises(UserError, match="predicts 'v_prediction'"):
        PurificationPipeline(tiny_unet(), DDPMScheduler(prediction_type="v_prediction"))


def test_broken_folders(tmp_path) -> None:
    folder = tmp_path / "saved"
    pipeline().save_pretrained(folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="cannot be loaded"):
        load_purifier(folder)
    weights.unlink()
    with pytest.raises(UserError, match=r"diffusion_pytorch_model\.safetensors missing"):
        load_purifier(folder)
    weights.write_bytes(content)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "unet": ["os", "system"]}))
    with pytest.raises(UserError, match="kind"):
        load_purifier(folder)
    (folder / "model_index.json").write_text("{")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_purifier(folder)
    with pytest.raises(UserError, match="unknown purifier"):
        load_purifier(tmp_path / "nowhere")

"""The table of defences: every kind is built and tuned as it says, and mistakes name the key and the mend."""

from __future__ import annotations

import inspect
import pickle

import pytest
import torch
from diffusers import DDPMScheduler
from skimage import data
from tiny_purifier import images, noise_for, tiny_unet

from udc_robust.data.images import write_image
from udc_robust.defences.filters.defence import build_network
from udc_robust.defences.halftone import core as halftone
from udc_robust.defences.purifier.core import Purifier
from udc_robust.defences.purifier.pipeline import PurificationPipeline
from udc_robust.defences.registry import DEFENCES, build_defence, check_defence, stated_texts
from udc_robust.errors import UserError
from udc_robust.networks.weights import save_weights

GDMP = {"noise_level": 20, "sampler": "ddim", "steps": 3, "eta": 1.0, "gdmp": "mse"}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, dict[str, str]]:
    """What the kinds that read files are given."""
    folder = tmp_path_factory.mktemp("files")
    pipeline = PurificationPipeline(tiny_unet(), DDPMScheduler(clip_sample=False), max_noise_level=150)
    pipeline.save_pretrained(folder / "model")
    write_image(folder / "clean" / "a.png", torch.rand(3, 20, 24))
    model, clean = {"purifier": str(folder / "model")}, {"images": str(folder / "clean")}
    filters = {}
    for kind, options in (("lq_vae", {"latents": 4, "width": 4}), ("atop", {"width": 4})):
        file = folder / f"{kind}.safetensors"
        save_weights(file, build_network(kind, options), {"network": kind, "options": options})
        filters[kind] = {"weights": str(file)}
    return {"purifier": model, "denoiser": model, "quilting": clean, **filters}


@pytest.mark.parametrize("kind", DEFENCES)
def test_every_kind_is_built_with_its_defaults(kind, files) -> None:
    options = files.get(kind, {})
    assert set(options) <= set(DEFENCES[kind].files)
    made, x = build_defence(kind, options), images(2, 12, 14)
    noise = noise_for(made, x)
    assert len(noise) == 2 and (noise.numel() > 0) == made.random
    y = made(x, noise)
    assert y.shape == x.shape and y.isfinite().all()
    assert {"bpda", "adaptive"} <= set(made.gradients) <= {"bpda", "surrogate", "adaptive"}
    assert not made.training and not any(p.requires_grad for p in made.parameters())


@pytest.mark.parametrize("kind", [name for name in DEFENCES if name != "purifier"])
def test_what_is_built_can_be_pickled_and_built_again(kind, files) -> None:
    x = images(1, 12, 12)
    made, again = (build_defence(kind, files.get(kind, {})) for _ in range(2))
    noise = noise_for(made, x)
    assert torch.equal(made(x, noise), again(x, noise))
    assert torch.allclose(made(x, noise), pickle.loads(pickle.dumps(made))(x, noise), atol=1e-6)


@pytest.mark.parametrize("kind", [name for name, kind in DEFENCES.items() if kind.strength and name != "denoiser"])
def test_strength_is_damage_from_end_to_end(kind) -> None:
    strength = DEFENCES[kind].strength
    photo = torch.from_numpy(data.astronaut()[60:108, 180:236].copy()).permute(2, 0, 1)[None] / 255
    low, high = strength.weakest, strength.strongest
    damages = []
    for share in (0, 0.5, 1):
        value = low + share * (high - low)
        made = build_defence(kind, {strength.option: round(value) if strength.whole else value})
        damages.append((made(photo, noise_for(made, photo)) - photo).square().mean().item())
    assert damages[0] < damages[1] < damages[2]
    assert damages[0] < 4e-3 and damages[2] > 4e-4  # 200 deflections already change a small picture


def test_strength_is_an_option_that_a_config_may_give(files) -> None:
    for name, kind in DEFENCES.items():
        if kind.strength:
            value = round(kind.strength.weakest) if kind.strength.whole else kind.strength.weakest
            checked = check_defence(name, {**files.get(name, {}), kind.strength.option: value})
            assert checked[kind.strength.option] == value
            assert type(checked[kind.strength.option]) is (int if kind.strength.whole else float)
            assert check_defence(name, files.get(name, {}), matched=True) == files.get(name, {})


def test_numbers_as_people_write_them() -> None:
    assert check_defence("noise", {"sigma": "8/255"}) == {"sigma": 8 / 255}
    assert check_defence("blur", {"sigma": 1}) == {"sigma": 1.0}
    assert check_defence("jpeg", {"quality": 50.0}) == {"quality": 50}
    assert check_defence("purifier", {"purifier": "somewhere", "sigma": "10/255"})["sigma"] == 10 / 255


def test_the_purifier_is_that_of_the_plan(files) -> None:
    options = {**files["purifier"], "noise_level": 30, "sampler": "ddim", "steps": 3, "eta": 0.5, "samples": 2}
    made = build_defence("purifier", options)
    assert isinstance(made, Purifier) and made.nfe == 6
    assert (made.plan.noise_level, made.plan.steps, made.plan.eta) == (30, 3, 0.5)
    assert build_defence("purifier", {**files["purifier"], "sigma": made.schedule.sigma(30)}).plan.noise_level == 30


@pytest.mark.parametrize(
    "kind, options, change",
    [
        ("halftone", {}, {"serpentine": True}),
        ("halftone", {}, {"channels": "luminance"}),
        ("denoiser", {}, {"noise_level": 100}),
        ("drop_tv", {}, {"weight": 0.3}),
        ("drop_tv", {}, {"steps": 3}),
        ("tv", {}, {"steps": 3}),
        ("quilting", {"count": 500}, {"size": 7}),
        ("quilting", {"count": 500}, {"overlap": 1}),
        ("quilting", {"count": 500}, {"count": 20}),
        ("quilting", {"count": 500}, {"neighbours": 20}),
        ("atop", {}, {"hidden": 0.6}),
        ("atop", {}, {"patch": 8}),
        ("atop", {}, {"sigma": 0.3}),
        ("pixel_deflection", {}, {"deflections": 20}),
        ("pixel_deflection", {}, {"window": 2}),
        ("purifier", GDMP, {"gdmp_eps": 0.1}),
        ("purifier", GDMP, {"gdmp_scale": 100.0}),
    ],
)
def test_an_option_changes_the_answer(kind, options, change, files) -> None:
    x, said = images(1, 24, 28), {**files.get(kind, {}), **options}
    plain, other = (build_defence(kind, more) for more in (said, {**said, **change}))
    assert not torch.allclose(plain(x, noise_for(plain, x)), other(x, noise_for(other, x)), equal_nan=True)


def test_a_checkpoint_that_a_default_names_is_among_the_texts_that_make_a_run() -> None:
    assert halftone.LEARNED_INVERSE in stated_texts("halftone", {"inverse": "learned"})
    told = stated_texts("halftone", {"inverse": "learned", "restorer": "mine.safetensors"})
    assert "mine.safetensors" in told and halftone.LEARNED_INVERSE not in told


def test_options_are_those_of_the_builder() -> None:
    for kind in DEFENCES.values():
        if kind.options is None:
            assert set(kind.schema().model_fields) == {option.name for option in kind.parameters()}
            assert not any(option.annotation is inspect.Parameter.empty for option in kind.parameters())


@pytest.mark.parametrize(
    "kind, options, message",
    [
        ("blurr", {}, "unknown kind of defence 'blurr': did you mean 'blur'"),
        ("blur", {"sgima": 1}, "defence 'blur': unknown key 'sgima': did you mean 'sigma'"),
        ("blur", {"sigma": "wide"}, "defence 'blur': sigma: 'wide' is not a number"),
        ("blur", {"sigma": -1}, "defence 'blur': sigma must be in 0..100 pixels, not -1"),
        ("jpeg", {"quality": 7.5}, "defence 'jpeg': quality: .* integer"),
        ("jpeg", {"quality": 101}, r"defence 'jpeg': quality must be in 1\.\.100"),
        ("none", {"sigma": 1}, "defence 'none': unknown key 'sigma'"),
        ("purifier", {}, "defence 'purifier': purifier is missing"),
        ("purifier", {"purifier": "x", "noise": 3}, "unknown key 'noise': did you mean 'noise_level'"),
        ("halftone", {"channels": "luma"}, "defence 'halftone': unknown channels 'luma': .*each, grey, luminance"),
        (
            "halftone",
            {"inverse": "learned", "restorer": "nafnet_mni"},
            "unknown inverse .*: did you mean 'nafnet_mini'",
        ),
        ("purifier", {"purifier": "x", "steps": 2}, "defence 'purifier': .*sampler one_step takes one step"),
        ("purifier", {"purifier": "x", "gdmp": "mse"}, "gdmp guides noisy steps"),
        ("purifier", {"purifier": "x", "noise_level": 3, "sigma": 0.1}, "one of noise_level, sigma and strength"),
        ("halftone", {"method": "stuki"}, "defence 'halftone': unknown halftone method 'stuki': did you mean 'stucki'"),
    ],
)
def test_mistakes_in_a_config(kind, options, message) -> None:
    with pytest.raises(UserError, match=message):
        check_defence(kind, options)


def test_mistakes_in_tuning() -> None:
    with pytest.raises(
        UserError, match="'purifier' has no strength to tune: leave out `match`, or choose one of denoi"
    ):
        check_defence("purifier", {"purifier": "x"}, matched=True)
    with pytest.raises(UserError, match="`match` tunes quality; leave out one of the two"):
        check_defence("jpeg", {"quality": 50}, matched=True)


def test_mistakes_in_files(files, tmp_path) -> None:
    for kind, options, message in (
        ("purifier", {"purifier": str(tmp_path / "nowhere")}, "defence 'purifier': unknown purifier"),
        ("denoiser", {**files["denoiser"], "noise_level": 151}, "defence 'denoiser': noise_level 151 .* is above 150"),
        ("quilting", {"images": str(tmp_path)}, "defence 'quilting': .* holds no image"),
        ("quilting", {**files["quilting"], "size": 21}, "20x24; quilting needs at least 21 px"),
        ("quilting", {**files["quilting"], "count": 0}, "count must be in 1..1000000 patches"),
    ):
        with pytest.raises(UserError, match=message):
            build_defence(kind, options)


def test_a_purifier_takes_guidance(files) -> None:
    steps = {**files["purifier"], "noise_level": 20, "sampler": "ddim", "steps": 3, "eta": 1.0}
    x = images(1)
    plain = build_defence("purifier", steps)
    noise = noise_for(plain, x)
    far = (plain(x, noise) - x).square().mean()
    for guide in ({"low_frequency": 2.0}, {"gdmp": "mse", "gdmp_eps": "4/255"}, {"gdmp": "ssim", "gdmp_scale": 1000}):
        assert (build_defence("purifier", {**steps, **guide})(x, noise) - x).square().mean() < far
    with pytest.raises(UserError, match="gdmp guides noisy steps"):
        build_defence("purifier", {**files["purifier"], "gdmp": "mse"})
    with pytest.raises(UserError, match="unknown gdmp 'mes': did you mean 'mse'"):
        build_defence("purifier", {**steps, "gdmp": "mes"})


def test_a_purifier_is_guided_in_the_features_of_a_robust_network(files) -> None:
    """A classifier or a restorer, moved and pickled with the purifier; attacks differentiate what it sees too."""
    steps = {**files["purifier"], "noise_level": 60, "sampler": "ddim", "steps": 3, "eta": 1.0}
    x = images(1, 16, 16)
    plain = build_defence("purifier", steps)
    noise = noise_for(plain, x)
    for guide, scale, classes in (("digits_mini", 30, 1.0), ("nafnet_mini", 100, 0.0)):
        guided = build_defence("purifier", {**steps, "agdm": guide, "agdm_scale": scale, "agdm_classes": classes})
        y = guided(x, noise)
        before, after = ((guided.guide(z)[0] - guided.guide(x)[0]).square().mean() for z in (plain(x, noise), y))
        assert after < before
        assert not any(p.requires_grad for p in guided.parameters())
        leaf = x.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(guided.gradients["adaptive"](guided, leaf, noise).square().sum(), leaf)
        assert slope.isfinite().all() and slope.abs().max() > 0
    for options, message in (
        ({"agdm": "digits_mni"}, "network to guide a purifier 'digits_mni': did you mean 'digits_mini'"),
        ({"agdm": "nafnet_mini", "agdm_classes": 1}, "is a restorer and knows no classes"),
        ({"agdm": "digits_mini", "eta": 0.0}, "agdm guides noisy steps"),
        ({"agdm": "digits_mini", "gdmp": "mse"}, "give one of gdmp and agdm"),
    ):
        with pytest.raises(UserError, match=message):
            build_defence("purifier", {**steps, **options})


def test_checking_reads_no_weights(monkeypatch) -> None:
    monkeypatch.setattr(halftone, "load_restorer", lambda *_: pytest.fail("weights were read"))
    for options in ({"inverse": "learned"}, {"inverse": "learned", "restorer": "nafnet_mini"}):
        assert check_defence("halftone", options) == options
    with pytest.raises(pytest.fail.Exception, match="weights were read"):
        build_defence("halftone", {"inverse": "learned"})

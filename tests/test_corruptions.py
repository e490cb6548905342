"""Each corruption does what it is called, more of it in higher severities, and the same for the same image."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from udc_robust.corruptions import (
    CORRUPTIONS,
    SceneChange,
    chance,
    corrupted_capture,
    corrupted_scene,
)
from udc_robust.grid.corruption_config import SEVERITIES
from udc_robust.metrics import psnr
from udc_robust.optics.domains import convert

RANDOM = {"gaussian_noise", "shot_noise", "impulse_noise", "motion", "fog", "rain", "snow"}


def _scene(side: int = 64) -> torch.Tensor:
    coarse = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")[0].clamp(0, 1)


def _done(name: str, severity: int = 3, image: torch.Tensor | None = None, domain: str = "srgb", seed: int = 0):
    image = _scene() if image is None else image
    return corrupted_capture(image, name, severity, domain, chance(seed, "image", name))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_damage_grows_with_severity(name) -> None:
    x = _scene()
    levels = [psnr(_done(name, severity)[None].double(), x[None].double()).item() for severity in SEVERITIES]
    assert all(after < before for before, after in pairwise(levels))
    assert levels[-1] < levels[0] < 50


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 41, 64)])
@pytest.mark.parametrize("domain", ["srgb", "tonemapped", "linear"])
def test_size_and_range_stay(name, shape, domain) -> None:
    high = 500.0 if domain == "linear" else 1.0
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * min(high, 3)
    y = _done(name, 5, x, domain)
    assert y.shape == x.shape and y.dtype == x.dtype and y.isfinite().all()
    assert y.min() >= 0 and y.max() <= high and not torch.equal(y, x)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_chance_belongs_to_the_image(name) -> None:
    torch.manual_seed(5)  # the global stream is not used, nor changed
    before = torch.random.get_rng_state()
    first = _done(name)
    torch.rand(7)
    assert torch.equal(_done(name), first)
    assert torch.equal(_done(name, seed=1), first) == (name not in RANDOM)
    torch.manual_seed(5)
    _done(name)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_known_amounts() -> None:
    grey = torch.full((3, 128, 128), 0.5)
    assert (_done("gaussian_noise", 1, grey) - grey).std().item() == pytest.approx(0.04, rel=0.02)
    assert _done("shot_noise", 5, grey).std().item() == pytest.approx((0.5 / 50) ** 0.5, rel=0.02)
    dots = _done("impulse_noise", 5, grey)
    assert (dots == 0).float().mean().item() == pytest.approx(0.035, rel=0.1)
    assert (dots == 1).float().mean().item() == pytest.approx(0.035, rel=0.1)
    x = _scene()
    torch.testing.assert_close(_done("contrast", 5).std((1, 2)), 0.15 * x.std((1, 2)))
    torch.testing.assert_close(_done("brightness", 1).amax(0), (x.amax(0) + 0.05).clamp(max=1))
    for name in ("defocus", "motion", "zoom"):  # they move light and make none
        torch.testing.assert_close(_done(name, 5, grey), grey)


@pytest.mark.parametrize("domain", ["srgb", "tonemapped", "linear"])
def test_exposure_is_of_light(domain) -> None:
    x = 0.1 * _scene()
    twice = convert(2 * convert(x[None], domain, "linear"), "linear", domain)[0]
    torch.testing.assert_close(_done("overexposure", 2, x, domain), twice, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["gaussian_noise", "fog", "contrast"])
def test_linear_light_is_changed_as_its_tone_mapped_image(name) -> None:
    light = 3 * _scene()
    mapped = _done(name, 3, convert(light[None], "linear", "tonemapped")[0], "tonemapped")
    found = convert(_done(name, 3, light, "linear")[None], "linear", "tonemapped")[0]
    torch.testing.assert_close(found, mapped, atol=1e-3, rtol=0)  # linear light ends at 500


@pytest.mark.parametrize("name", ["defocus", "motion", "fog", "rain"])
def test_a_picture_looks_the_same_at_every_size(name) -> None:
    """Lengths are shares of the side: on a dot, what is spread is spread by the same share."""
    reach = []
    for side in (64, 192):
        dot = torch.zeros(3, side, side)
        middle = slice(side * 31 // 64, side * 33 // 64)
        dot[:, middle, middle] = 1
        found = _done(name, 5, dot).mean(0)
        changed = (found - dot[0]).abs() > 0.02
        reach.append(changed.float().mean().item())
    assert reach[0] == pytest.approx(reach[1], abs=0.03, rel=0.5)


def test_scenes_know_no_noise_and_no_files() -> None:
    light = 40 * _scene()
    dim = corrupted_scene(light, "underexposure", 2, 64, torch.Generator())
    torch.testing.assert_close(dim, light / 2)
    for name in ("gaussian_noise", "jpeg", "contrast", "brightness", "pixelate"):
        with pytest.raises(ValueError, match="does not happen before the optics"):
            corrupted_scene(light, name, 1, 64, torch.Generator())


def test_a_change_of_scenes_is_of_each_scene_and_of_the_images_cut_from_it() -> None:
    light = 4 * _scene(96)
    change = SceneChange("rain", 5, 64, seed=0)
    assert change == SceneChange("rain", 5, 64, seed=0) and hash(change) == hash(SceneChange("rain", 5, 64, seed=0))
    assert torch.equal(change(light, "one"), change(light, "one"))
    assert not torch.equal(change(light, "one"), change(light, "other"))
    assert not torch.equal(change(light, "one"), SceneChange("rain", 5, 64, seed=1)(light, "one"))
    blurs = [SceneChange("defocus", 5, side, seed=0)(light, "one") for side in (16, 64)]
    assert blurs[0].std() > blurs[1].std()

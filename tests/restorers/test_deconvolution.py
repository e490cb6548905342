from __future__ import annotations

import numpy as np
import pytest
import torch

from udc_robust.errors import UserError
from udc_robust.metrics import psnr
from udc_robust.optics.capture import capture, tone_map
from udc_robust.optics.psf import named_psf
from udc_robust.restorers import deconvolution
from udc_robust.restorers.deconvolution import CLASSICAL, RichardsonLucy, TotalVariation, smoothed
from udc_robust.restorers.zoo import RestorerSpec, load_restorer, restorer_names


@pytest.fixture
def psf_file(tmp_path) -> str:
    """A skew PSF, which tells a convolution from its transpose."""
    psf = np.zeros((5, 5))
    psf[2, 2], psf[2, 3], psf[1, 4] = 0.5, 0.3, 0.2
    np.save(tmp_path / "skew.npy", psf)
    return str(tmp_path / "skew.npy")


def pair(psf: torch.Tensor, side: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """A capture and its scene: blocks in shadow and a light that does not clip."""
    scene = 0.05 + 0.4 * torch.rand(1, 3, side // 4, side // 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    scene[..., 10:14, 10:14] = 5.0
    return tone_map(capture(scene, psf)), tone_map(scene)


@pytest.mark.parametrize("name", CLASSICAL)
def test_they_undo_the_display_and_more_steps_undo_more(name, psf_file) -> None:
    exact = {} if name == "wiener" else {"tv": 0.0}
    few, many = (CLASSICAL[name](psf_file, steps=steps, **exact) for steps in (1, 12))  # type: ignore[arg-type]
    captured, scene = pair(few.psf)
    figures = [psnr(image, scene).item() for image in (captured, few(captured), many(captured))]
    assert figures[0] + 2 < figures[1] < figures[2] - 2
    wrong = CLASSICAL[name]("poled", steps=12)(captured)  # of another display it makes it worse
    assert psnr(wrong, scene).item() < figures[0]


@pytest.mark.parametrize("name", CLASSICAL)
def test_its_gradient_is_right_and_each_image_is_for_itself(name, psf_file) -> None:
    network = CLASSICAL[name](psf_file, steps=2).double()
    x = (0.1 + 0.8 * torch.rand(2, 3, 6, 7, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(network, (x,), fast_mode=True)
    with torch.no_grad():
        torch.testing.assert_close(network(x), torch.cat([network(x[:1]), network(x[1:])]))


@pytest.mark.parametrize("name", ["total_variation", "wiener"])
def test_clipped_light_is_not_believed(name, psf_file, monkeypatch) -> None:
    """What 255 stands for is light of 127 or of 500: taken for 500, its neighbours lack what it ought to spread."""
    network = CLASSICAL[name](psf_file)
    scene = torch.full((1, 3, 12, 12), 0.2)
    scene[..., 5:8, 5:8] = 250.0  # its capture is clipped, or nearly
    captured = (tone_map(capture(scene, network.psf)) * 255).round() / 255
    kept = psnr(network(captured), tone_map(scene))
    monkeypatch.setattr(deconvolution, "CLIPPED", 2.0)
    assert psnr(network(captured), tone_map(scene)) < kept - 0.1


@pytest.mark.parametrize("tone", [0.0, 0.5, 2.0])
def test_light_is_trusted_by_the_slope_of_the_tone_curve_to_the_power_tone(tone, psf_file, monkeypatch) -> None:
    network, seen = RichardsonLucy(psf_file, tone=tone), []
    monkeypatch.setattr(network, "deconvolved", lambda captured, trust: seen.append((captured, trust)) or captured)
    x = torch.linspace(0, 1, 48).view(1, 3, 4, 4)
    network(x)
    ((light, trust),) = seen
    (slope,) = torch.autograd.grad(tone_map(light.requires_grad_()).sum(), light)
    torch.testing.assert_close(trust, (slope / slope.flatten()[0]) ** tone * (x < 254.5 / 255))


def test_smoothing_lowers_total_variation_and_keeps_the_mean() -> None:
    light = torch.rand(1, 3, 16, 16)
    before, after = tone_map(light), tone_map(smoothed(light, 0.003))

    def variation(image: torch.Tensor) -> float:
        return (image.diff(dim=-1).abs().sum() + image.diff(dim=-2).abs().sum()).item()

    assert variation(after) < variation(before) and (after - before).mean().abs() < 1e-6


def test_by_name_in_every_grid_and_in_every_domain() -> None:
    for name in CLASSICAL:
        assert name in restorer_names()
        restorer = load_restorer(RestorerSpec(name), "srgb")
        assert restorer.trained and restorer.network_domain == "tonemapped" and restorer.whole_image
        assert "random" not in restorer.origin and "phone" in restorer.origin
        assert restorer(torch.rand(1, 3, 20, 30)).shape == (1, 3, 20, 30)
    assert named_psf("phone").device.type == "cpu"  # a rehearsal on the meta device left nothing in the cache


def test_the_psf_is_part_of_what_it_is(psf_file, tmp_path) -> None:
    def origin() -> str:
        return load_restorer(RestorerSpec("mine", "richardson_lucy", {"psf": psf_file}), "tonemapped").origin

    before = origin()
    np.save(psf_file, np.load(psf_file).T)
    assert before != origin() and "/" not in before
    first, second = RichardsonLucy(psf_file, steps=3), RichardsonLucy(psf_file, steps=4)
    assert not torch.equal(first.state_dict()["settings"], second.state_dict()["settings"])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"psf": "phon"}, "does not exist"),
        ({"psf": 3}, "psf must be the name"),
        ({"steps": 0}, "steps must be a whole number from 1 to 1000, not 0"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"tv": 0.1}, "tv must be a number from 0 to 0.005"),
        ({"tone": float("nan")}, "tone must be a number from 0 to 2"),
        ({"noise": 1}, "does not take these options"),
    ],
)
def test_options_that_are_no_options(options, message) -> None:
    with pytest.raises(UserError, match=message):
        load_restorer(RestorerSpec("total_variation", options=options), "srgb")


def test_weights_are_refused() -> None:
    with pytest.raises(UserError, match="has no weights: leave `weights`"):
        load_restorer(RestorerSpec("wiener", weights="a.pth"), "srgb")


def test_total_variation_holds_more_noise() -> None:
    captured, scene = pair(named_psf("phone"), 48)
    noisy = (captured + 0.03 * torch.randn(captured.shape)).clamp(0, 1)
    smooth, sharp = (TotalVariation(tv=tv, steps=5)(noisy) for tv in (0.003, 0.0))
    assert psnr(smooth, scene) > psnr(sharp, scene) + 1

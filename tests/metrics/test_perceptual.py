"""LPIPS: our form of the package's arithmetic, and what happens without weights."""

from __future__ import annotations

import urllib.error
from pathlib import Path

import lpips
import pytest
import torch

from udc_robust.metrics import LpipsUnavailable, load_lpips, lpips_distance, perceptual


@pytest.fixture(scope="module", params=["alex", "squeeze"])
def random_lpips(request):
    torch.manual_seed(1)
    return lpips.LPIPS(net=request.param, pnet_rand=True, verbose=False).eval().requires_grad_(False)


def test_same_value_as_the_package(random_lpips) -> None:
    a, b = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    ours = lpips_distance(random_lpips, a, b)
    assert torch.allclose(ours, random_lpips(a, b, normalize=True).flatten(), atol=1e-6)
    assert (ours > 0).all()


def test_gradient_is_finite_where_the_package_gives_nan(random_lpips) -> None:
    black = torch.zeros(1, 3, 64, 64, requires_grad=True)
    for parameter in random_lpips.net.parameters():
        parameter.abs_().neg_()  # every feature is zero after its ReLU
    (gradient,) = torch.autograd.grad(lpips_distance(random_lpips, black, torch.rand(1, 3, 64, 64)).sum(), black)
    assert gradient.isfinite().all()


def test_missing_weights_are_a_reason_not_a_failure(monkeypatch, tmp_path) -> None:
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(lpips, "LPIPS", refuse)
    perceptual._try_load.cache_clear()
    try:
        with pytest.raises(LpipsUnavailable, match=r"vgg16.*no network here"):
            load_lpips("vgg")
    finally:
        perceptual._try_load.cache_clear()


def test_a_missing_backbone_is_fetched_or_it_is_said_what_to_copy_where(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def fetched(url: str, path: str, hash_prefix: str) -> None:
        assert url.endswith("/squeezenet1_1-b8a52dc0.pth") and hash_prefix == "b8a52dc0"
        Path(path).write_bytes(b"weights")

    def offline(url: str, path: str, hash_prefix: str) -> None:
        raise OSError("no route")

    path = tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(LpipsUnavailable, match=r"no route\): copy https://\S+ \(5 MB\) to .*checkpoints/squeezenet"):
        perceptual.fetch_backbone("squeeze")
    monkeypatch.setattr("torch.hub.download_url_to_file", fetched)
    assert str(path) in perceptual.fetch_backbone("squeeze") and path.is_file()
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    assert "there already" in perceptual.fetch_backbone("squeeze")


def test_real_backbones_rank_and_an_attack_on_one_fools_that_one(shared, monkeypatch) -> None:
    """With the weights of the kit: a known order, and what red flags of fooled metrics are about."""
    monkeypatch.setenv("TORCH_HOME", str(shared / "data" / "weights" / "torch_home"))
    perceptual._try_load.cache_clear()
    try:
        alex, squeeze = load_lpips("alex"), load_lpips("squeeze")
        y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
        image = torch.stack([x, y, (x * 9).sin() / 2 + 0.5])[None] * 0.8 + 0.1
        grain = 4 / 255 * (torch.rand(image.shape) < 0.5).float().mul(2).sub(1)
        blurred = torch.nn.functional.avg_pool2d(image, 9, 1, 4)
        for network in (alex, squeeze):
            same, grainy, ruined = (
                lpips_distance(network, image, z).item() for z in (image, image + grain, image.flip(3))
            )
            assert same < 1e-6 < grainy < ruined and lpips_distance(network, image, blurred).item() < ruined
        adv = image + grain / 4
        for _ in range(15):
            adv = adv.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(lpips_distance(alex, adv, image).sum(), adv)
            adv = image + (adv + slope.sign() / 255 - image).clamp(-4 / 255, 4 / 255)
        worse = [
            (lpips_distance(network, adv.detach(), image) / lpips_distance(network, image + grain, image)).item()
            for network in (alex, squeeze)
        ]
        assert worse[0] > 3 and worse[0] > 2 * worse[1]  # beside grain of the same size
    finally:
        perceptual._try_load.cache_clear()

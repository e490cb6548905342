"""LPIPS: our form of the package's arithmetic, and what happens without weights."""

from __future__ import annotations

import urllib.error

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

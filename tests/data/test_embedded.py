"""The embedded default: no download, hard enough, and the same on every run."""

from __future__ import annotations

import pytest
import torch

from udc_robust.data.embedded import EmbeddedPairs
from udc_robust.errors import UserError


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10(((a - b).double() ** 2).mean()))


def test_pairs_are_as_hard_as_published_captures() -> None:
    data = EmbeddedPairs(count=8, size=128)
    degraded = []
    for sample, size in zip(data, data.sizes(), strict=True):
        assert sample.gt is not None and sample.domain == "tonemapped"
        assert sample.lq.shape == sample.gt.shape == (3, *size) == (3, 128, 128)
        for image in (sample.lq, sample.gt):
            assert image.dtype == torch.float32 and image.min() >= 0 and image.max() <= 1
            torch.testing.assert_close(image * 255, (image * 255).round())
        degraded.append(psnr(sample.lq, sample.gt))
    assert min(degraded) >= 19 and max(degraded) <= 28.5
    assert sum(degraded) / 8 == pytest.approx(24, abs=1)


def test_keys_are_unique_and_a_smaller_set_is_a_beginning() -> None:
    many, few = EmbeddedPairs(count=10, size=128), EmbeddedPairs(count=3, size=128)
    assert len(many) == 10 and len(set(many.keys())) == 10
    assert many.keys()[:3] == few.keys()
    assert torch.equal(many[2].lq, few[2].lq)
    assert len({key.split("_")[0] for key in many.keys()[:5]}) >= 4  # one photograph after the other
    corners: dict[str, list[tuple[int, int]]] = {}
    keys = EmbeddedPairs(count=20, size=96).keys()
    for key in keys:
        name, top, left = key.rsplit("_", 2)
        assert all(abs(int(top) - t) >= 96 or abs(int(left) - c) >= 96 for t, c in corners.get(name, []))
        corners.setdefault(name, []).append((int(top), int(left)))
    assert max(map(len, corners.values())) > 2


def test_another_display_gives_other_captures() -> None:
    sets = {psf: {sample.key: sample for sample in EmbeddedPairs(12, 96, psf)} for psf in ("phone", "phone_harsh")}
    shared = sets["phone"].keys() & sets["phone_harsh"].keys()
    assert shared
    for key in shared:  # one crop of one photograph behind two displays
        phone, harsh = (sets[psf][key] for psf in ("phone", "phone_harsh"))
        assert torch.equal(phone.gt, harsh.gt) and not torch.equal(phone.lq, harsh.lq)


def test_too_many_or_too_large_crops() -> None:
    with pytest.raises(UserError, match="lower"):
        EmbeddedPairs(count=1000, size=128)
    with pytest.raises(UserError, match="lower"):
        EmbeddedPairs(count=1, size=2000)
    with pytest.raises(UserError, match="does not exist"):
        EmbeddedPairs(count=1, psf="fone")


def test_a_changed_scene_goes_through_the_display_and_is_the_truth() -> None:
    data = EmbeddedPairs(count=2, size=96)
    same = data.of_changed_scene(1, _same)
    assert same.key == data[1].key and torch.equal(same.lq, data[1].lq) and torch.equal(same.gt, data[1].gt)
    dim, (lq, gt) = data.of_changed_scene(1, _dim), (data[1].lq, data[1].gt)
    light = 0.25 * gt / (1 - gt).clamp_min(1e-6)
    dark = gt < 0.9  # highlights are cut to 8 bits
    torch.testing.assert_close(dim.gt[dark], (light / 4 / (light / 4 + 0.25))[dark], atol=0.01, rtol=0)
    # The display is linear: of a quarter of the light a quarter arrives.
    captured = 0.25 * lq / (1 - lq).clamp_min(1e-6)
    seen = lq < 0.9
    torch.testing.assert_close(dim.lq[seen], (captured / 4 / (captured / 4 + 0.25))[seen], atol=0.01, rtol=0)


def _same(scene: torch.Tensor, source: str) -> torch.Tensor:
    return scene


def _dim(scene: torch.Tensor, source: str) -> torch.Tensor:
    assert source == "rocket.jpg"
    return scene / 4

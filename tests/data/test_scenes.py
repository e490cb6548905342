"""Pairs of a scene and its capture: where views lie, how hard they are, noise, borders and levels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from udc_robust.data import scenes
from udc_robust.data.pair_settings import PairSettings
from udc_robust.data.scenes import make_pair
from udc_robust.optics.capture import inverse_tone_map
from udc_robust.optics.psf import named_psf


def night(seed: int, height: int, width: int) -> torch.Tensor:
    """A dim scene (3,H,W) with lamps of radiance 100."""
    noise = torch.Generator().manual_seed(seed)
    scene = torch.rand(3, height // 8, width // 8, generator=noise).repeat_interleave(8, 1).repeat_interleave(8, 2)
    lamps = torch.rand(height, width, generator=noise) > 0.9995
    return torch.where(lamps, torch.tensor(100.0), scene * 0.6)


def test_make_pair_is_toned_and_on_8_bit_levels() -> None:
    scene = night(0, 64, 64) * 10
    lq, gt = make_pair(scene, named_psf("phone", 33))
    for image in (lq, gt):
        assert image.shape == (3, 64, 64) and image.min() >= 0 and image.max() <= 1
        torch.testing.assert_close(image * 255, (image * 255).round())
    _, exact = make_pair(scene, named_psf("phone", 33), round_8_bit=False)
    torch.testing.assert_close(inverse_tone_map(exact), scene.clamp(max=500), rtol=1e-3, atol=1e-4)
    assert scene.max() == 1000 and torch.equal(exact, scene.clamp(0, 500) / (scene.clamp(0, 500) + 0.25))
    assert make_pair(scene - 1, named_psf("phone", 33), round_8_bit=False)[1].min() == 0


def test_what_lies_beyond_the_border_is_as_told() -> None:
    scene, psf = torch.ones(3, 40, 40), named_psf("phone", 33)
    same, dark = (make_pair(scene, psf, edge=edge)[0] for edge in ("replicate", "zero"))
    assert torch.equal(same, torch.full_like(same, 204 / 255)) and dark[:, 0, 0].max() < 0.75


def test_a_point_display_changes_nothing() -> None:
    point = torch.zeros(3, 5, 5)
    point[:, 2, 2] = 1
    lq, gt = make_pair(night(0, 32, 32), point)
    torch.testing.assert_close(lq, gt, atol=1.01 / 255, rtol=0)


def test_noise_follows_its_generator() -> None:
    scene, psf = night(0, 32, 32), named_psf("phone", 33)
    first, again, other = (
        make_pair(scene, psf, read=0.05, generator=torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_crops_lie_everywhere_the_last_row_and_column_included() -> None:
    source, stream = night(0, 32, 40), torch.Generator().manual_seed(0)
    views = [scenes.draw_view(source, "hdr", 31, stream) for _ in range(60)]
    assert {place["top"] for _, place in views} == {0, 1} and {place["left"] for _, place in views} == set(range(10))
    for crop, place in views:
        assert torch.equal(crop, source[:, place["top"] : place["top"] + 31, place["left"] : place["left"] + 31])
    whole, place = scenes.draw_view(source, "hdr", 32, stream)
    assert whole.shape == (3, 32, 32) and place["top"] == 0


def test_panoramas_are_looked_at_all_round_and_not_far_from_the_horizon() -> None:
    panorama, stream = torch.rand(3, 16, 32), torch.Generator().manual_seed(0)
    views = [scenes.draw_view(panorama, "panorama", 96, stream)[1] for _ in range(100)]
    for angle, furthest in (("yaw", 180), ("pitch", 30)):
        drawn = [view[angle] for view in views]
        assert -furthest <= min(drawn) < -0.8 * furthest and 0.8 * furthest < max(drawn) <= furthest


def test_a_wide_view_shows_more_of_the_panorama_and_skips_no_pixel_of_it() -> None:
    stripes = torch.ones(3, 512, 1024)
    stripes[..., ::2] = 0  # as fine as the panorama can show
    place = {"yaw": 0.0, "pitch": 0.0}
    native, wide = (scenes.view_at(stripes, "panorama", 256, place | {"field_of_view": angle}) for angle in (90, 140))
    assert native.shape == wide.shape == (3, 256, 256)
    assert native[:, 120:136, 120:136].std() > 0.1  # stripes
    middle = wide[:, 120:136, 120:136]
    assert middle.std() < 0.1 and float(middle.mean()) == pytest.approx(0.5, abs=0.05)
    ramp = torch.linspace(0, 1, 1024).expand(3, 512, 1024)
    narrow = scenes.view_at(ramp, "panorama", 256, place | {"field_of_view": 45})
    assert float(narrow[0, 128, -1] - narrow[0, 128, 0]) == pytest.approx(45 / 360, abs=0.002)


def test_views_draw_their_angle_where_there_is_a_choice() -> None:
    panorama = torch.rand(3, 16, 32)

    def views(*angles: float) -> list[dict[str, float]]:
        stream = torch.Generator().manual_seed(0)
        range_ = [(angles[0], angles[1])] if angles else []
        return [scenes.draw_view(panorama, "panorama", 256, stream, *range_)[1] for _ in range(20)]

    assert views() == views(90, 90) and not any("field_of_view" in view for view in views())
    drawn = [view["field_of_view"] for view in views(60, 120)]
    assert 60 <= min(drawn) < 70 and 110 < max(drawn) <= 120
    assert {view["field_of_view"] for view in views(60, 60)} == {60}
    for angles in ((120, 60), (10, 60), (90, 179)):
        with pytest.raises(ValueError, match="field_of_view"):
            PairSettings(field_of_view=angles)
    with pytest.raises(ValueError, match="of panoramas"):
        PairSettings(kind="photo", field_of_view=(60, 90))


def test_a_panorama_of_native_size_is_left_and_a_larger_one_averaged(tmp_path: Path) -> None:
    small, fine = torch.rand(3, 512, 1024), torch.rand(3, 1024, 2048)
    assert scenes.at_native_size(small, tmp_path) is small
    torch.testing.assert_close(scenes.at_native_size(fine, tmp_path), torch.nn.functional.avg_pool2d(fine, 2))


def test_a_pair_is_drawn_until_it_is_as_hard_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = iter([30.0, 31.0, 22.0, 40.0])
    monkeypatch.setattr(scenes, "psnr", lambda lq, gt: torch.tensor([next(shown)]))
    point = torch.zeros(3, 1, 1).add(1)
    settings = PairSettings(kind="hdr", size=16, psfs=("a",), tries=3)
    drawn = scenes.draw_pair(night(0, 32, 32), {"a": point}, settings, torch.Generator().manual_seed(0))
    assert drawn.kept and drawn.view["degraded_psnr"] == 22.0 and drawn.lq.shape == (3, 16, 16)
    drawn = scenes.draw_pair(
        night(0, 32, 32), {"a": point}, settings.model_copy(update={"tries": 1}), torch.Generator().manual_seed(0)
    )
    assert not drawn.kept and drawn.view["degraded_psnr"] == 40.0


def test_a_drawn_pair_has_the_noise_the_border_and_the_display_that_it_names() -> None:
    point, box = torch.zeros(3, 5, 5), torch.full((3, 5, 5), 1 / 25)
    point[:, 2, 2] = 1

    def drawn(seed: int = 0, **changes: object) -> scenes.Drawn:
        settings = PairSettings.model_validate({"kind": "hdr", "size": 16, "tries": 1, **changes})
        stream = torch.Generator().manual_seed(seed)
        return scenes.draw_pair(torch.ones(3, 24, 24), {"point": point, "box": box}, settings, stream)

    noisy = drawn(psfs=["point"], shot=0.0064, read=0.06).lq
    assert float(inverse_tone_map(noisy).std()) == pytest.approx((0.0064 + 0.06**2) ** 0.5, rel=0.1)
    pairs = [drawn(seed, psfs=["point", "box"], edge="zero") for seed in range(8)]
    assert {pair.view["psf"] for pair in pairs} == {"point", "box"}
    for pair in pairs:
        assert bool(pair.lq[0, 0, 0] < 0.7) is (pair.view["psf"] == "box")  # the box sees darkness beyond the border

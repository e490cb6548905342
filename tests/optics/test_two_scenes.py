"""Two scenes, one capture: the formula, the model of the optics, and what a pair must keep to be a proof."""

from __future__ import annotations

import math

import pytest
import torch

from udc_robust.data.scenes import make_pair
from udc_robust.optics import two_scenes
from udc_robust.optics.capture import capture, inverse_tone_map, tone_map
from udc_robust.optics.two_scenes import HIGHLIGHT, View, Window, ceiling, held_pair, second_scenes, total_variation

EPS = 4 / 255
WINDOW = Window(5, 6, 16)


def _box(side: int) -> torch.Tensor:
    return torch.full((3, side, side), 1 / side**2)


def _scene(seed: int = 0, side: int = 40) -> torch.Tensor:
    toned = 0.2 + 0.5 * torch.rand(3, side, side, generator=torch.Generator().manual_seed(seed))
    return inverse_tone_map(toned)


def _with(scene: torch.Tensor, change: torch.Tensor, window: Window) -> torch.Tensor:
    other = scene.clone()
    window.of(other).copy_(inverse_tone_map(tone_map(window.of(scene)) + change))
    return other


def test_no_answer_beats_the_ceiling_and_the_mean_of_both_reaches_it() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 3, 8, 8, generator=generator, dtype=torch.float64)

    def psnr(answer: torch.Tensor) -> float:
        errors = [(answer - scene).square().mean() for scene in (first, second)]
        return float(-10 * torch.log10(sum(errors) / 2))

    best = ceiling(first, second)
    assert psnr((first + second) / 2) == pytest.approx(best)
    for answer in (first, second, *torch.rand(20, 3, 8, 8, generator=generator, dtype=torch.float64)):
        assert psnr(answer) < best
    assert ceiling(first, first) == math.inf
    assert ceiling(torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.2)) == pytest.approx(20)  # 0.04 / 4


@pytest.mark.parametrize("window", [WINDOW, Window(0, 24, 16)])
def test_a_view_is_the_optics(window) -> None:
    scene, psf = _scene(), _box(9)
    view = View(scene, psf, window)
    drawn = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    change = view.allowed(0.1 * drawn)
    for one in change:
        other = _with(scene, one, window)
        apart = tone_map(capture(other[None], psf)) - tone_map(capture(scene[None], psf))
        seen = view.capture_change(one[None])
        torch.testing.assert_close(seen.abs().sum(), apart.abs().sum(), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(view.inside(seen), window.of(apart), atol=1e-5, rtol=1e-4)
        rise = total_variation(tone_map(other)) - total_variation(tone_map(scene))
        torch.testing.assert_close(
            view.variation(one[None])[0] - view.variation(0 * one[None])[0], rise, atol=1e-2, rtol=1e-3
        )


@pytest.mark.parametrize("local_tries", [0, 200])
def test_what_is_found_keeps_the_capture_the_variation_and_the_highlights(local_tries, monkeypatch) -> None:
    monkeypatch.setattr(two_scenes, "_LOCAL_TRIES", local_tries)
    scene, psf = _scene(), _box(5)
    window = WINDOW
    window.of(scene)[:, 4:6, 4:6] = 100.0
    view = View(scene, psf, window)
    found = second_scenes(view, EPS, steps=60)
    before = tone_map(capture(scene[None], psf))
    sizes = found.square().flatten(1).mean(1)
    for change in found:
        assert (change[:, 4:6, 4:6] == 0).all() and (view.toned + change)[view.free].max() <= HIGHLIGHT + 1e-6
        after = tone_map(capture(_with(scene, change, window)[None], psf))
        assert (after - before).abs().max() <= 2 * EPS + 1e-5
    assert view.variation(found[:1]) <= view.variation(torch.zeros_like(found[:1]))
    if local_tries:
        assert sizes[0].sqrt() > 3 * EPS  # a shift of brightness would be 2 eps


def test_on_a_grid_changes_are_smooth() -> None:
    view = View(_scene(), _box(5), Window(4, 4, 32))
    found = second_scenes(view, EPS, steps=60, grid=8)
    assert found.shape[-1] == 32
    free = second_scenes(view, EPS, steps=60)
    for smooth, rough in zip(found[:1], free[:1], strict=True):
        roughness = [one.diff(dim=-1).diff(dim=-1).abs().mean() / one.abs().mean() for one in (smooth, rough)]
        assert roughness[0] < 0.3 * roughness[1] and smooth.abs().max() > 1.5 * EPS
    after = tone_map(capture(_with(_scene(), found[0], Window(4, 4, 32))[None], _box(5)))
    assert (after - tone_map(capture(_scene()[None], _box(5)))).abs().max() <= 2 * EPS + 1e-5


def test_further_starts_are_tried_too_and_the_best_are_climbed_from_again(monkeypatch) -> None:
    view, begun, climbed = View(_scene(), _box(5), WINDOW), [], two_scenes._climbed

    def spy(view, start, *about):
        begun.append(start)
        return climbed(view, start, *about)

    monkeypatch.setattr(two_scenes, "_climbed", spy)
    more = 0.05 * torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    found = second_scenes(view, EPS, steps=20, starts=more)
    assert [len(start) for start in begun] == [len(two_scenes._starts(view)) + 2, 2, 2]
    assert torch.equal(begun[0][-2:], more) and len(found) == 4
    # What a further climb ends at is no smaller than what it began with.
    assert found[0].square().mean() >= (begun[1][0] / two_scenes._LARGER).square().mean() - 1e-9


def test_the_largest_that_is_calm_comes_first() -> None:
    view = View(_scene(), _box(5), WINDOW)
    towards_grey = view.toned.mean() - view.toned
    signs = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(1)).sign()
    changes = torch.stack([0.2 * towards_grey, 0.3 * signs, 0.5 * towards_grey])
    still = view.variation(torch.zeros_like(changes))
    assert torch.equal(two_scenes._largest_first(view, changes, still), changes[[2, 0, 1]])


def test_without_a_blur_the_best_is_two_eps_at_every_value() -> None:
    """A display that changes nothing: the second scene lies 2 eps away, so nobody's RMSE is below eps on both."""
    scene = inverse_tone_map(torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2)
    psf = torch.zeros(3, 3, 3)
    psf[:, 1, 1] = 1
    view = View(scene, psf, Window(2, 2, 16))
    change = second_scenes(view, EPS, steps=200)[0]
    best = -20 * math.log10(EPS)
    assert best <= ceiling(view.toned, view.toned + change) < best + 0.5


def test_a_pair_is_no_proof_if_one_condition_fails() -> None:
    scene, psf, window = _scene(), _box(9), WINDOW
    first = make_pair(scene, psf)

    def held(other: torch.Tensor, most: float = 2 * EPS) -> bool:
        return held_pair(first, make_pair(other, psf), window, most)

    calm = _with(scene, 0.2 * (window.of(first[1]).mean() - tone_map(window.of(scene))), window)
    apart = (make_pair(calm, psf)[0] - first[0]).abs().max().item()
    assert 0 < apart <= 2 * EPS and held(calm) and held(calm, apart) and not held(calm, apart - 1 / 255)
    rough = torch.zeros(3, 16, 16)
    rough[:, ::2, ::2], rough[:, 1::2, 1::2] = 0.04, -0.04
    louder = _with(scene, rough, window)
    assert (make_pair(louder, psf)[0] - first[0]).abs().max() <= 2 * EPS and not held(louder)
    elsewhere = calm.clone()
    elsewhere[:, 30, 30] = scene[:, 30, 29]
    assert not held(elsewhere)

"""A photograph of a scene: its gradient, its levels, its chance, and where the camera stands."""

from __future__ import annotations

import pytest
import torch

from udc_robust.optics.capture import Blur, capture, convolve, tone_map
from udc_robust.optics.photograph import Exposure, Photograph, rounded, shifted


def _psf(side: int = 5) -> torch.Tensor:
    psf = torch.rand(3, side, side, dtype=torch.float64)
    return psf / psf.sum(dim=(1, 2), keepdim=True)


def test_the_gradient_is_that_of_finite_differences() -> None:
    camera = Photograph(Blur(_psf()), shot=1e-3, read=1e-2, bits=None, shift_px=1)
    scene = (0.2 + torch.rand(2, 3, 6, 7, dtype=torch.float64)).requires_grad_(True)
    exposure = Exposure(torch.randn(2, 3, 6, 7, dtype=torch.float64), torch.tensor([[0.3, -0.7], [0.0, 1.2]]).double())
    assert torch.autograd.gradcheck(lambda x: camera(x, exposure), scene)


def test_rounding_has_levels_and_the_gradient_of_the_identity() -> None:
    image = torch.rand(1, 3, 4, 4, requires_grad=True)
    levels = rounded(image, 10)
    torch.testing.assert_close(levels * 1023, torch.round(levels * 1023), atol=1e-3, rtol=0)
    assert (levels - image).abs().max() <= 0.5 / 1023 + 1e-6 and not torch.equal(levels, image)
    (gradient,) = torch.autograd.grad((3 * levels).sum(), image)
    torch.testing.assert_close(gradient, torch.full_like(image, 3.0))


def test_it_is_the_capture_that_sets_are_made_of() -> None:
    psf, scene = _psf().float(), 2 * torch.rand(1, 3, 8, 8)
    numbers = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    found, truth = Photograph(Blur(psf), shot=1e-3, read=1e-2)(scene, Exposure(numbers))
    theirs = capture(scene, psf, shot=1e-3, read=1e-2, generators=[torch.Generator().manual_seed(3)])
    torch.testing.assert_close(found, torch.round(tone_map(theirs) * 255) / 255)
    torch.testing.assert_close(truth, tone_map(scene))


@pytest.mark.parametrize("shift, expected", [((0.0, 1.0), (slice(None), slice(1, None))), ((-2.0, 0.0), None)])
def test_a_camera_that_moves_sees_the_scene_move_the_other_way(shift, expected) -> None:
    scene = torch.rand(1, 3, 5, 6)
    moved = shifted(scene, torch.tensor([shift]))
    if expected is not None:
        torch.testing.assert_close(moved[..., :-1], scene[..., 1:])
    else:
        torch.testing.assert_close(moved[..., 2:, :], scene[..., :-2, :])
        torch.testing.assert_close(moved[..., 0, :], scene[..., 0, :])  # the border stands for what is new


def test_to_move_the_scene_is_to_move_the_capture_away_from_the_border() -> None:
    psf, scene, shift = _psf(), torch.rand(1, 3, 20, 20, dtype=torch.float64), torch.tensor([[0.4, -0.6]]).double()
    first, second = convolve(shifted(scene, shift), psf), shifted(convolve(scene, psf), shift)
    torch.testing.assert_close(first[..., 4:-4, 4:-4], second[..., 4:-4, 4:-4])


def test_the_truth_is_what_a_camera_that_moved_looks_at() -> None:
    point, scene = torch.zeros(3, 3, 3), torch.rand(1, 3, 6, 7)
    point[:, 1, 1] = 1
    capture, truth = Photograph(Blur(point), bits=None)(scene, Exposure(shift=torch.tensor([[1.0, 0.0]])))
    torch.testing.assert_close(capture, truth)
    torch.testing.assert_close(truth[..., :-1, :], tone_map(scene[..., 1:, :]))


def test_only_noise_and_shifts_make_photographs_differ() -> None:
    assert not Photograph(Blur(_psf())).random
    assert Photograph(Blur(_psf()), read=0.1).random and Photograph(Blur(_psf()), shift_px=0.5).random


def test_one_blur_serves_scenes_of_several_sizes_and_types() -> None:
    psf = _psf()
    blur = Blur(psf)
    for scene in (torch.rand(1, 3, 9, 12), torch.rand(2, 3, 12, 9), torch.rand(1, 3, 9, 12, dtype=torch.float64)):
        assert torch.equal(blur(scene), convolve(scene, psf.to(scene)))

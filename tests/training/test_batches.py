"""Training crops: where they lie, how they are turned, and that what belongs together stays together."""

from __future__ import annotations

import pytest
import torch

from udc_robust.data.samples import Sample
from udc_robust.errors import UserError
from udc_robust.training.batches import CropBatches, NoisyBatches, PairBatches, SeededPairs


def _numbered(side: int = 5) -> torch.Tensor:
    """An image whose every value tells its place, in 8 bits."""
    return torch.arange(3 * side * side, dtype=torch.uint8).view(3, side, side)


def _upright(crop: torch.Tensor) -> list[torch.Tensor]:
    """A crop in all of its eight positions."""
    return [torch.rot90(image, turns, (-2, -1)) for image in (crop, crop.flip(-1)) for turns in range(4)]


def _crops(image: torch.Tensor, patch: int, steps: int = 100) -> list[torch.Tensor]:
    batches = CropBatches([(image,)], patch=patch, batch=1, steps=steps, seed=0)
    return [(batches[step][0][0] * 255).round().to(torch.uint8) for step in range(steps)]


def test_crops_lie_everywhere_and_in_all_eight_positions() -> None:
    image = _numbered()
    places = {
        (top, left, position): crop
        for top in (0, 1)
        for left in (0, 1)
        for position, crop in enumerate(_upright(image[:, top : top + 4, left : left + 4]))
    }
    met = [next(name for name, crop in places.items() if torch.equal(crop, drawn)) for drawn in _crops(image, 4, 200)]
    assert set(met) == set(places)  # the last row and column included


def test_a_crop_as_large_as_the_image_is_the_image() -> None:
    image = _numbered()
    assert all(any(torch.equal(crop, each) for each in _upright(image)) for crop in _crops(image, 5, 10))


def test_every_image_is_drawn() -> None:
    images = [(torch.full((3, 4, 4), level, dtype=torch.uint8),) for level in range(5)]
    batches = CropBatches(images, patch=4, batch=3, steps=20, seed=0)
    assert {int(row[0, 0, 0] * 255 + 0.5) for step in range(20) for row in batches[step][0]} == set(range(5))


def test_every_row_of_every_step_is_a_crop_of_its_own() -> None:
    image = torch.randint(256, (3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    batches = CropBatches([(image,)], patch=8, batch=6, steps=4, seed=0)
    assert len(torch.cat([batches[step][0] for step in range(4)]).flatten(1).unique(dim=0)) == 24


@pytest.mark.parametrize("kind", [PairBatches, SeededPairs])
def test_a_truth_is_cut_and_turned_with_its_capture(kind) -> None:
    images = torch.round(torch.rand(4, 3, 9, 12) * 255) / 255
    batches = kind(
        [Sample(str(i), image, image, "srgb", "") for i, image in enumerate(images)], patch=6, batch=4, steps=30, seed=2
    )
    for step in range(30):
        lq, gt = batches[step][:2]
        assert torch.equal(lq, gt) and lq.shape == (4, 3, 6, 6)
    assert not torch.equal(batches[0][0], batches[1][0])


def test_rows_of_all_steps_have_seeds_of_their_own() -> None:
    pairs = [Sample(str(i), torch.rand(3, 6, 6), torch.rand(3, 6, 6), "srgb", "") for i in range(4)]

    def seeds(**changes) -> list[list[int]]:
        batches = SeededPairs(pairs, **{"patch": 4, "batch": 4, "steps": 6, "seed": 1, **changes})
        return [batches[step][2].tolist() for step in range(6)]

    whole = seeds()
    assert len({seed for step in whole for seed in step}) == 24
    assert [step[1::2] for step in whole] == seeds(rank=1, ranks=2)
    assert not {seed for step in whole for seed in step} & {seed for step in seeds(seed=2) for seed in step}


def test_noisy_crops_are_the_crops_under_their_noise() -> None:
    image = torch.full((3, 6, 6), 0.8)  # 204 of 255
    alphas = torch.linspace(0.99, 0.2, 10)
    batches = NoisyBatches(
        [Sample("a", image, None, "srgb", "")], alphas, 4, patch=5, batch=16, steps=5, seed=0
    )  # fmt: skip
    levels = set()
    for step in range(5):
        x_t, t, noise = batches[step]
        levels |= set(t.tolist())
        alpha = alphas[t].view(-1, 1, 1, 1)
        assert torch.allclose(x_t, alpha.sqrt() * (204 / 127.5 - 1) + (1 - alpha).sqrt() * noise, atol=1e-6)
        assert abs(float(noise.mean())) < 0.1 and abs(float(noise.std()) - 1) < 0.1
    assert levels == {0, 1, 2, 3, 4}  # the highest level included


@pytest.mark.parametrize("kind", ["pairs", "noisy"])
def test_images_of_several_domains_and_beyond_white_are_refused(kind) -> None:
    def make(*samples: Sample) -> object:
        if kind == "pairs":
            return PairBatches(samples, patch=4, batch=1, steps=1, seed=0)
        return NoisyBatches(samples, torch.linspace(0.99, 0.2, 10), 4, patch=4, batch=1, steps=1, seed=0)

    def sample(domain: str, most: float = 1.0) -> Sample:
        image = torch.full((3, 4, 4), most)
        return Sample("it", image, image, domain, f"{domain}.png")

    make(sample("srgb"), sample("srgb", 1.0019))  # what rounding makes white
    with pytest.raises(UserError, match=r"tonemapped\.png is tonemapped, but srgb\.png is srgb"):
        make(sample("srgb"), sample("tonemapped"))
    with pytest.raises(UserError, match=r"linear\.png is linear light"):
        make(sample("srgb"), sample("linear"))
    for most in (1.01, -0.01):
        with pytest.raises(UserError, match=r"it holds values outside of \[0,1\]"):
            make(sample("srgb", most))


def test_what_cannot_be_cut_is_named() -> None:
    small = Sample("tiny", torch.rand(3, 4, 9), torch.rand(3, 4, 9), "srgb", "")
    with pytest.raises(UserError, match=r"tiny is \(4, 9\), smaller than patch_size 5"):
        PairBatches([small], patch=5, batch=1, steps=1, seed=0)
    assert len(PairBatches([small], patch=4, batch=1, steps=3, seed=0)) == 3
    with pytest.raises(UserError, match="tiny has no ground truth"):
        PairBatches([Sample("tiny", small.lq, None, "srgb", "")], patch=4, batch=1, steps=1, seed=0)
    with pytest.raises(UserError, match="batch_size 3 must be a multiple of the 2 processes"):
        CropBatches([(small.lq,)], patch=4, batch=3, steps=1, seed=0, ranks=2)

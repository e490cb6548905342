"""Night, highlights and whole photographs of the embedded images."""

from __future__ import annotations

import pytest
import torch

from udc_robust.data.embedded import EmbeddedPairs
from udc_robust.data.subjects import smaller, subject_of


def test_night_is_dark_with_lamps_and_highlights_are_bright_in_the_day() -> None:
    photo = torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(0)) * 0.6
    day, night, bright = (subject_of(photo, subject, "a.png") for subject in ("photographs", "night", "highlights"))
    assert torch.equal(day, photo)  # nothing in it is bright enough
    assert night.median() < 0.12 * day.median() and 2 <= night.max() <= 500
    assert torch.equal(subject_of(photo, "night", "a.png"), night)
    assert not torch.equal(subject_of(photo, "night", "b.png"), night)
    added = bright - day
    assert added.max() > 50 and (added > 0).any(0).float().mean() < 0.12 and bool((added >= 0).all())


def test_a_smaller_photograph_keeps_its_light() -> None:
    photo = torch.rand(3, 60, 90)
    assert smaller(photo, 20).shape == (3, 20, 30)
    assert smaller(photo, 20).mean() == pytest.approx(float(photo.mean()), rel=1e-4) and smaller(photo, 99) is photo


def test_whole_photographs_are_pairs_of_their_own_sizes() -> None:
    whole = EmbeddedPairs(2, 48, whole=True)
    assert whole.keys() == ["coffee", "motorcycle_left"] and whole.sizes()[0] == (48, 72)
    assert [tuple(sample.lq.shape[-2:]) for sample in (whole[0], whole[1])] == whole.sizes()
    night = EmbeddedPairs(1, 48, subject="night", whole=True)[0]
    assert night.gt is not None and night.gt.median() < 0.5 * whole[0].gt.median()
